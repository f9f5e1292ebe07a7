"""`rag ingest` and `rag sources remove`: plans before a sync, a dead source among others, and what a removal takes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.rag import Rag

#: Nobody listens there: a connection is refused at once, which a retry may help.
DEAD = (
    "postgresql://nobody@127.0.0.1:1/x",
    *("--set", "query=SELECT 1", "--set", "key=a", "--set", "text=b"),
)
SHARED = "The dome of the observatory turns once a night, and the clock beside it never stops.\n"


@pytest.fixture
def rag(rag: Rag) -> Rag:
    rag.empty()
    return rag


def write(folder: Path, **texts: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name, text in texts.items():
        (folder / f"{name}.md").write_text(text)
    return folder


def plan(rag: Rag, *arguments: str) -> dict[str, Any]:
    """Return source -> the documents of its dry run."""
    sources = rag.json("ingest", "--dry-run", *arguments)["sources"]
    return {report["source"]: report["documents"] for report in sources}


def counts(inserted: int = 0, replaced: int = 0, deleted: int = 0, kept: int = 0) -> dict[str, int]:
    return {"inserted": inserted, "replaced": replaced, "deleted": deleted, "kept": kept}


def test_a_dry_run_counts_documents_and_writes_nothing(rag: Rag, tmp_path: Path) -> None:
    tides = write(tmp_path / "tides", a="# Low tide\n\nAt six.\n", b="# High tide\n\nAt noon.\n")
    notes = write(tmp_path / "notes", one="# One\n\nA note.\n", two="# Two\n\nA note.\n")
    targets = (str(tides), str(notes / "one.md"))
    assert plan(rag, *targets) == {"tides": counts(inserted=2), "notes": counts(inserted=1)}
    assert rag.json("sources", "list")["sources"] == []

    done = rag("ingest", *targets)
    assert done.returncode == 0, done.stderr
    assert "Source notes reads only one.md" in done.stderr
    (tides / "a.md").write_text("# Low tide\n\nAt seven.\n")
    (tides / "b.md").unlink()
    write(tides, c="# Spring tide\n\nAfter a new moon.\n")
    changed = counts(inserted=1, replaced=1, deleted=1)
    assert plan(rag) == {"tides": changed, "notes": counts(kept=1)}
    write(notes, **{".hidden": "# Hidden\n\nA note.\n"})
    assert plan(rag, str(notes / ".hidden.md")) == {"notes": counts(inserted=1, kept=1)}
    done = rag("ingest", "--dry-run", str(tmp_path), "--source", "notes", "--exclude", "x")
    assert done.returncode == 2 and "--exclude: only for new sources" in done.stderr
    (tides / "sub").mkdir()
    (tides / "c.md").rename(tides / "sub" / "c.md")
    # A part of a source is ingested with it.
    done = rag("ingest", str(tides / "sub"), "--json")
    assert done.returncode == 0 and "is a part of source tides" in done.stderr
    (report,) = json.loads(done.stdout)["sources"]
    # The chunk of b.md went with its document; that of a.md was replaced.
    assert report["plan"]["documents"]["deleted"] == 1
    assert report["plan"]["document_chunks"]["deleted"] == 2
    empty = write(tmp_path / "empty")
    assert (
        "rag sources show empty"
        in rag.json("ingest", "--dry-run", str(empty))["sources"][0]["hint"]
    )
    assert plan(rag) == {"tides": counts(kept=2), "notes": counts(kept=1)}

    # Without anything to do there is no run: of a source in shards as of any other.
    runs = "SELECT count(*) FROM dagster.runs"
    rag.ok("sources", "change", "tides", "--set", "shards=2")
    with rag.sql() as connection:
        before = connection.execute(runs).fetchone()
        assert rag.ok("ingest") == (
            "notes: nothing to do, 1 document\ntides: nothing to do, 2 documents\n"
        )
        assert connection.execute(runs).fetchone() == before
        write(notes, two="# Two\n\nAnother note.\n")
        reports = rag.json("ingest", "tides", str(notes / "two.md"))["sources"]
        assert [report["source"] for report in reports] == ["tides", "notes"]
        assert [report["plan"]["documents"] for report in reports] == [
            counts(kept=2) | {"failed": 0},
            counts(inserted=1, kept=1) | {"failed": 0},
        ]
        assert len(reports[0]["partitions"]) == 2
        (notes / "two.md").unlink()
        rag.ok("ingest", "notes", "--quiet")
        started = connection.execute("SELECT count(*) - %s FROM dagster.runs", before).fetchone()
        assert started == (2,)

    # A sync would stop, and so would its script.
    for path in tides.rglob("*.md"):
        path.unlink()
    done = rag("ingest", "tides", "--dry-run", "--json")
    assert done.returncode == 1
    (report,) = json.loads(done.stdout)["sources"]
    assert report["documents"] == counts(deleted=2) and "--accept-deletions" in report["error"]
    assert plan(rag, "tides", "--accept-deletions") == {"tides": counts(deleted=2)}


def test_a_dead_source_neither_stops_nor_delays_the_others_and_removals_count_what_goes(
    rag: Rag, tmp_path: Path
) -> None:
    first = write(tmp_path / "first", a=SHARED, b="# Lamps\n\nRed lamps keep the night vision.\n")
    last = write(tmp_path / "last", a=SHARED)
    rag.ok("sources", "add", "first", str(first))
    # Dagster orders the partitions by name: the dead source is between the others.
    rag.ok("sources", "add", "gone", *DEAD)
    rag.ok("sources", "add", "last", str(last))
    done = rag("ingest", "--json", RAG_RETRY_DELAY="0")
    assert done.returncode == 1
    reports = {report["source"]: report for report in json.loads(done.stdout)["sources"]}
    assert reports["first"]["plan"]["dense_vectors"]["inserted"] == 2
    assert reports["last"]["plan"]["dense_vectors"]["inserted"] == 1
    assert [name for name, report in reports.items() if "errors" in report] == ["gone"]
    assert reports["gone"]["plan"] == {}
    with rag.sql() as connection:
        rows = connection.execute(
            """SELECT dagster_event_type, run_id, partition FROM dagster.event_logs
               WHERE dagster_event_type IN ('ASSET_MATERIALIZATION', 'STEP_UP_FOR_RETRY') ORDER BY id"""
        ).fetchall()
        tags = connection.execute(
            """SELECT DISTINCT t.key, t.value FROM dagster.run_tags t JOIN dagster.event_logs e USING (run_id)
               WHERE e.dagster_event_type = 'STEP_UP_FOR_RETRY'"""
        ).fetchall()
    # The retries came after everything else was done, in a run of the dead source alone.
    kinds = [kind for kind, _, _ in rows]
    retried = kinds.index("STEP_UP_FOR_RETRY")
    assert {"first", "last"} <= {partition for _, _, partition in rows[:retried]}
    assert "ASSET_MATERIALIZATION" not in kinds[retried:]
    expected = {
        "dagster/partition": "gone",
        "dagster/max_retries": "0",
        "rag/command": "ingest --json",
    }
    assert dict(tags) | expected == dict(tags)
    # No table without rows stands above the reason.
    done = rag("ingest", "gone", RAG_RETRY_DELAY="0")
    assert done.returncode == 1
    assert done.stdout == "" and "source_documents failed: " in done.stderr

    # The shared text stays in Parquet for the other source.
    going = {"documents": 2, "chunks": 2, "embeddings": 1, "sets": 0}
    going |= {"vectors": {"dense": 2, "sparse": 2}}
    dry = rag.json("sources", "remove", "first", "--dry-run")
    assert dry == {"schema": 1, "source": "first", "removed": False, **going}
    done = rag("sources", "remove", "first")
    assert done.returncode == 2
    assert "2 documents, 2 chunks, 2 dense vectors, 2 sparse vectors" in done.stderr
    assert "rag sources remove first --yes" in done.stderr
    assert rag.json("sources", "remove", "first", "--yes") == dry | {"removed": True}
    assert [row["name"] for row in rag.json("sources", "list")["sources"]] == ["gone", "last"]
    assert rag.disagreements() == []
