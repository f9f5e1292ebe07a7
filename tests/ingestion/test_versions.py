"""Versions of documents: which changes append one, whatever statement makes them; and the months of their table."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from psycopg.rows import dict_row

from resources.postgres.documents.versions import delete_versions, drop_months, make_months
from tests.support.world import World

TEXT = "# Hours\n\nThe observatory opens at nine in the morning.\n"


def versions(world: World) -> list[dict[str, Any]]:
    with world.connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute("SELECT * FROM document_versions ORDER BY valid_to").fetchall()


def current(world: World) -> dict[str, Any]:
    with world.connection.cursor(row_factory=dict_row) as cursor:
        document = cursor.execute("SELECT * FROM documents").fetchone()
    assert document is not None
    return document


def test_replaced_and_deleted_documents_are_kept_whole_with_the_runs_that_wrote_them(
    world: World,
) -> None:
    root = world.write({"a.md": TEXT})
    world.add()
    first = world.run("sync_source")
    world.fill()
    (root / "a.md").touch()
    world.fill()
    # Nothing was replaced.
    assert versions(world) == []
    one = current(world)
    assert one["version"] == 1
    runs = {one[f"{what}_run"] for what in ("parsed", "chunked", "indexed")}
    assert runs == {first.run_id}
    assert world.one("SELECT run FROM embedding_files") == first.run_id
    (root / "a.md").write_text(TEXT.replace("nine", "eight"))
    second = world.run("sync_source")
    two = current(world)
    assert (two["version"], two["parsed_run"]) == (2, second.run_id)
    (root / "a.md").unlink()
    (root / "b.md").write_text(TEXT)
    third = world.run("sync_source", ops={"source_documents": {"accept_deletions": True}})
    old, deleted = versions(world)
    shared = old.keys() & one.keys()
    assert {
        "title",
        "content",
        "raw_hash",
        "chunk_count",
        "indexing_status",
        "parsed_run",
    } <= shared
    assert {name: old[name] for name in shared} == {name: one[name] for name in shared}
    assert (old["ended_by"], old["ended_run"]) == ("replaced", second.run_id)
    assert old["valid_from"] == one["created_at"]
    assert old["valid_to"] == two["versioned_at"] == deleted["valid_from"]
    assert (deleted["ended_by"], deleted["ended_run"]) == ("deleted", third.run_id)
    assert (deleted["version"], "eight" in deleted["content"]) == (2, True)


def test_edits_by_hand_append_versions_and_changes_of_status_do_not(world: World) -> None:
    world.write({"a.md": TEXT})
    world.add()
    world.fill()
    for assignment in ("title = 'By hand'", "tags = '{x}'", "language = 'de'", "author = 'Me'"):
        world.connection.execute(f"UPDATE documents SET {assignment}".encode())
    world.connection.execute("UPDATE documents SET title = title, updated_at = now()")
    world.connection.execute("UPDATE documents SET indexing_status = 'pending'")
    world.fill()
    rows = versions(world)
    assert [row["version"] for row in rows] == [1, 2, 3, 4]
    assert [row["title"] for row in rows] == ["Hours", "By hand", "By hand", "By hand"]
    assert all(row["ended_run"] is None for row in rows)
    assert all(row["valid_to"] <= later["valid_from"] for row, later in pairwise(rows))
    assert current(world)["version"] == 5


def test_the_history_of_a_removed_source_stays(world: World) -> None:
    world.write({"a.md": TEXT, "b.md": TEXT})
    world.add()
    world.fill()
    world.connection.execute("DELETE FROM sources")
    assert {(row["source_key"], row["ended_by"]) for row in versions(world)} == {
        ("a.md", "deleted"),
        ("b.md", "deleted"),
    }
    document = versions(world)[0]["document_id"]
    assert delete_versions(world.connection, document) == (1, 0)
    assert len(versions(world)) == 1


def test_months_are_created_once_take_their_rows_from_the_default_and_are_dropped_whole(
    world: World,
) -> None:
    connection = world.connection
    assert make_months(connection) == make_months(connection)
    assert len(set(make_months(connection))) == 3
    world.write({"a.md": TEXT})
    world.add()
    world.fill()
    connection.execute("UPDATE documents SET title = 'x'")
    connection.execute(
        """INSERT INTO document_versions SELECT (jsonb_populate_record(v, jsonb_build_object('valid_to', t))).*
           FROM document_versions v, unnest(%s::timestamptz[]) AS t""",
        [[datetime(2001, 5, 31, 23, 59, 59, tzinfo=UTC), datetime(2001, 6, 1, tzinfo=UTC)]],
    )
    # An insert without a month never fails.
    assert world.one("SELECT count(*) FROM document_versions_default") == 2
    try:
        for zone in ("UTC", "Asia/Tokyo"):
            connection.execute(f"SET TIME ZONE '{zone}'".encode())
            name = world.one("SELECT create_document_versions_month('2001-05-07')")
            assert name == "document_versions_2001_05"
        assert world.one("SELECT count(*) FROM document_versions_2001_05") == 1
        assert world.one("SELECT count(*) FROM document_versions_default") == 1
        keep = (datetime.now(UTC) - datetime(2001, 6, 1, tzinfo=UTC)).days
        assert drop_months(connection, keep + 1) == []
        assert world.one("SELECT count(*) FROM document_versions") == 3
        assert drop_months(connection, keep - 1) == ["document_versions_2001_05"]
        assert world.one("SELECT count(*) FROM document_versions") == 1
    finally:
        connection.execute("SET TIME ZONE 'UTC'")
        connection.execute("DROP TABLE IF EXISTS document_versions_2001_05")


def test_the_job_creates_the_months_and_deletes_old_unreferenced_raw_files(world: World) -> None:
    world.write({"a.md": "First.", "b.md": "It stays."})
    world.add()
    world.fill()
    world.write({"a.md": "Second."})
    world.fill()
    folder = Path(world.settings.storage_url) / "raw"
    kept = set(folder.rglob("*"))
    (folder / "ab").mkdir(exist_ok=True)
    whole, half, young = (folder / "ab" / ("ab" * 32 + end) for end in ("", ".1234abcd.tmp", "0"))
    for path in (whole, half, young):
        path.write_text("Written by a sync that was killed before it recorded it.")
    for path in {*folder.rglob("*")} - {young}:
        os.utime(path, (0, 0))
    result = world.run("keep_history", None)
    assert len(result.output_for_node("turn_months")["months"]) == 3
    assert result.output_for_node("sweep_raw_files") == 2
    assert set(folder.rglob("*")) == kept | {folder / "ab", young}
