"""Table `vector_collections`: the physical collections and the state of each.

Only this table decides which collection a sync writes. Their rows are in `vectors`.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count

from rag_assets.pipeline.identity import physical_collection
from rag_assets.pipeline.vectors import Kind
from resources.postgres.connection import Connection
from resources.postgres.queries import fetch_all, scalar, scalars


@dataclass(frozen=True, slots=True)
class Collection:
    """A physical collection that is recorded in PostgreSQL."""

    name: str
    alias: str
    kind: Kind
    model: str
    dimension: int
    milvus_id: str
    state: str


#: States of the collections that syncs write and checks compare. The others: `rebuilding`, `retired`.
WRITTEN = ("building", "serving")
#: States of the collections that will serve or be dropped.
TRANSIENT = ("building", "rebuilding", "retired")
ALL_STATES = (*WRITTEN, "rebuilding", "retired")


def collections(
    connection: Connection, *, kind: Kind | None = None, states: Sequence[str] = WRITTEN
) -> list[Collection]:
    return fetch_all(
        connection,
        Collection,
        """SELECT name, alias, kind, model_fingerprint AS model, dimension, milvus_id, state FROM vector_collections
            WHERE (kind = %(kind)s OR %(kind)s IS NULL) AND state = ANY(%(states)s) ORDER BY name""",
        {"kind": kind, "states": list(states)},
    )


def written_collection(connection: Connection, alias: str, model: str) -> str:
    """Return the physical collection that syncs of this model write, or a new name if there is none yet.

    In one query: between two, another sync could record the collection, and this one would take the next name.
    """
    recorded = connection.execute(
        """SELECT name, model_fingerprint = %s AND state = ANY(%s) AS is_written
           FROM vector_collections WHERE alias = %s""",
        [model, list(WRITTEN), alias],
    ).fetchall()
    written = (name for name, is_written in recorded if is_written)
    return next(written, None) or _unused([name for name, _ in recorded], alias, model)


def new_collection(connection: Connection, alias: str, model: str) -> str:
    """Return a name that no recorded collection has, not even a retired one."""
    query = "SELECT name FROM vector_collections WHERE alias = %s"
    return _unused(scalars(connection, query, [alias]), alias, model)


def _unused(recorded: Sequence[str], alias: str, model: str) -> str:
    names = (physical_collection(alias, model, generation) for generation in count(1))
    return next(name for name in names if name not in recorded)


def register_collection(connection: Connection, collection: Collection) -> None:
    """Record a collection.

    If Milvus has it under another id than the recorded one, it was lost and created again: its acknowledgements are
    deleted, and the documents' vectors are written again.
    """
    recorded_id = scalar(
        connection,
        "SELECT milvus_id FROM vector_collections WHERE name = %s FOR UPDATE",
        [collection.name],
    )
    if recorded_id == collection.milvus_id:
        return
    if recorded_id is not None:
        connection.execute(
            """UPDATE documents SET indexing_status = 'pending', updated_at = now()
               WHERE indexing_status = 'completed' AND id IN (
                 SELECT c.document_id FROM vector_rows r JOIN document_chunks c ON c.id = r.chunk_id
                 WHERE r.collection = %s)""",
            [collection.name],
        )
        connection.execute("DELETE FROM vector_collections WHERE name = %s", [collection.name])
    connection.execute(
        """INSERT INTO vector_collections (name, alias, kind, model_fingerprint, dimension, milvus_id, state)
           VALUES (%s, %s, %s, %s, %s, %s, %s)
           ON CONFLICT DO NOTHING""",
        [
            collection.name,
            collection.alias,
            collection.kind,
            collection.model,
            collection.dimension,
            collection.milvus_id,
            collection.state,
        ],
    )


def mark_serving(connection: Connection, collection: Collection) -> None:
    """Record that the alias points at this collection.

    The one that served before is retired, to be dropped. So is every other written one: its model is no longer used.
    """
    connection.execute(
        "UPDATE vector_collections SET state = 'retired' WHERE alias = %s AND state = ANY(%s) AND name <> %s",
        [collection.alias, list(WRITTEN), collection.name],
    )
    connection.execute(
        "UPDATE vector_collections SET state = 'serving' WHERE name = %s", [collection.name]
    )


def void_collection(connection: Connection, name: str) -> None:
    """Delete all acknowledgements of this collection."""
    connection.execute("DELETE FROM vector_rows WHERE collection = %s", [name])


def forget_collection(connection: Connection, name: str) -> None:
    connection.execute("DELETE FROM vector_collections WHERE name = %s", [name])


def uncovered_chunks(connection: Connection, collection: Collection) -> int:
    """Count the live chunks that searches would lose if the alias moved to this collection.

    It lacks them, while another collection of the kind has them or their document is complete. Chunks whose embedding
    failed do not count: no collection has them.
    """
    return scalar(
        connection,
        """SELECT count(*) FROM document_chunks c
           WHERE c.embedding_status <> 'failed'
             AND NOT EXISTS (SELECT FROM vector_rows r WHERE r.collection = %(name)s AND r.chunk_id = c.id)
             AND (c.embedding_status = 'completed' OR EXISTS (
               SELECT FROM vector_rows r JOIN vector_collections v ON v.name = r.collection
               WHERE r.chunk_id = c.id AND v.alias = %(alias)s))""",
        {"name": collection.name, "alias": collection.alias},
    )


def count_acknowledged(
    connection: Connection, collection: str, source_id: uuid.UUID | None = None
) -> int:
    """Count the chunks of a source, or of all sources, that a collection acknowledged."""
    return scalar(
        connection,
        """SELECT count(*) FROM vector_rows r JOIN document_chunks c ON c.id = r.chunk_id
           WHERE r.collection = %(name)s AND (c.source_uuid = %(source)s OR %(source)s IS NULL)""",
        {"name": collection, "source": source_id},
    )


def count_without_embedding(
    connection: Connection, collection: Collection, source_id: uuid.UUID | None = None
) -> int:
    """Count the acknowledged chunks of a source, or of all sources, whose vectors no Parquet file has."""
    return scalar(
        connection,
        """SELECT count(*) FROM vector_rows r JOIN document_chunks c ON c.id = r.chunk_id
           WHERE r.collection = %(name)s AND (c.source_uuid = %(source)s OR %(source)s IS NULL)
             AND NOT EXISTS (SELECT FROM embeddings e WHERE e.model_fingerprint = %(model)s
               AND e.text_hash = c.text_hash AND %(kind)s = ANY(e.kinds))""",
        {
            "name": collection.name,
            "source": source_id,
            "model": collection.model,
            "kind": collection.kind,
        },
    )


def void_source(connection: Connection, source_id: uuid.UUID, names: Sequence[str]) -> None:
    """Delete these collections' acknowledgements of a source: the vector stages write its rows again, from Parquet."""
    connection.execute(
        """DELETE FROM vector_rows r USING document_chunks c, documents d
           WHERE r.collection = ANY(%s) AND c.id = r.chunk_id AND d.id = c.document_id AND d.source_uuid = %s""",
        [list(names), source_id],
    )
    connection.execute(
        """UPDATE documents SET indexing_status = 'pending', updated_at = now()
           WHERE source_uuid = %s AND indexing_status = 'completed'""",
        [source_id],
    )
