"""Files that break parsers: a sync reads each or records why it cannot, within its limits, and continues."""

from __future__ import annotations

import time
from pathlib import Path

import psutil
import pytest

from resources.postgres.documents.documents import most_incomplete_documents
from tests.support.extent import only_in_soak
from tests.support.world import World

#: Parsing takes longer than the limit below.
PAGE = f"<html><body><h1>A page</h1>{'<p>Its text is read by a worker process.</p>' * 3_000}</body></html>"


def reason(world: World, key: str) -> str | None:
    return world.one("SELECT error_message FROM documents WHERE source_key = %s", key)


def test_a_document_over_a_limit_fails_alone_and_is_read_under_another(world: World) -> None:
    strict = world.configured(parse_seconds=0.001)
    world.write({"page.html": PAGE, "notes.md": "# Notes\n\nThese are read in this process."})
    world.add()
    assert strict.fill()["documents"] == {
        "inserted": 1,
        "replaced": 0,
        "deleted": 0,
        "kept": 0,
        "failed": 1,
    }
    assert "longer than 0.001 s" in (reason(world, "page.html") or "")
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
    (documents,) = world.run("sync_source").asset_materializations_for_node("documents")
    assert documents.metadata["incomplete_documents"].value == 1
    assert most_incomplete_documents(world.connection, limit=5) == [("docs", "b.md", 0.12, 1)]


@pytest.mark.parametrize("share", [5, *only_in_soak(1)])
def test_each_hostile_file_is_read_or_fails_with_a_reason(
    world: World, shared_data: Path, share: int
) -> None:
    """One of so many files of each kind, at least one, and those named below."""
    root = shared_data / "hostile"
    named = {"archive-bomb/droste.zip", "archive/multiple.gz", "pdf-encrypted/aes-256.pdf"}
    # Without the merely large files, nine of ten chunks: another test parses them.
    kinds = sorted(path for path in root.iterdir() if path.is_dir() and path.name != "huge")
    paths = {root / key for key in named}.union(
        *(sorted(path for path in kind.rglob("*") if path.is_file())[::share] for kind in kinds)
    )
    for path in paths:
        copy = world.folder / "docs" / path.relative_to(root)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    files = len(paths)
    world.add()
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
    assert {key for key in failed if key.startswith(("archive", "pdf-encrypted"))} >= named
    assert world.failed_checks() == {}
