"""Compaction: many small files become one, nothing is embedded again, and whoever reads or writes meanwhile goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rag_assets.assets import chunk_embeddings
from rag_assets.ingestion import compaction
from resources.embedding_files import EmbeddingReader, dense_rows
from resources.errors import StoreUnavailable
from resources.postgres.vectors.compaction import COMPACTION, count_live, plan_compaction
from tests.conftest import World
from tests.ingestion.test_sync import assert_equal, long_text
from tests.operations.test_erasure import ask, finish, stored_texts
from tests.support.embedders import CountingEmbedder


def compact(world: World) -> dict[str, Any]:
    """The metadata of a materialization."""
    result = world.run("compact_embeddings", None)
    (made,) = [event for event in result.all_events if event.is_step_materialization]
    metadata = made.step_materialization_data.materialization.metadata
    return {name: value.value for name, value in metadata.items()}


def places(world: World) -> dict[str, tuple[str, int]]:
    """text -> where its embedding is."""
    rows = world.connection.execute(
        """SELECT e.text_hash::text, f.path, e.row_index FROM embeddings e
           JOIN embedding_files f ON f.id = e.file_id"""
    )
    return {text: (path, row) for text, path, row in rows}


def vectors(world: World, at: dict[str, tuple[str, int]]) -> dict[str, bytes]:
    reader = EmbeddingReader(world.resources["storage"].open(), "dense")
    return {
        text: dense_rows(reader.read(path, [row])).tobytes() for text, (path, row) in at.items()
    }


def texts_of(world: World, key: str = "%") -> set[str]:
    rows = world.connection.execute(
        """SELECT c.text_hash::text FROM document_chunks c JOIN documents d ON d.id = c.document_id
           WHERE d.source_key LIKE %s""",
        [key],
    )
    return {text for (text,) in rows}


def on_disk(world: World) -> set[str]:
    root = Path(world.settings.storage_url)
    return {path.relative_to(root).as_posix() for path in root.glob("embeddings/**/*.*")}


@pytest.fixture
def synced(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """Several files of a few rows each; the texts of one document are no chunk's any more."""
    monkeypatch.setattr(chunk_embeddings, "CALL_CHARS", 1_500)
    monkeypatch.setattr(chunk_embeddings, "FILE_BYTES", 1)
    world = world.configured(embedder="tests.support.embedders:CountingEmbedder")
    world.write({f"{n}.md": long_text(f"town {n}", 4) for n in range(5)})
    world.add()
    world.sync()
    world.connection.execute("DELETE FROM documents WHERE source_key = '1.md'")
    assert count_live(world.connection).live_share == 1  # it may come back
    world.connection.execute("UPDATE former_texts SET since = since - interval '31 days'")
    return world


def test_small_files_become_one_without_a_model_call(synced: World) -> None:
    world, texts = synced, CountingEmbedder.texts
    before, old = places(world), on_disk(world)
    live = texts_of(world)
    expected = vectors(world, before)
    assert len(old) > 3 and live < set(before)

    report = compact(world)

    after = places(world)
    assert set(after) == live
    assert len({path for path, _ in after.values()}) == 1
    assert vectors(world, after) == {text: expected[text] for text in live}
    assert vectors(world, before) == expected  # for readers that know the old places
    assert (
        report["files_before"] == report["files_compacted"] == report["files_waiting"] == len(old)
    )
    assert report["files_after"] == report["files_written"] == 1
    assert report["texts_dropped"] == len(before) - len(live)
    assert report["live_share_before"] == round(len(live) / len(before), 4)
    assert report["live_share"] == 1
    (new,) = on_disk(world) - old
    assert report["bytes_after"] == (Path(world.settings.storage_url) / new).stat().st_size
    assert not any(plan["inserted"] for plan in world.sync().values())
    assert CountingEmbedder.texts == texts
    assert_equal(world)

    again = compact(world)
    assert again["files_compacted"] == again["files_written"] == again["texts_dropped"] == 0
    assert places(world) == after

    assert on_disk(world) == {*old, new}
    world.connection.execute("UPDATE embedding_files SET retired_at = retired_at - interval '25 h'")
    world.sync()
    assert on_disk(world) == {new}
    assert world.one("SELECT count(*) FROM embedding_files") == 1


def test_what_happens_during_a_compaction_is_kept(
    synced: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the copying and its record: an edit, a deletion, a repair that embeds a file again, and a forgetting."""
    world = synced.configured(lock_timeout=0)
    write, own = compaction.write_tables, set()
    lost = world.one("SELECT path FROM embedding_files ORDER BY created_at DESC LIMIT 1")

    def meanwhile(*arguments: Any) -> Any:
        written = write(*arguments)
        if not own:
            own.update(texts_of(world, "3.md"))
            world.write({"0.md": long_text("town 0", 5)})
            world.connection.execute("DELETE FROM documents WHERE source_key = '2.md'")
            (Path(world.settings.storage_url) / lost).unlink()
            world.run("repair_drift")
            ask(world, "3.md")
            with pytest.raises(StoreUnavailable, match=COMPACTION):
                finish(world, "3.md")
        return written

    monkeypatch.setattr(compaction, "write_tables", meanwhile)
    compact(world)
    assert own <= stored_texts(world)  # in the new file, and in those that it replaced
    assert finish(world, "3.md")["verified"]
    assert not own & stored_texts(world)
    world.sync()
    assert_equal(world)


def test_what_is_written_anew_is_small_or_mostly_dead_and_of_one_model(world: World) -> None:
    """Of 64 bytes: neither a large live file nor a single small one is; a batch fills one file."""
    files = [  # model, bytes, rows, live
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
             AS given(model, size, rows, live, n)""",
        [list(column) for column in zip(*files)],
    )
    plan_compaction(world.connection, target_bytes=64)
    rows = world.connection.execute(
        "SELECT array_agg(id ORDER BY made) FROM pg_temp.todo GROUP BY batch"
    )
    assert sorted(ids for (ids,) in rows) == [[1, 2, 3, 4], [5, 6, 7], [9], [10], [12]]
