"""Compaction: many small files become one, nothing is embedded again, and concurrent readers and writers continue."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rag_assets.ingestion import compaction, embed
from resources.embedding_files import EmbeddingReader, dense_rows
from resources.errors import StoreUnavailable
from resources.postgres.vectors.compaction import COMPACTION, count_live, plan_compaction
from tests.support.embedders import CountingEmbedder
from tests.support.operations import compact, finish_forgetting, repair, request_to_forget
from tests.support.stored import assert_consistent, embedded_texts, embedding_places, texts_of
from tests.support.texts import long_text
from tests.support.world import World


def read_vectors(world: World, places: dict[str, tuple[str, int]]) -> dict[str, bytes]:
    """text hash -> the bytes of its dense vector, read from its place."""
    reader = EmbeddingReader(world.resources["storage"].open(), "dense")
    return {
        text: dense_rows(reader.read(path, [row])).tobytes() for text, (path, row) in places.items()
    }


def files_on_disk(world: World) -> set[str]:
    root = Path(world.settings.storage_url)
    return {path.relative_to(root).as_posix() for path in root.glob("embeddings/**/*.*")}


@pytest.fixture
def synced(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """Several files of a few rows each; no chunk has the texts of one document any more."""
    monkeypatch.setattr(embed, "CALL_CHARS", 1_500)
    monkeypatch.setattr(embed, "FILE_BYTES", 1)
    world = world.configured(embedder="tests.support.embedders:CountingEmbedder")
    world.write({f"{n}.md": long_text(f"town {n}", 4) for n in range(5)})
    world.add()
    world.fill()
    world.connection.execute("DELETE FROM documents WHERE source_key = '1.md'")
    # They count as live for a month: the document may return.
    assert count_live(world.connection).live_share == 1
    world.connection.execute("UPDATE former_texts SET since = since - interval '31 days'")
    return world


def test_small_files_become_one_without_a_model_call(synced: World) -> None:
    world, texts = synced, CountingEmbedder.texts
    before, old = embedding_places(world), files_on_disk(world)
    live = texts_of(world)
    expected = read_vectors(world, before)
    assert len(old) > 3 and live < set(before)

    report = compact(world)

    after = embedding_places(world)
    assert set(after) == live
    assert len({path for path, _ in after.values()}) == 1
    assert read_vectors(world, after) == {text: expected[text] for text in live}
    # Readers that know the old places can still read them.
    assert read_vectors(world, before) == expected
    assert (
        report["files_before"] == report["files_compacted"] == report["files_waiting"] == len(old)
    )
    assert report["files_after"] == report["files_written"] == 1
    assert report["texts_dropped"] == len(before) - len(live)
    assert report["live_share_before"] == round(len(live) / len(before), 4)
    assert report["live_share"] == 1
    (new,) = files_on_disk(world) - old
    assert report["bytes_after"] == (Path(world.settings.storage_url) / new).stat().st_size
    assert not any(plan["inserted"] for plan in world.fill().values())
    assert CountingEmbedder.texts == texts
    assert_consistent(world)

    again = compact(world)
    assert again["files_compacted"] == again["files_written"] == again["texts_dropped"] == 0
    assert embedding_places(world) == after

    assert files_on_disk(world) == {*old, new}
    world.connection.execute("UPDATE embedding_files SET retired_at = retired_at - interval '25 h'")
    world.fill()
    assert files_on_disk(world) == {new}
    assert world.one("SELECT count(*) FROM embedding_files") == 1


def test_changes_during_a_compaction_are_kept(
    synced: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the copy and its record: an edit, a deletion, a repair that embeds a file again, and an erasure."""
    world = synced.configured(lock_timeout=0)
    write, erased = compaction.write_tables, set()
    lost = world.one("SELECT path FROM embedding_files ORDER BY created_at DESC LIMIT 1")

    def write_and_change(*arguments: Any) -> Any:
        written = write(*arguments)
        if not erased:
            erased.update(texts_of(world, "3.md"))
            world.write({"0.md": long_text("town 0", 5)})
            world.connection.execute("DELETE FROM documents WHERE source_key = '2.md'")
            (Path(world.settings.storage_url) / lost).unlink()
            repair(world)
            request_to_forget(world, "3.md")
            with pytest.raises(StoreUnavailable, match=COMPACTION):
                finish_forgetting(world, "3.md")
        return written

    monkeypatch.setattr(compaction, "write_tables", write_and_change)
    compact(world)
    # In the new file, and in those that it replaced.
    assert erased <= embedded_texts(world)
    assert finish_forgetting(world, "3.md")["verified"]
    assert not erased & embedded_texts(world)
    world.fill()
    assert_consistent(world)


def test_rewritten_files_are_small_or_mostly_dead_and_of_one_model(world: World) -> None:
    """With files of 64 bytes. A large live file and a single small one stay; a batch fills one file."""
    # (model, bytes, rows, live rows)
    files = [
        *(("a", 20, 10, 10) for _ in range(7)),
        ("a", 64, 10, 6),
        ("a", 64, 10, 4),
        ("a", 640, 10, 4),
        ("b", 8, 10, 10),
        ("c", 8, 10, 0),
        ("d", 32, 10, 10),
    ]
    world.connection.execute(
        """CREATE TEMPORARY TABLE file_counts AS SELECT n AS id, model AS model_fingerprint, '{dense}'::text[] AS kinds,
             now() + make_interval(secs => n) AS created_at, size AS byte_count, rows AS row_count, live, 0 AS dead,
             size * live / rows AS live_bytes
           FROM unnest(%s::text[], %s::bigint[], %s::int[], %s::bigint[]) WITH ORDINALITY
             AS listed(model, size, rows, live, n)""",
        [list(column) for column in zip(*files)],
    )
    plan_compaction(world.connection, target_bytes=64)
    rows = world.connection.execute(
        "SELECT array_agg(id ORDER BY made) FROM pg_temp.todo GROUP BY batch"
    )
    assert sorted(ids for (ids,) in rows) == [[1, 2, 3, 4], [5, 6, 7], [9], [10], [12]]
