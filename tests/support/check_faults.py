"""Faults of clean stores: how each is injected, exactly which checks it breaks, and what their findings contain."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pymilvus import DataType

from rag_assets.pipeline.vectors import Kind
from tests.support.world import World

KINDS = ("dense", "sparse", "multi")
DIMENSIONS = {"dense": 64, "multi": 16}
MATCH, SOUND, SEARCH = (
    "{}_vectors_match_postgres",
    "{}_vectors_are_sound",
    "{}_vectors_are_found_by_search",
)
INDEX, ALIAS = "{}_index_is_as_declared", "{}_alias_points_to_current_model"
PARQUET, STATUSES = "chunk_embeddings_are_in_parquet", "statuses_agree"
PARENTS, POSITIONS = "chunks_have_documents", "chunk_positions_are_contiguous"
OUTBOX = "deleted_chunks_have_left_milvus"


def ids(world: World, kind: str) -> list[str]:
    rows = world.store.client.query(
        f"{kind}_collection", filter='id >= ""', output_fields=["id"], limit=1000
    )
    return sorted(row["id"] for row in rows)


def row(world: World, kind: str, number: int = 0) -> dict[str, Any]:
    (stored,) = world.store.client.get(
        f"{kind}_collection", [ids(world, kind)[number]], output_fields=["*"]
    )
    return dict(stored)


def upsert(kind: str, **changes: Any) -> Callable[[World], None]:
    return lambda world: world.store.client.upsert(
        f"{kind}_collection", [{**row(world, kind), **changes}]
    )


def delete_row(kind: str) -> Callable[[World], None]:
    return lambda world: world.store.client.delete(f"{kind}_collection", ids=ids(world, kind)[:1])


def scale(kind: str, factor: float) -> Callable[[World], None]:
    return lambda world: upsert(
        kind, vector=[factor * number for number in row(world, kind)["vector"]]
    )(world)


def swap_vectors(kind: str) -> Callable[[World], None]:
    """Exchange the vectors of two rows; each keeps its own, right fingerprint."""

    def swap(world: World) -> None:
        first = row(world, kind)
        others = (row(world, kind, number) for number in range(1, 20))
        second = next(other for other in others if other["vector"] != first["vector"])
        first["vector"], second["vector"] = second["vector"], first["vector"]
        world.store.client.upsert(f"{kind}_collection", [first, second])

    return swap


def sql(*statements: str) -> Callable[[World], None]:
    def change(world: World) -> None:
        with world.connection.transaction():
            for statement in statements:
                assert world.connection.execute(statement).rowcount != 0, statement  # pyright: ignore

    return change


def without_foreign_keys(*statements: str) -> Callable[[World], None]:
    return sql("SET LOCAL session_replication_role = replica", *statements)


def file(world: World) -> Path:
    return Path(world.settings.storage_url) / world.one("SELECT path FROM embedding_files LIMIT 1")


def truncate(world: World) -> None:
    path = file(world)
    path.write_bytes(path.read_bytes()[:-100])


def flip_a_bit(world: World) -> None:
    """Change a vector in the file, which can still be read."""
    path = file(world)
    data = bytearray(path.read_bytes())
    table_starts = data.index(np.float32(1).tobytes()[2:])
    data[max(table_starts, len(data) // 3) | 3] ^= 0x40
    path.write_bytes(data)


def move_alias(world: World) -> None:
    client = world.store.client
    client.drop_collection("somewhere_else")
    schema = client.create_schema()
    schema.add_field("id", DataType.VARCHAR, max_length=9, is_primary=True)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=8)
    client.create_collection("somewhere_else", schema=schema)
    client.alter_alias("somewhere_else", "dense_collection")


def physical(world: World, kind: Kind) -> str:
    return world.stores.model.collection(world.connection, kind)


def drop_index(world: World, make: Mapping[str, Any] | None = None) -> None:
    client, name = world.store.client, physical(world, "dense")
    client.release_collection(name)
    client.drop_index(name, "vector")
    if make:
        index = client.prepare_index_params()
        index.add_index("vector", index_name="vector", **make)
        client.create_index(name, index)
    client.load_collection(name)


def declare_again(world: World) -> None:
    """Create the collection again, with its name and its index, but for vectors of another dimension."""
    client, name = world.store.client, physical(world, "dense")
    layout = world.stores.layout("dense")
    client.drop_alias("dense_collection")
    client.drop_collection(name)
    other = type(layout)(layout.kind, layout.dimension // 2, layout.index, layout.shards)
    world.store.ensure_collection(name, other)
    client.create_alias(name, "dense_collection")


def drop_collection(world: World) -> None:
    world.store.client.drop_alias("dense_collection")
    world.store.client.drop_collection(physical(world, "dense"))


def enqueue(source: str, age: str) -> str:
    return f"""INSERT INTO vector_deletions (source_uuid, kind, chunk_id, row_count, enqueued_at)
      SELECT {source}, 'dense', gen_random_uuid(), 1, now() - interval '{age}'"""


@dataclass(frozen=True)
class Fault:
    """`fails`: the checks that fail -> the inconsistency of their findings. `sentence`: a part of one finding's."""

    inject: Callable[[World], object]
    fails: Mapping[str, str | None]
    sentence: str = ""
    remedy: str = "repair"


