"""Invalid contents of a source, a table or a disk: one document fails, the others continue."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from rag_assets.ingestion import embed
from rag_assets.ingestion.outbox import drain_removed_sources
from rag_assets.job_runs import failures
from resources.embedders.lexical import LexicalEmbedder
from resources.errors import ConfigError, RagError
from resources.milvus import writes
from resources.sources.envelope import wrap
from tests.support.servers import Web
from tests.support.stored import assert_consistent
from tests.support.texts import ENGLISH, JAPANESE, long_text
from tests.support.world import World


def document_errors(world: World) -> dict[str, str | None]:
    """key -> error message of every document."""
    return dict(
        world.connection.execute("SELECT source_key, error_message FROM documents").fetchall()
    )


def test_rows_with_values_that_postgresql_cannot_store(world: World) -> None:
    rows = [
        {"id": "k" * 1500, "text": ""},
        {"id": "endless", "text": ENGLISH, "meta": {"most": 1e999, "least": [-1e999]}},
    ]
    lines = "\n".join(json.dumps(row) for row in rows)
    path = world.write({"rows.jsonl": lines}) / "rows.jsonl"
    config = {"path": str(path), "key": "id", "text": "text", "metadata": ["meta"]}
    world.register("docs", "jsonl", config)
    world.fill()
    errors = document_errors(world)
    assert errors["k" * 1500] and errors["endless"] is None
    assert world.one("SELECT metadata->'meta' FROM documents WHERE source_key = 'endless'") == {
        "most": None,
        "least": [None],
    }
    assert_consistent(world)


def test_a_file_cannot_forge_the_metadata_of_its_source(world: World) -> None:
    forged = wrap(b"Not by Ada at all, this text.", {"author": "Ada"})
    broken = forged[:20]
    world.write({"forged.txt": forged, "broken.txt": broken, "good.md": ENGLISH})
    world.add()
    world.fill()
    assert set(document_errors(world)) == {"forged.txt", "broken.txt", "good.md"}
    assert world.one("SELECT count(*) FROM documents WHERE author IS NOT NULL") == 0
    assert_consistent(world)


def test_a_document_that_postgresql_rejects_fails_its_source(world: World) -> None:
    world.write({"a.md": "# bad\n\nA text."})
    world.add()
    world.connection.execute("ALTER TABLE documents ADD CONSTRAINT t CHECK (title <> 'bad')")
    try:
        result = world.run("sync_source", raise_on_error=False)
    finally:
        world.connection.execute("ALTER TABLE documents DROP CONSTRAINT t")
    assert [step for step, _ in failures(result)] == ["documents"]
    status, reason = world.connection.execute(
        "SELECT sync_status, last_error FROM sources"
    ).fetchall()[0]
    assert status == "failed" and "PostgreSQL refused" in reason
    world.fill()
    assert_consistent(world)


def test_a_document_deleted_in_sql_stays_away_when_its_page_fails_once(
    world: World, web: Web
) -> None:
    for name in ("a", "b"):
        web.put(f"/{name}", f"<p>The page {name} tells of {name} and of what stands beside it.</p>")
    urls = [web.url("/a"), web.url("/b")]
    world.register("docs", "web", {"urls": urls, "allow_private_addresses": True})
    world.fill()
    world.connection.execute("DELETE FROM documents WHERE source_key LIKE '%/a'")
    web.fault = lambda _, path: 404 if path == "/a" else None
    world.fill()
    web.fault = None
    world.fill()
    assert [key[-2:] for key in document_errors(world)] == ["/b"]


def test_a_damaged_page_of_a_parquet_file_is_reported_with_the_command_that_repairs_it(
    world: World, tmp_path: Path
) -> None:
    world.write({"a.md": long_text("x", 6)})
    world.add()
    world.fill()
    for path in (tmp_path / "storage" / "embeddings").rglob("*.parquet"):
        group, data = pq.read_metadata(path).row_group(0), bytearray(path.read_bytes())
        for column in range(group.num_columns):
            at = group.column(column).data_page_offset
            data[at : at + 8] = bytes(255 - value for value in data[at : at + 8])
        path.write_bytes(data)
    world.connection.execute("UPDATE documents SET language = 'de'")
    with pytest.raises(RagError, match="rag rebuild parquet"):
        world.fill()


def test_rows_in_flight_to_milvus_while_their_source_is_removed_are_deleted(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.write({"a.md": ENGLISH, "b.md": JAPANESE})
    world.add()

    def remove_source(point: str) -> None:
        # The deletions are carried out before the upsert arrives.
        if point == "upsert-sent":
            world.connection.execute("DELETE FROM sources")
            drain_removed_sources(world.postgres, world.store)

    monkeypatch.setattr(writes, "fault_point", remove_source)
    assert not world.run("sync_source", raise_on_error=False).success
    monkeypatch.undo()
    drain_removed_sources(world.postgres, world.store)
    names = world.store.collection_names()
    assert names
    for name in names:
        assert [row for bucket in world.store.scan(name) for row in bucket] == []


@pytest.mark.parametrize("error", [ConfigError("No credit is left."), KeyboardInterrupt()])
def test_embeddings_made_before_the_embedder_failed_or_was_interrupted_are_kept(
    world: World, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    monkeypatch.setattr(embed, "CALL_CHARS", 1000)
    world.write({"a.md": long_text("house", 12)})
    world.add()
    embed_texts, calls = LexicalEmbedder.embed, itertools.count()

    def failing(self: LexicalEmbedder, texts: list[str], kinds: Any) -> Any:
        if next(calls) == 2:
            raise error
        return embed_texts(self, texts, kinds)

    monkeypatch.setattr(LexicalEmbedder, "embed", failing)
    with pytest.raises(type(error)):
        world.fill()
    kept = world.one("SELECT count(*) FROM embeddings")
    assert kept > 0
    assert world.fill()["chunk_embeddings"]["inserted"] > 0
    assert world.one("SELECT sum(row_count) FROM embedding_files") == world.one(
        "SELECT count(DISTINCT text_hash) FROM document_chunks"
    )
    assert_consistent(world)
