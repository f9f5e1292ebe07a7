"""`rag check` as users and CI run it: JSON of the documented shape, every fault named, exit codes."""

from __future__ import annotations

import json
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg

from tests.support.rag import Rag

STAGES = ["source_documents", "documents", "document_chunks", "chunk_embeddings"]
VECTORS = ["dense_vectors", "multi_vectors", "sparse_vectors"]
CHECKS = {
    "files_are_as_read",
    "chunks_have_documents",
    "chunk_positions_are_contiguous",
    "statuses_agree",
    "deleted_chunks_have_left_milvus",
    "chunk_embeddings_are_in_parquet",
    "embedder_returns_known_vectors",
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
CHECK_KEYS = ["asset", "check", "partition", "passed", "applicable", "outcome", "severity", "description", "remedy",
              "command", "inconsistency", "metadata"]  # fmt: skip


def test_sources_are_checked_and_each_fault_is_named(rag: Rag, tmp_path: Path) -> None:
    """Two sources are added, ingested, damaged, checked, and removed. One life, since an ingest takes seconds."""
    names = ["one", "the other"]
    for name in names:
        folder = tmp_path / name
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
                    str(tmp_path / name),
                    "--set",
                    f"shards={names.index(name) + 1}",
                ),
                names,
            )
        )
    listed = {row["name"]: row for row in rag.json("sources", "list")["sources"]}
    assert set(listed) == {*names}
    assert listed["one"]["is_active"] is True
    assert listed["one"]["sync_status"] == "pending"

    # Without PATH: all active sources.
    reports = {report["source"]: report for report in rag.json("ingest")["sources"]}
    assert set(reports) == set(listed)
    assert reports["the other"]["partitions"] == ["the other/01-of-02", "the other/02-of-02"]
    inserted = {asset: plan["inserted"] for asset, plan in reports["the other"]["plan"].items()}
    assert inserted == {asset: int(asset != "multi_vectors") for asset in [*STAGES, *VECTORS]}
    assert rag.disagreements() == []

    checked = rag.json("check")
    assert list(checked) == ["schema", "passed", "summary", "checks", "inconsistencies"]
    assert checked["passed"] is True
    # Nothing is checked of `multi`, which is not kept.
    not_applicable = {item["check"] for item in checked["checks"] if not item["applicable"]}
    assert not_applicable == {check for check in CHECKS if check.startswith("multi")}
    assert checked["summary"] == {
        "could_not_be_run": 0,
        "failed": 0,
        "undetermined": 0,
        "passed": 34,
        "not_applicable": 10,
    }
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
    assert {item["metadata"].get("form") for item in quick["checks"]} == {"quick", None}
    assert [item["applicable"] for item in quick["checks"]] == [True, False, True]
    assert quick["passed"] is True
    assert "Last full comparison" in quick["checks"][0]["description"]
    assert "ago: consistent" in quick["checks"][0]["description"]
    last_checks = {item["source"]: item for item in rag.json("status")["checks"]}
    assert set(last_checks) == set(listed)
    assert {item["full"]["outcome"] for item in last_checks.values()} == {"passed"}
    assert last_checks["one"]["quick"]["outcome"] == "passed"
    assert last_checks["the other"]["quick"] is None
    _assert_that_undetermined_has_an_exit_code(rag)

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
    assert "docs/how-to/repair.md" in shown

    with rag.milvus() as client:
        # An orphan, which the removal of a source does not delete.
        client.delete("dense_collection", ids=[orphan])
    for name in names:
        _assert_removed_completely(rag, name)
    assert rag.json("sources", "list")["sources"] == []
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
        rag.ok("sources", "remove", name, "--yes")
        assert _chunks(connection, name) == []
        left = connection.execute(
            "SELECT (SELECT count(*) FROM vector_deletions) + (SELECT count(*) FROM documents WHERE id = ANY(%s))",
            [documents],
        )
        assert left.fetchall() == [(0,)]
        for kind in ("dense", "sparse"):
            ids = [f"{chunk}_{kind}" for chunk in chunks]
            assert client.get(f"{kind}_collection", ids, output_fields=["id"]) == []


def _assert_that_undetermined_has_an_exit_code(rag: Rag) -> None:
    # Its source is unknown, so no sample of a source can include it.
    stranger = f"{uuid.uuid4()}_dense"
    with rag.milvus() as client:
        rows = client.query("dense_collection", filter='id >= ""', output_fields=["*"], limit=1)
        row = client.get("dense_collection", [rows[0]["id"]], output_fields=["*", "vector"])[0]
        client.insert("dense_collection", [dict(row) | {"id": stranger, "source": "nowhere"}])
        try:
            done = rag("check", "--quick", "--source", "one")
            assert done.returncode == 3, done.stdout
            assert "3 checks: 1 undetermined, " in done.stdout
            # The full check finds it.
            done = rag("check", "--source", "one")
            assert done.returncode == 1
            assert "22 checks: 1 failed, 16 passed, 5 not applicable" in done.stdout
            # Without -v only what did not pass.
            assert "dense_vectors_match_postgres" in done.stdout
            assert "sparse_vectors_match_postgres" not in done.stdout
            assert "rag repair" in done.stdout and "  # one: dense_vectors" in done.stdout
            assert "Traceback" not in done.stdout + done.stderr
        finally:
            client.delete("dense_collection", ids=[stranger])
    assert rag("check", "--quick", "--source", "one").returncode == 0