MISSING, ORPHANED = "missing_vectors", "orphaned_chunks"
MISMATCH, INDEX_ISSUE = "status_mismatches", "index_issues"


def of(inconsistency: str | None, kind: str, *checks: str) -> dict[str, str | None]:
    """Return the checks of a kind -> the inconsistency."""
    return {check.format(kind): inconsistency for check in checks}


def of_all(inconsistency: str | None, *checks: str) -> dict[str, str | None]:
    return {name: inconsistency for kind in KINDS for name in of(inconsistency, kind, *checks)}


DOCUMENT = "(SELECT id FROM documents WHERE source_key = '1.md')"
CHUNK = f"(SELECT id FROM document_chunks WHERE document_id = {DOCUMENT} AND position = 0)"
DOCS = "(SELECT id FROM sources WHERE name = 'docs')"
ZEROS = "0" * 32
FAULTS: dict[str, Fault] = {
    **{
        f"{kind} row missing": Fault(delete_row(kind), of(MISSING, kind, MATCH), "1 missing")
        for kind in KINDS
    },
    "orphaned row": Fault(
        upsert("dense", id=f"{uuid.uuid4()}_dense"), of(ORPHANED, "dense", MATCH), "1 orphaned"
    ),
    "stale row": Fault(
        upsert("sparse", row_fingerprint=ZEROS), of(MISSING, "sparse", MATCH), "1 stale"
    ),
    "row not acknowledged": Fault(
        sql("DELETE FROM vector_rows WHERE collection LIKE 'dense%' AND chunk_id = " + CHUNK),
        of(MISSING, "dense", MATCH), "1 chunks are not acknowledged",
    ),
    "chunk without document": Fault(
        without_foreign_keys(
            f"""INSERT INTO document_chunks (id, document_id, content, position, source_uuid, text_hash)
                SELECT gen_random_uuid(), gen_random_uuid(), 'x', 0, {DOCS}, '{ZEROS}'"""
        ),
        {PARENTS: ORPHANED}, "no such document",
    ),
    "document lost under its chunks": Fault(
        without_foreign_keys(f"DELETE FROM documents WHERE id = {DOCUMENT}"),
        {PARENTS: ORPHANED, **of_all(ORPHANED, MATCH)}, "5 exceptions",
    ),
    "chunk of another source": Fault(
        sql(f"""UPDATE document_chunks SET source_uuid = (SELECT id FROM sources WHERE name = 'empty')
                WHERE id = {CHUNK}"""),
        {PARENTS: MISMATCH}, "another source",
    ),
    "parent in another document": Fault(
        sql(f"""UPDATE document_chunks SET parent_chunk_id = {CHUNK} WHERE position = 1
                AND document_id = (SELECT id FROM documents WHERE source_key = '2.md')"""),
        {PARENTS: MISMATCH}, "its parent belongs to another document",
    ),
    "chunk_count wrong": Fault(
        sql(f"UPDATE documents SET chunk_count = 99 WHERE id = {DOCUMENT}"), {POSITIONS: MISMATCH}, "chunk_count 99"
    ),
    "chunk deleted": Fault(
        sql(f"DELETE FROM document_chunks WHERE id = {CHUNK}"), {POSITIONS: MISMATCH}, "chunks 4"
    ),
    # A row in Milvus contains its position too.
    "positions with a gap": Fault(
        sql(f"UPDATE document_chunks SET position = 9 WHERE id = {CHUNK}"),
        {POSITIONS: MISMATCH, **of_all(MISSING, MATCH)}, "last_position 9",
    ),
    **{
        f"document {column} {value}": Fault(
            sql(f"UPDATE documents SET {column} = '{value}' WHERE id = {DOCUMENT}"), {STATUSES: MISMATCH}, sentence
        )
        for column, value, sentence in (
            ("processing_status", "processing", "no run is writing"),
            ("indexing_status", "indexing", "no run is writing"),
            ("processing_status", "pending", "not chunked yet"),
            ("indexing_status", "pending", "not indexed yet"),
            ("indexing_status", "failed", "every chunk is completed"),
        )
    },
    **{
        f"chunk {change}": Fault(
            sql(f"UPDATE document_chunks SET {change} WHERE id = {CHUNK}"), {STATUSES: inconsistency}, sentence
        )
        for change, inconsistency, sentence in (
            ("embedding_status = 'processing'", MISMATCH, "no run is writing"),
            ("embedding_status = 'pending'", MISMATCH, "only 4 of 5 chunks"),
            ("embedding_status = 'failed'", MISMATCH, "only 4 of 5 chunks"),
            ("sparse_vector_id = NULL", MISSING, "lack their vector id"),
            ("dense_vector_id = 'of_another'", MISSING, "lack their vector id"),
        )
    },
    "file deleted": Fault(lambda world: file(world).unlink(), {PARQUET: MISSING}, "1 of 1 files"),
    "file truncated": Fault(truncate, {PARQUET: MISSING}, "1 of 1 files"),
    "file with a flipped bit": Fault(flip_a_bit, {PARQUET: MISSING}, "1 of 1 files"),
    "embedding not recorded": Fault(
        sql(f"""DELETE FROM embeddings WHERE text_hash IN (
                SELECT text_hash FROM document_chunks WHERE id = {CHUNK})"""),
        {PARQUET: MISSING}, "1 completed chunks have no embedding",
    ),
    **{
        f"{kind} vector not a number": Fault(
            upsert(kind, vector=[float("nan")] * dimension), of(None, kind, SOUND), "1 unsound"
        )
        for kind, dimension in DIMENSIONS.items()
    },
    **{
        f"{kind} vector too long": Fault(scale(kind, 3), of(None, kind, SOUND), "1 unsound")
        for kind in DIMENSIONS
    },
    **{
        f"{kind} vectors swapped": Fault(swap_vectors(kind), of(None, kind, SOUND), "2 unsound")
        for kind in KINDS
    },
    "alias moved": Fault(move_alias, of(INDEX_ISSUE, "dense", ALIAS), "found somewhere_else"),
    "alias dropped": Fault(
        lambda world: world.store.client.drop_alias("sparse_collection"),
        of(INDEX_ISSUE, "sparse", ALIAS), "found nothing",
    ),
    "serving not recorded": Fault(
        sql("UPDATE vector_collections SET state = 'building' WHERE kind = 'multi'"),
        of(INDEX_ISSUE, "multi", ALIAS), "expected serving, found building",
    ),
    "index dropped": Fault(drop_index, of(INDEX_ISSUE, "dense", INDEX), "index: expected HNSW, found none"),
    "index of another metric": Fault(
        lambda world: drop_index(world, {"index_type": "HNSW", "metric_type": "L2", "params": {}}),
        of(INDEX_ISSUE, "dense", INDEX), "metric_type: expected IP, found L2",
    ),
    "index of another type": Fault(
        lambda world: drop_index(world, {"index_type": "FLAT", "metric_type": "IP"}),
        of(INDEX_ISSUE, "dense", INDEX), "index_type: expected HNSW, found FLAT",
    ),
    "collection released": Fault(
        lambda world: world.store.client.release_collection(physical(world, "dense")),
        of(INDEX_ISSUE, "dense", INDEX), "load state: expected Loaded, found NotLoad",
    ),
    "collection dropped": Fault(
        drop_collection,
        {**of(INDEX_ISSUE, "dense", INDEX, ALIAS), **of(MISSING, "dense", MATCH, SOUND, SEARCH)},
        "collection: expected",
    ),
    "deletion overdue": Fault(
        sql(enqueue(DOCS, "1 hour")), {OUTBOX: ORPHANED}, "1 of them longer than 900 s"
    ),
    "deletion of a removed source overdue": Fault(
        sql(enqueue("gen_random_uuid()", "1 hour")), {OUTBOX: ORPHANED}, "1 of them longer than 900 s"
    ),
}  # fmt: skip

#: Faults that differ from another one only by the kind, the value or the place: these are in `make soak` only.
REPEATED = {
    "sparse row missing",
    "multi row missing",
    "document indexing_status indexing",
    "document processing_status pending",
    "document indexing_status pending",
    "chunk embedding_status = 'pending'",
    "chunk embedding_status = 'failed'",
    "chunk dense_vector_id = 'of_another'",
    "file truncated",
    "multi vector not a number",
    "multi vector too long",
    "sparse vectors swapped",
    "multi vectors swapped",
    "index of another metric",
}
assert FAULTS.keys() >= REPEATED
