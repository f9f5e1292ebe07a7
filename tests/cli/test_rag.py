"""`rag` as users and CI run it: JSON of the documented shape, exit codes, and one clear message per error.

One stack for the module, in a home folder whose path is long and contains spaces and non-Latin scripts.
"""

from __future__ import annotations

import json
import signal
import subprocess
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.support.rag import EXECUTABLE, Rag, deployment

HOME = "ein langer Pfad mit Leerzeichen/" + "天文台のとても長い名前のフォルダ" * 4 + "/کاشانه"
STAGES = ["source_documents", "documents", "document_chunks", "chunk_embeddings"]
VECTORS = ["dense_vectors", "multi_vectors", "sparse_vectors"]
CHECKS = {
    "chunks_have_documents",
    "chunk_positions_are_contiguous",
    "statuses_agree",
    "deleted_chunks_have_left_milvus",
    "chunk_embeddings_are_in_parquet",
    *(
        f"{kind}_{fact}"
        for kind in ("dense", "sparse", "multi")
        for fact in (
            "vectors_match_postgres",
            "vectors_are_sound",
            "vectors_are_found_by_search",
            "index_is_as_declared",
            "alias_points_to_current_model",
        )
    ),
}
INCONSISTENCIES = ["orphaned_chunks", "missing_vectors", "status_mismatches", "index_issues"]
CHECK_KEYS = ["asset", "check", "partition", "passed", "outcome", "severity", "description", "remedy",
              "command", "inconsistency", "metadata"]  # fmt: skip


@pytest.fixture(scope="module")
def rag() -> Iterator[Rag]:
    with deployment(HOME) as rag:
        rag.ok("up")
        yield rag


@pytest.fixture(scope="module")
def docs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("files") / "docs"
    root.mkdir()
    (root / "hours.md").write_text(
        "# Opening hours\n\nThe observatory opens at nine in the morning and closes at ten at night.\n"
    )
    (root / "時間.md").write_text(
        "# 開館時間\n\n天文台は午前九時に開館し、夜十時に閉館します。月曜日は休館日です。\n"
    )
    (root / "empty.md").write_text("")
    return root


@pytest.fixture(scope="module")
def report(rag: Rag, docs: Path) -> dict[str, Any]:
    return rag.json("ingest", str(docs))


# The stack --------------------------------------------------------------------------------------------------------


