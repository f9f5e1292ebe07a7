"""`rag` as users and CI run it: JSON of the documented shape, exit codes, and one clear message per error.

Other commands have modules of their names.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.cli.wrong_input import UNREACHABLE, WRONG
from tests.support.rag import EXECUTABLE, Rag, deployment
from tests.support.reranking_server import reranking_server

STAGES = ["source_documents", "documents", "document_chunks", "chunk_embeddings"]
VECTORS = ["dense_vectors", "multi_vectors", "sparse_vectors"]

#: Long, with spaces and non-Latin scripts.
HOME = "ein langer Pfad mit Leerzeichen/" + "天文台のとても長い名前のフォルダ" * 4 + "/کاشانه"
#: Markup and emoji codes of the terminal library must stay text.
DOORS = "[b] :smile:.md"


@pytest.fixture(scope="module")
def rag() -> Iterator[Rag]:
    with deployment(HOME) as rag:
        rag.ok("up")
        yield rag


@pytest.fixture(scope="module")
def reports(rag: Rag, docs: Path) -> dict[str, dict[str, Any]]:
    """The reports of the first ingest, of `docs` and of `twins`, two near-duplicates."""
    (docs / DOORS).write_text("# Doors\n\nThe doors open at [red]eight[/red] :smile: sharp.\n")
    twins = docs.parent / "twins"
    twins.mkdir()
    text = " ".join(f"word{n * n % 997}" for n in range(300))
    (twins / "a.md").write_text(text)
    (twins / "b.md").write_text(text.replace("word16 ", "other "))
    done = rag.json("ingest", str(docs), str(twins))
    return {report["source"]: report for report in done["sources"]}


@pytest.fixture(scope="module")
def report(reports: dict[str, dict[str, Any]]) -> dict[str, Any]:
    return reports["docs"]


# The stack --------------------------------------------------------------------------------------------------------


def test_a_second_up_changes_nothing_and_closes_its_output(
    rag: Rag, postgres_url: str, milvus_uri: str
) -> None:
    before = rag.urls
    assert set(before) == {"postgres", "milvus", "valkey"}
    # Two deployments on one machine share nothing.
    assert {postgres_url, milvus_uri}.isdisjoint(before.values())
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
    assert list(status) == [
        *("schema", "home", "dagster_home", "postgres", "milvus", "valkey", "storage"),
        "embedder",
        *(
            "counts",
            "failed_documents",
            "incomplete_documents",
            "left_documents",
            "runs",
            "checks",
            "failing_sources",
        ),
    ]
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
    # A sync runs two checks of its own.
    assert [item["full"] for item in status["checks"]] == [None, None]
    assert (counts["multi"], counts["near_duplicates"]) == (0, 1)


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
    assert report["plan"]["documents"]["inserted"] == 3
    assert report["plan"]["dense_vectors"]["inserted"] >= 3
    assert list(report["seconds"]) == list(report["plan"])
    assert all(isinstance(seconds, float) for seconds in report["seconds"].values())
    assert report["failed_documents"] == [
        {"key": "empty.md", "step": "read", "reason": "the file is empty"}
    ]


def test_search_returns_the_documented_shape(rag: Rag, report: dict[str, Any]) -> None:
    question = "when does the observatory open"
    answer = rag.json("search", question, "--limit", "2")
    assert list(answer) == [
        *("schema", "query", "mode", "model", "took_ms", "exhausted", "reranked", "not_reranked"),
        *("min_score", "hidden", "best_hidden", "hits"),
    ]
    assert (answer["schema"], answer["query"], answer["mode"]) == (1, question, "hybrid")
    assert answer["model"] == rag.json("status")["embedder"]["fingerprint"]
    assert "stages" in rag.json("search", question, "--explain")
    hits = answer["hits"]
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
        "dense_score",
        "sparse_score",
        "rerank_score",
        "relevance",
        "passage",
        "passage_spans",
    ]
    passage = "The observatory opens at nine in the morning and closes at ten at night."
    assert hits[0]["passage"] == passage
    assert [passage[start:end] for start, end in hits[0]["passage_spans"]] == [
        "observatory",
        "opens",
    ]
    # A hybrid is ordered by relevance.
    assert 0.1 < hits[0]["score"] == hits[0]["relevance"] < 1 and 0 < hits[0]["dense_score"] < 1
    strict = rag.json("search", question, "--min-score", "1")
    assert (strict["hits"], strict["min_score"]) == ([], 1) and strict["hidden"] >= 1
    assert strict["best_hidden"] == hits[0]["relevance"]
    assert rag.json("search", question, "--radius", "0.99")["hits"] == []
    assert passage in " ".join(rag.ok("search", question, "--neighbors", "1").split())
    assert (hits[0]["source"], hits[0]["key"], hits[0]["language"]) == ("docs", "hours.md", "en")
    assert "observatory opens" in hits[0]["content"]
    uuid.UUID(hits[0]["chunk_id"])
    japanese = rag.json("search", "天文台の休館日", "--source", "docs", "--language", "ja")
    assert {hit["key"] for hit in japanese["hits"]} == {"時間.md"}


def test_search_reranks_and_keeps_its_order_if_the_reranker_fails(
    rag: Rag, report: dict[str, Any]
) -> None:
    question = ("search", "when does the observatory open", "--rerank")
    with reranking_server() as server:
        setup = {"RAG_RERANKER": "endpoint", "RAG_RERANKER_URL": server.url}
        setup |= {"RAG_RERANKER_MODEL": "ranker", "RAG_RERANKER_API_KEY": "hush"}
        done = rag(*question, **setup)
        assert re.search(
            r"; rerank \d+ ms over \d candidates; \d below --min-score 0.01 not shown\n$",
            done.stdout,
        ), done
        assert done.stderr == ""
        server.reply = lambda _: (500, {"error": "hush"})
        done = rag(*question, "--json", **setup)
    answer = json.loads(done.stdout)
    assert len(answer["hits"]) > 1 and not answer["reranked"]
    assert answer["not_reranked"].endswith("/v1/rerank: HTTP 500: ***")
    assert done.stderr == f"warning: not reranked: {answer['not_reranked']}\n"


def test_texts_are_embedded_again_only_with_consent(rag: Rag, report: dict[str, Any]) -> None:
    for file in (rag.home / "storage").rglob("*.parquet"):
        file.unlink()
    done = rag("rebuild", "parquet", "--source", "docs", "--json")
    assert done.returncode == 2, done.stdout
    with rag.sql() as connection:
        query = """SELECT count(*) FROM document_chunks c JOIN sources s ON s.id = c.source_uuid
                   WHERE s.name = 'docs'"""
        ((texts,),) = connection.execute(query).fetchall()
    assert texts >= 2 and f"{texts} texts again?" in done.stderr
    assert "rag rebuild parquet --source docs --yes --json" in done.stderr
    rebuilds = rag.json("rebuild", "parquet", "--yes")["rebuilds"]
    assert {entry["source"]: entry["embedded"] for entry in rebuilds}["docs"] == texts
    # Its documents are complete again after the next sync, in the test below.


def test_explain_shows_the_history_of_a_document_and_its_text_at_a_time(
    rag: Rag, docs: Path, report: dict[str, Any]
) -> None:
    with rag.sql() as connection:
        row = connection.execute("SELECT now()").fetchone()
    assert row is not None
    (docs / DOORS).unlink()
    rag.ok("ingest", "--source", "docs")
    explained = rag.json("explain", "docs/hours.md")
    assert list(explained) == [
        *(
            "schema",
            "document_id",
            "key",
            "source",
            "state",
            "entry",
            "left",
            "raw",
            "document",
            "reading",
        ),
        *("chunks", "vectors", "versions", "same_content", "near_duplicates", "runs"),
    ]
    assert explained["state"] == "current and searchable"
    output = rag.ok("explain", "hours.md")
    for part in (explained["document_id"], "utf-8", "no OCR", "dense_collection__", "sync_source"):
        assert part in output
    output = rag.ok("explain", DOORS)
    assert DOORS in output and "docs: deleted at " in output
    output = rag.ok("explain", DOORS, "--at", str(row[0]))
    assert "version 1, deleted" in output
    assert "open at [red]eight[/red] :smile: sharp." in output


def test_near_duplicates_are_listed_and_explained(
    rag: Rag, reports: dict[str, dict[str, Any]]
) -> None:
    (pair,) = rag.json("duplicates", "--source", "twins")["duplicates"]
    keys = ("source", "key", "other_source", "other_key")
    assert [pair[key] for key in keys] == ["twins", "b.md", "twins", "a.md"]
    assert 0.8 <= pair["similarity"] <= 1
    assert rag.json("duplicates", "--source", "docs")["duplicates"] == []
    assert "twins/a.md" in rag.ok("duplicates")
    (twin,) = rag.json("explain", "twins/a.md")["near_duplicates"]
    assert (twin["key"], twin["marked"]) == ("b.md", "other")
    assert "Near-duplicates" in rag.ok("explain", "twins/b.md")


def test_two_concurrent_ingests_of_one_source_both_succeed(rag: Rag, docs: Path) -> None:
    root = docs.parent / "twice"
    root.mkdir()
    for n in range(6):
        (root / f"{n}.md").write_text(f"# Hall {n}\n\nHall {n} keeps the telescope number {n}.\n")
    with ThreadPoolExecutor(2) as pool:
        ingests = list(pool.map(lambda _: rag("ingest", str(root)), range(2)))
    assert [ingest.returncode for ingest in ingests] == [0, 0], [i.stderr for i in ingests]
    assert rag.disagreements() == []
    with rag.sql() as connection:
        rows = connection.execute("SELECT count(*) FROM sources WHERE name = 'twice'").fetchall()
    assert rows == [(1,)]


# Wrong input ------------------------------------------------------------------------------------------------------


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
    assert done.returncode == (4 if case in UNREACHABLE else 2), done.stderr
    for part in WRONG[case][2]:
        assert part in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert "hush" not in done.stdout + done.stderr


def test_a_refused_command_changes_nothing(
    rag: Rag, refusals: dict[str, subprocess.CompletedProcess[str]]
) -> None:
    assert "x" not in {row["name"] for row in rag.json("sources", "list")["sources"]}


# The end ----------------------------------------------------------------------------------------------------------


def test_after_down_everything_is_still_there(rag: Rag, report: dict[str, Any]) -> None:
    before = rag.json("status")
    assert "milvus" in rag.ok("down")
    assert rag.urls == {}
    assert "nothing was running" in rag.ok("down")
    assert rag.json("status")["counts"] is None
    assert rag.urls == {}
    (hit,) = rag.json("search", "when does the observatory open", "-k", "1")["hits"]
    assert hit["key"] == "hours.md"
    assert rag.json("status")["counts"] == before["counts"]


def test_ctrl_c_ends_an_ingest_and_the_next_one_continues(rag: Rag, tmp_path: Path) -> None:
    folder = tmp_path / "interrupted"
    folder.mkdir()
    for n in range(30):
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
    (report,) = rag.json("ingest", str(folder))["sources"]
    assert report["failed_documents"] == []
