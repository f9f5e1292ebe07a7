"""Files that break parsers: a sync reads each or records why it cannot, within its limits, and continues."""

from __future__ import annotations

import time
from pathlib import Path

import psutil

from resources.postgres.documents.documents import most_incomplete_documents
from tests.support.world import World

#: Parsing takes longer than the limit below.
PAGE = f"<html><body><h1>A page</h1>{'<p>Its text is read by a worker process.</p>' * 20_000}</body></html>"


def reason(world: World, key: str) -> str | None:
    return world.one("SELECT error_message FROM documents WHERE source_key = %s", key)


def test_a_document_over_a_limit_fails_alone_and_is_read_under_another(world: World) -> None:
    strict = world.configured(parse_seconds=0.005)
    world.write({"page.html": PAGE, "notes.md": "# Notes\n\nThese are read in this process."})
    world.add()
    assert strict.fill()["documents"] == {
        "inserted": 1,
        "replaced": 0,
        "deleted": 0,
        "kept": 0,
        "failed": 1,
    }
    assert "longer than 0.005 s" in (reason(world, "page.html") or "")
    # Recorded, and not tried again under the same limit.
    assert strict.fill()["documents"]["failed"] == 0
    assert world.fill()["documents"]["replaced"] == 1
    assert reason(world, "page.html") is None
    assert world.failed_checks() == {}


def test_documents_that_were_read_in_part_are_counted_and_listed(world: World) -> None:
    world.write(
        {"a.md": "# Whole\n\nAll of it was read.", "b.md": "# Part\n\nA share of it is missing."}
    )
    world.add()
    world.fill()
    lost = {"source_key": "b.md", "share": 0.12}
    world.connection.execute(
        """UPDATE documents SET metadata = metadata || jsonb_build_object('text_lost', %(share)s::float8)
           WHERE source_key = %(source_key)s""",
        lost,
    )
    result = world.run("sync_source")
    (metadata,) = (
        event.step_materialization_data.materialization.metadata
        for event in result.all_events
        if event.is_step_materialization
        and event.step_materialization_data.materialization.asset_key.path == ["documents"]
    )
    assert metadata["incomplete_documents"].value == 1
    assert most_incomplete_documents(world.connection, limit=5) == [("docs", "b.md", 0.12, 1)]


def test_each_hostile_file_is_read_or_fails_with_a_reason(world: World, shared_data: Path) -> None:
    root = shared_data / "hostile"
    # Without the merely large files, nine of ten chunks: another test parses them.
    files = sum(path.is_file() for path in root.rglob("*") if path.parent.name != "huge")
    world.folder.mkdir(parents=True, exist_ok=True)
    (world.folder / "docs").symlink_to(root)
    world.add(exclude=["huge/*"])
    started = time.monotonic()
    plan = world.fill()["documents"]
    # It takes 15 s on an idle machine.
    assert time.monotonic() - started < 120
    assert psutil.Process().memory_info().rss < 2 * 2**30
    assert plan["inserted"] + plan["failed"] == files
    assert plan["inserted"] >= 0.7 * files
    reasons = world.connection.execute(
        "SELECT source_key, error_message FROM documents WHERE processing_status = 'failed'"
    ).fetchall()
    assert len(reasons) == plan["failed"]
    for key, message in reasons:
        assert message and "Error" not in message and "\n" not in message, (key, message)
    failed = {key for key, _ in reasons}
    assert {key for key in failed if key.startswith(("archive", "pdf-encrypted"))} >= {
        "archive-bomb/droste.zip",
        "archive/multiple.gz",
        "pdf-encrypted/aes-256.pdf",
    }
    assert world.failed_checks() == {}