def test_a_second_up_changes_nothing_and_closes_its_output(rag: Rag) -> None:
    before = rag.urls
    assert set(before) == {"postgres", "milvus"}
    process = subprocess.run(
        f"'{EXECUTABLE}' up | cat",
        shell=True,
        env=rag.environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert before["milvus"] in process.stdout
    # On one line, whatever its length.
    assert str(rag.home) in process.stdout
    assert rag.urls == before


def test_status_shows_the_stores_and_their_contents(rag: Rag, report: dict[str, Any]) -> None:
    status = rag.json("status")
    assert set(status) == {"home", "postgres", "milvus", "storage", "embedder", "counts", "checks"}
    assert status["home"] == str(rag.home)
    assert set(status["embedder"]) == {"name", "fingerprint", "vectors"}
    assert status["embedder"]["name"] == "lexical"
    assert len(status["embedder"]["fingerprint"]) == 12
    with rag.sql() as connection:
        chunks = connection.execute("SELECT count(*) FROM document_chunks").fetchall()[0][0]
    assert chunks >= 2
    counts = status["counts"]
    assert list(counts) == [
        "sources",
        "documents",
        "chunks",
        "embeddings",
        "dense",
        "sparse",
        "multi",
        "near_duplicates",
    ]
    assert counts["chunks"] == counts["dense"] == counts["sparse"] == chunks
    assert counts["multi"] == counts["near_duplicates"] == 0


def test_status_shows_no_secret(rag: Rag, report: dict[str, Any]) -> None:
    done = rag(
        "status",
        "--json",
        RAG_POSTGRES_URL=rag.urls["postgres"].replace("postgres@", "postgres:hush-1@"),
        RAG_MILVUS_URI="http://root:hush-2@127.0.0.1:1",
        RAG_MILVUS_TOKEN="hush-3",
        RAG_STORAGE_URL="s3://key:hush-4@bucket/folder?secret_key=hush-5",
        RAG_EMBEDDER="openai",
        RAG_VECTORS="dense",
        # Unreachable, so the number of dimensions is unknown.
        RAG_OPENAI_BASE_URL="http://127.0.0.1:1/v1",
        RAG_OPENAI_MODEL="model",
        RAG_OPENAI_API_KEY="hush-6",
    )
    assert done.returncode == 0, done.stderr
    assert "hush" not in done.stdout + done.stderr
    status = json.loads(done.stdout)
    assert status["milvus"] == "http://root:***@127.0.0.1:1"
    assert status["embedder"] == {"name": "openai", "fingerprint": None, "vectors": ["dense"]}


def test_status_starts_nothing_and_is_quick(tmp_path: Path) -> None:
    rag = Rag(tmp_path / "not there")
    seconds = []
    for _ in range(2):
        started = time.monotonic()
        status = rag.json("status")
        seconds.append(time.monotonic() - started)
        assert status["postgres"] is None
        assert status["milvus"] is None
        assert status["counts"] is None
    assert not rag.home.exists()
    # 0.9 s on an idle machine with 2 cores.
    assert min(seconds) < 2


# Ingest and search ------------------------------------------------------------------------------------------------


def test_ingest_reports_in_the_documented_shape(report: dict[str, Any]) -> None:
    assert list(report) == ["source", "partitions", "plan", "seconds", "failed_documents"]
    assert report["source"] == "docs"
    assert report["partitions"] == ["docs"]
    assert list(report["plan"]) == [*STAGES, *VECTORS]
    for plan in report["plan"].values():
        assert list(plan) == ["inserted", "replaced", "deleted", "kept", "failed"]
        assert all(isinstance(count, int) for count in plan.values())
    assert report["plan"]["documents"]["inserted"] == 2
    assert report["plan"]["dense_vectors"]["inserted"] >= 2
    assert list(report["seconds"]) == list(report["plan"])
    assert all(isinstance(seconds, float) for seconds in report["seconds"].values())
    assert report["failed_documents"] == [{"key": "empty.md", "reason": "the file is empty"}]


def test_search_returns_the_documented_shape(rag: Rag, report: dict[str, Any]) -> None:
    hits = rag.json("search", "when does the observatory open", "-k", "2")
    assert [hit["rank"] for hit in hits] == [1, 2]
    assert list(hits[0]) == [
        "rank",
        "score",
        "chunk_id",
        "document_id",
        "title",
        "section_title",
        "position",
        "source",
        "key",
        "language",
        "content",
        "url",
        "chunk_type",
        "page",
        "also_in",
        "before",
        "after",
        "section",
    ]
    assert (hits[0]["source"], hits[0]["key"], hits[0]["language"]) == ("docs", "hours.md", "en")
    assert "observatory opens" in hits[0]["content"]
    uuid.UUID(hits[0]["chunk_id"])
    japanese = rag.json("search", "天文台の休館日", "--source", "docs", "--language", "ja")
    assert {hit["key"] for hit in japanese} == {"時間.md"}


def test_explain_shows_the_history_of_a_document_and_its_text_at_a_time(
    rag: Rag, docs: Path, report: dict[str, Any]
) -> None:
    # Markup and emoji codes of the terminal library must stay text.
    name = "[b] :smile:.md"
    (docs / name).write_text("# Doors\n\nThe doors open at [red]eight[/red] :smile: sharp.\n")
    rag.ok("ingest", "--name", "docs")
    with rag.sql() as connection:
        row = connection.execute("SELECT now()").fetchone()
    assert row is not None
    (docs / name).unlink()
    rag.ok("ingest", "--name", "docs")
    explained = rag.json("explain", "docs/hours.md")
    assert list(explained) == [
        *("document_id", "key", "source", "state", "entry", "raw", "document", "reading"),
        *("chunks", "vectors", "versions", "near_duplicates", "runs"),
    ]
    assert explained["state"] == "current and searchable"
    output = rag.ok("explain", "hours.md")
    for part in (explained["document_id"], "utf-8", "no OCR", "dense_collection__", "sync_source"):
        assert part in output
    output = rag.ok("explain", name)
    assert name in output and "docs: deleted at " in output
    output = rag.ok("explain", name, "--at", str(row[0]))
    assert "version 1, deleted" in output
    assert "open at [red]eight[/red] :smile: sharp." in output


def test_near_duplicates_are_listed_and_explained(rag: Rag, tmp_path: Path) -> None:
    folder = tmp_path / "twins"
    folder.mkdir()
    text = " ".join(f"word{n * n % 997}" for n in range(300))
    (folder / "a.md").write_text(text)
    (folder / "b.md").write_text(text.replace("word16 ", "other "))
    rag.ok("ingest", str(folder))
    try:
        (pair,) = rag.json("duplicates", "--source", "twins")
        keys = ("source", "key", "other_source", "other_key")
        assert [pair[key] for key in keys] == ["twins", "b.md", "twins", "a.md"]
        assert 0.8 <= pair["similarity"] <= 1
        assert rag.json("duplicates", "--source", "docs") == []
        assert "twins/a.md" in rag.ok("duplicates")
        assert rag.json("status")["counts"]["near_duplicates"] == 1
        (twin,) = rag.json("explain", "twins/a.md")["near_duplicates"]
        assert (twin["key"], twin["marked"]) == ("b.md", "other")
        assert "Near-duplicates" in rag.ok("explain", "twins/b.md")
    finally:
        rag.ok("sources", "remove", "twins")


# Sources and checks -----------------------------------------------------------------------------------------------


def test_sources_are_checked_and_each_fault_is_named(
    rag: Rag, docs: Path, report: dict[str, Any]
) -> None:
    """Two sources are added, ingested together with all others, damaged in two ways each, checked, and removed."""
    names = ["one", "the other"]
    for name in names:
        folder = docs.parent / name
        folder.mkdir()
        (folder / "a.md").write_text(f"# {name}\n\nThis text is of the source {name} alone.\n")
    with ThreadPoolExecutor(2) as pool:
        list(
            pool.map(
                lambda name: rag.ok(
                    "sources",
                    "add",
                    name,
                    "--path",
                    str(docs.parent / name),
                    "--set",
                    f"shards={len(name) // 4 + 1}",
                ),
                names,
            )
        )
    listed = {row["name"]: row for row in rag.json("sources", "list")}
    assert set(listed) == {"docs", *names}
    assert listed["one"]["is_active"] is True
    assert listed["one"]["sync_status"] == "pending"

    # Without PATH: all active sources. One that fails does not stop the others in its run.
    (docs.parent / "one").rename(docs.parent / "away")
    done = rag("ingest", "--json")
    assert done.returncode == 1
    reports = {report["source"]: report for report in json.loads(done.stdout)}
    assert set(reports) == set(listed)
    assert [name for name in reports if reports[name].get("errors")] == ["one"]
    assert reports["the other"]["partitions"] == [f"the other/0{n}-of-03" for n in (1, 2, 3)]
    inserted = {asset: plan["inserted"] for asset, plan in reports["the other"]["plan"].items()}
    assert inserted == {asset: int(asset != "multi_vectors") for asset in [*STAGES, *VECTORS]}
    (docs.parent / "away").rename(docs.parent / "one")
    rag.ok("ingest", "--name", "one")
    assert rag.disagreements() == []

    checked = rag.json("check")
    assert list(checked) == ["passed", "checks", "inconsistencies"]
    assert checked["passed"] is True
    assert checked["inconsistencies"] == {kind: [] for kind in INCONSISTENCIES}
    assert {(item["partition"], item["check"]) for item in checked["checks"]} == {
        (source, check) for source in listed for check in CHECKS
    }
    assert all(
        list(item) == CHECK_KEYS and (item["outcome"], item["remedy"]) == ("passed", None)
        for item in checked["checks"]
    )

    quick = rag.json("check", "--quick", "--source", "one")
    assert [item["check"] for item in quick["checks"]] == [
        f"{kind}_vectors_sample_matches_postgres" for kind in ("dense", "multi", "sparse")
    ]
    assert all(item["metadata"]["form"] == "quick" for item in quick["checks"])
    assert "Last full comparison" in quick["checks"][0]["description"]
    assert "ago: consistent" in quick["checks"][0]["description"]
    last_checks = {item["source"]: item for item in rag.json("status")["checks"]}
    assert set(last_checks) == set(listed)
    assert {item["full"]["outcome"] for item in last_checks.values()} == {"passed"}
    assert last_checks["one"]["quick"]["outcome"] == "passed"
    assert last_checks["docs"]["quick"] is None

    orphan = _damage(rag)
    done = rag("check", "--json")
    assert done.returncode == 1
    report_of_faults = json.loads(done.stdout)
    failed = {
        (item["partition"], item["check"]): item
        for item in report_of_faults["checks"]
        if not item["passed"]
    }
    assert set(failed) == {
        ("one", "dense_vectors_match_postgres"),
        ("one", "statuses_agree"),
        ("the other", "dense_vectors_match_postgres"),
        ("the other", "sparse_vectors_match_postgres"),
    }
    drift = failed["one", "dense_vectors_match_postgres"]["metadata"]
    assert (drift["verdict"], drift["missing"], drift["orphaned"]) == ("drifted", 1, 0)
    assert drift["evidence"][0]["document"] == "a.md"
    drift = failed["the other", "dense_vectors_match_postgres"]["metadata"]
    assert (drift["verdict"], drift["missing"], drift["orphaned"]) == ("drifted", 0, 1)
    unwritten = failed["the other", "sparse_vectors_match_postgres"]["description"]
    assert "1 chunks are not acknowledged" in unwritten
    assert all(item["severity"] == "ERROR" for item in failed.values())
    assert all(
        (item["outcome"], item["remedy"]) == ("failed", "repair") for item in failed.values()
    )
    assert (
        failed["the other", "dense_vectors_match_postgres"]["command"]
        == "rag repair --source 'the other'"
    )
    kinds = {
        kind: {(item["source"], item["check"], item["ids"]) for item in items}
        for kind, items in report_of_faults["inconsistencies"].items()
    }
    assert kinds == {
        "orphaned_chunks": {("the other", "dense_vectors_match_postgres", 1)},
        "missing_vectors": {
            ("one", "dense_vectors_match_postgres", 1),
            ("the other", "sparse_vectors_match_postgres", 1),
        },
        "status_mismatches": {("one", "statuses_agree", 1)},
        "index_issues": set(),
    }
    (mismatch,) = report_of_faults["inconsistencies"]["status_mismatches"]
    assert list(mismatch) == ["source", "check", "outcome", "sentence", "remedy", "command", "ids"]
    assert all(source in item["description"] for (source, _), item in failed.items())

    done = rag("check", "--source", "one")
    assert done.returncode == 1
    assert "20 checks, 2 failed" in done.stdout
    assert "rag repair --source one  # one: " in done.stdout
    assert "Traceback" not in done.stdout + done.stderr

    # As after three repairs.
    with rag.sql() as connection:
        connection.execute("UPDATE check_results SET repairs = 3 WHERE outcome = 'failed'")
    (one,) = [item for item in rag.json("status")["checks"] if item["source"] == "one"]
    assert one["full"]["outcome"] == "failed"
    assert {
        (item["check"], item["gave_up"], item["remedy"], item["command"], item["inconsistency"])
        for item in one["open"]
    } == {
        (
            "dense_vectors_match_postgres",
            True,
            "repair",
            "rag repair --source one",
            "missing_vectors",
        ),
        ("statuses_agree", True, "repair", "rag repair --source one", "status_mismatches"),
    }
    shown = rag.ok("status")
    assert "one: statuses_agree fails after 3 repairs" in shown
    assert "docs/operations.md" in shown

    with rag.milvus() as client:
        # An orphan, which the removal of a source does not delete.
        client.delete("dense_collection", ids=[orphan])
    for name in names:
        _assert_removed_completely(rag, name)
    assert [row["name"] for row in rag.json("sources", "list")] == ["docs"]
    # The embedding files of the removed sources contain no text of a chunk any more.
    plan = rag.json("compact", "--dry-run")
    compacted = rag.json("compact")
    assert plan["dry_run"] and plan["texts_dropped"] == compacted["texts_dropped"] > 0
    assert plan["files_compacted"] == compacted["files_compacted"] > 1
    assert compacted["files_waiting"] == compacted["files_compacted"]
    assert plan["files_after"] == compacted["files_after"]


def _chunks(connection: psycopg.Connection, source: str) -> list[str]:
    rows = connection.execute(
        """SELECT c.id::text FROM document_chunks c JOIN sources s ON s.id = c.source_uuid
           WHERE s.name = %s""",
        [source],
    )
    return [chunk for (chunk,) in rows]


def _damage(rag: Rag) -> str:
    """Damage both sources. Returns the id of the orphan."""
    orphan = f"{uuid.uuid4()}_dense"
    with rag.milvus() as client, rag.sql() as connection:
        (one,), (other,) = _chunks(connection, "one"), _chunks(connection, "the other")
        client.delete("dense_collection", ids=[f"{one}_dense"])
        connection.execute(
            """UPDATE documents SET indexing_status = 'indexing' WHERE id =
               (SELECT document_id FROM document_chunks WHERE id = %s)""",
            [one],
        )
        row = client.get("dense_collection", [f"{other}_dense"], output_fields=["*", "vector"])[0]
        client.insert("dense_collection", [dict(row) | {"id": orphan}])
        connection.execute(
            "DELETE FROM vector_rows WHERE chunk_id = %s AND collection LIKE 'sparse%%'", [other]
        )
    return orphan


def _assert_removed_completely(rag: Rag, name: str) -> None:
    with rag.sql() as connection, rag.milvus() as client:
        chunks = _chunks(connection, name)
        documents = [
            row[0]
            for row in connection.execute(
                "SELECT document_id FROM document_chunks WHERE id::text = ANY(%s)", [chunks]
            )
        ]
        assert documents
        rag.ok("sources", "remove", name)
        assert _chunks(connection, name) == []
        left = connection.execute(
            "SELECT (SELECT count(*) FROM vector_deletions) + (SELECT count(*) FROM documents WHERE id = ANY(%s))",
            [documents],
        )
        assert left.fetchall() == [(0,)]
        for kind in ("dense", "sparse"):
            ids = [f"{chunk}_{kind}" for chunk in chunks]
            assert client.get(f"{kind}_collection", ids, output_fields=["id"]) == []


def test_an_undetermined_check_has_its_own_exit_code(
    rag: Rag, docs: Path, report: dict[str, Any]
) -> None:
    # Its source is unknown, so no sample of a source can include it.
    stranger = f"{uuid.uuid4()}_dense"
    with rag.milvus() as client:
        rows = client.query("dense_collection", filter='id >= ""', output_fields=["*"], limit=1)
        row = client.get("dense_collection", [rows[0]["id"]], output_fields=["*", "vector"])[0]
        client.insert("dense_collection", [dict(row) | {"id": stranger, "source": "nowhere"}])
        try:
            done = rag("check", "--quick", "--source", "docs")
            assert done.returncode == 3, done.stdout
            assert "3 checks, 1 undetermined" in done.stdout
            # The full check finds it.
            assert rag("check", "--source", "docs").returncode == 1
        finally:
            client.delete("dense_collection", ids=[stranger])
    assert rag("check", "--quick", "--source", "docs").returncode == 0


def test_two_concurrent_ingests_of_one_source_both_succeed(rag: Rag, docs: Path) -> None:
    root = docs.parent / "twice"
    root.mkdir()
    for n in range(20):
        (root / f"{n}.md").write_text(f"# Hall {n}\n\nHall {n} keeps the telescope number {n}.\n")
    processes = [rag.start("ingest", str(root)) for _ in range(2)]
    outputs = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert rag.disagreements() == []
    with rag.sql() as connection:
        rows = connection.execute("SELECT count(*) FROM sources WHERE name = 'twice'").fetchall()
    assert rows == [(1,)]


# Wrong input ------------------------------------------------------------------------------------------------------

#: name -> (arguments, variables, parts of the message)
WRONG: dict[str, tuple[list[str], dict[str, str], list[str]]] = {
    "missing folder": (["ingest", "/no/such/folder"], {}, ["/no/such/folder is not a folder"]),
    "ingest language": (
        ["ingest", "DOCS", "--name", "x", "--language", "jap"],
        {},
        ["language", "'jap'"],
    ),
    "ingest unknown source": (["ingest", "--name", "nobody"], {}, ["'nobody'", "known: "]),
    "ingest another folder's name": (
        ["ingest", "PARENT", "--name", "docs"],
        {},
        ["'docs'", "--name"],
    ),
    "search language": (["search", "x", "--language", "jap"], {}, ["language", "'jap'"]),
    "search mode": (["search", "x", "--mode", "psychic"], {}, ["psychic", "hybrid"]),
    "search mode not kept": (["search", "x", "--mode", "multi"], {}, ["multi", "RAG_VECTORS"]),
    "search k": (["search", "x", "-k", "0"], {}, ["k: expected 1 to 100, found 0"]),
    "search labels": (
        [
            "search",
            "x",
            "--tag",
            "a",
            "--tag",
            "",
            "--category",
            "",
            "--author",
            "",
            "--chunk-type",
            "",
        ],
        {},
        [f"{name}: expected text" for name in ("tags", "category", "author", "chunk_type")],
    ),
    "search blank": (["search", "  "], {}, ["text", "blank"]),
    "search unknown source": (["search", "x", "--source", "nobody"], {}, ["'nobody'"]),
    "check unknown source": (["check", "--source", "nobody"], {}, ["'nobody'", "known: "]),
    "explain unknown key": (["explain", "hour.md"], {}, ["'hour.md'", "Perhaps: docs/hours.md"]),
    "explain unknown source": (["explain", "x", "--source", "nobody"], {}, ["'nobody'"]),
    "explain at": (
        ["explain", "hours.md", "--at", "noon"],
        {},
        ["--at: expected a time such as", "'noon'"],
    ),
    "explain too early": (
        ["explain", "hours.md", "--at", "2001-01-01"],
        {},
        ["hours.md was not there at 2001-01-01", "until now"],
    ),
    "duplicates of an unknown source": (["duplicates", "--source", "nobody"], {}, ["'nobody'"]),
    "remove unknown source": (["sources", "remove", "nobody"], {}, ["'nobody'"]),
    "source name": (["sources", "add", 'a"b/c', "--path", "DOCS"], {}, ["cannot name a source"]),
    "source schedule": (
        ["sources", "add", "x", "--path", "DOCS", "--schedule", "often"],
        {},
        ["schedule: expected a cron", "'often'"],
    ),
    "source twice": (["sources", "add", "docs", "--path", "DOCS"], {}, ["'docs' already"]),
    "RAG_VECTORS": (["search", "x"], {"RAG_VECTORS": "dens"}, ["RAG_VECTORS", "dense, sparse"]),
    "RAG_EMBEDDER": (["search", "x"], {"RAG_EMBEDDER": "word2vec"}, ["word2vec", "lexical"]),
    "RAG_EMBEDDER class": (["search", "x"], {"RAG_EMBEDDER": "no.module:C"}, ["no.module:C"]),
    "two variables": (
        ["status"],
        {"RAG_SEARCH_LIMIT": "0", "RAG_VECTORS": "x"},
        ["RAG_SEARCH_LIMIT", "RAG_VECTORS"],
    ),
    "PostgreSQL down": (
        ["search", "x"],
        {"RAG_POSTGRES_URL": "postgresql://u:hush@127.0.0.1:1/x"},
        ["PostgreSQL does not answer"],
    ),
    "PostgreSQL down at up": (
        ["up"],
        {"RAG_POSTGRES_URL": "postgresql://u:hush@127.0.0.1:1/x"},
        ["PostgreSQL does not answer"],
    ),
    "PostgreSQL down at status": (
        ["status"],
        {"RAG_POSTGRES_URL": "postgresql://u:hush@127.0.0.1:1/x"},
        ["PostgreSQL does not answer"],
    ),
    "PostgreSQL without a URL": (
        ["up"],
        {"RAG_POSTGRES_URL": "u:hush@host/x"},
        ["postgresql://user:password@host:port/database"],
    ),
    "Milvus down": (
        ["search", "x"],
        {"RAG_MILVUS_URI": "http://127.0.0.1:1"},
        ["Milvus at http://127.0.0.1:1"],
    ),
    "Milvus down at check": (
        ["check", "--source", "docs"],
        {"RAG_MILVUS_URI": "http://127.0.0.1:1"},
        ["dense_vectors_match_postgres could not be run", "Milvus at http://127.0.0.1:1"],
    ),
}


@pytest.fixture(scope="module")
def refusals(
    rag: Rag, docs: Path, report: dict[str, Any]
) -> dict[str, subprocess.CompletedProcess[str]]:
    """The results of all wrong commands, run two at a time: each takes a second to start."""
    places = {"DOCS": str(docs), "PARENT": str(docs.parent)}

    def refused(case: str) -> subprocess.CompletedProcess[str]:
        arguments, variables, _ = WRONG[case]
        return rag(*(places.get(argument, argument) for argument in arguments), **variables)

    with ThreadPoolExecutor(2) as pool:
        return dict(zip(WRONG, pool.map(refused, WRONG)))


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input_is_reported_in_one_message(
    refusals: dict[str, subprocess.CompletedProcess[str]], case: str
) -> None:
    done = refusals[case]
    assert done.returncode != 0
    for part in WRONG[case][2]:
        assert part in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert "hush" not in done.stdout + done.stderr


def test_a_refused_command_changes_nothing(
    rag: Rag, refusals: dict[str, subprocess.CompletedProcess[str]]
) -> None:
    assert "x" not in {row["name"] for row in rag.json("sources", "list")}


# The end ----------------------------------------------------------------------------------------------------------


def test_after_down_everything_is_still_there(rag: Rag, report: dict[str, Any]) -> None:
    before = rag.json("status")
    assert "milvus" in rag.ok("down")
    assert rag.urls == {}
    assert "nothing was running" in rag.ok("down")
    assert rag.json("status")["counts"] is None
    assert rag.urls == {}
    assert rag.json("search", "when does the observatory open", "-k", "1")[0]["key"] == "hours.md"
    assert rag.json("status")["counts"] == before["counts"]


def test_ctrl_c_ends_an_ingest_and_the_next_one_continues(rag: Rag, tmp_path: Path) -> None:
    folder = tmp_path / "interrupted"
    folder.mkdir()
    for n in range(300):
        text = "\n\n".join(
            f"Paragraph {p} of file {n} tells of hall {n * p} and its clock. " * 6
            for p in range(20)
        )
        (folder / f"{n}.md").write_text(f"# File {n}\n\n{text}\n")
    process = rag.start("ingest", str(folder))
    with rag.sql() as connection:
        query = "SELECT count(*) FROM documents d JOIN sources s ON s.id = d.source_uuid WHERE s.name = 'interrupted'"
        deadline = time.monotonic() + 60
        while connection.execute(query).fetchone() == (0,) and time.monotonic() < deadline:
            time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "Interrupted" in output
    assert "Traceback" not in output
    assert rag.json("ingest", str(folder))["failed_documents"] == []
