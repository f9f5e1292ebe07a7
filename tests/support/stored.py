"""The contents of a world's stores, read for assertions: collections, embeddings and texts; do the stores match."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq

from tests.support.oracle import disagreements
from tests.support.world import World


def assert_stores_match(world: World, kinds: tuple[str, ...] = ("dense", "sparse")) -> None:
    """PostgreSQL and Milvus contain the same, as the oracle reads them."""
    assert disagreements(world.settings.postgres_url, world.settings.milvus_uri, kinds) == []


def assert_consistent(world: World, kinds: tuple[str, ...] = ("dense", "sparse")) -> None:
    """PostgreSQL and Milvus contain the same, as the oracle reads them, and every check passes."""
    assert_stores_match(world, kinds)
    assert world.failed_checks() == {}


def age_acknowledgements(world: World) -> None:
    """Date all acknowledgements back: comparisons ignore rows that were acknowledged within the last second."""
    world.connection.execute("UPDATE vector_rows SET acknowledged_at = now() - interval '1 minute'")


# Collections --------------------------------------------------------------------------------------------------------


def serving_collections(world: World) -> dict[str, str | None]:
    """kind -> the collection that its alias points at in Milvus."""
    return {kind: world.store.alias_target(kind) for kind in ("dense", "sparse")}


def collection_states(world: World) -> dict[str, str]:
    """collection -> its state in PostgreSQL."""
    return dict(world.connection.execute("SELECT name, state FROM vector_collections").fetchall())


# Texts and embeddings -----------------------------------------------------------------------------------------------


def texts_of(world: World, key: str = "%") -> set[str]:
    """The hashes of the texts of the documents whose key matches a LIKE pattern."""
    rows = world.connection.execute(
        """SELECT c.text_hash::text FROM document_chunks c JOIN documents d ON d.id = c.document_id
           WHERE d.source_key LIKE %s""",
        [key],
    )
    return {text for (text,) in rows}


def embedding_places(world: World) -> dict[str, tuple[str, int]]:
    """text hash -> (file, row) of its embedding, as recorded in PostgreSQL."""
    rows = world.connection.execute(
        """SELECT e.text_hash::text, f.path, e.row_index FROM embeddings e
           JOIN embedding_files f ON f.id = e.file_id"""
    )
    return {text: (path, row) for text, path, row in rows}


def embedded_texts(world: World) -> set[str]:
    """The hashes of all texts in the embedding files on disk."""
    files = Path(world.settings.storage_url).glob("embeddings/**/*.parquet")
    return {
        text
        for file in files
        for text in pq.read_table(file, columns=["text_hash"])["text_hash"].to_pylist()
    }
