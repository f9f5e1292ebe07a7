"""Which physical collections there are, and what each is for: table `vector_collections`.

The only place that says which collection a sync writes. What the rows in them are is in `vectors`.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count

from rag_assets.pipeline.identity import physical_collection
from rag_assets.pipeline.vectors import Kind
from resources.postgres.connection import Connection


@dataclass(frozen=True, slots=True)
class Collection:
    """A physical collection that PostgreSQL knows of."""

    name: str
    alias: str
    kind: Kind
    model: str
    dimension: int
    milvus_id: str
    state: str


_COLLECTION_COLUMNS = "name, alias, kind, model_fingerprint, dimension, milvus_id, state"


#: The collections that syncs write and checks compare. The others: `rebuilding`, `retired`.
WRITTEN = ("building", "serving")
#: Those that do not stay as they are: they will serve, or go.
UNSETTLED = ("building", "rebuilding", "retired")
#: Every one that there is.
ALL_STATES = (*WRITTEN, "rebuilding", "retired")


def collections(
    connection: Connection, *, kind: Kind | None = None, states: Sequence[str] = WRITTEN
) -> list[Collection]:
    rows = connection.execute(
        f"""SELECT {_COLLECTION_COLUMNS} FROM vector_collections
            WHERE (kind = %(kind)s OR %(kind)s IS NULL) AND state = ANY(%(states)s) ORDER BY name""",
        {"kind": kind, "states": list(states)},
    )
    return [Collection(*row) for row in rows]


def written_collection(connection: Connection, alias: str, model: str) -> str:
    """The physical collection that syncs of this model write; the name for a new one where there is none yet."""
    row = connection.execute(
        "SELECT name FROM vector_collections WHERE alias = %s AND model_fingerprint = %s AND state = ANY(%s)",
        [alias, model, list(WRITTEN)],
    ).fetchone()
    return row[0] if row else new_collection(connection, alias, model)


def new_collection(connection: Connection, alias: str, model: str) -> str:
    """A name that no collection has which PostgreSQL knows of, those on their way out included."""
    known = {
        name
        for (name,) in connection.execute(
            "SELECT name FROM vector_collections WHERE alias = %s", [alias]
        )
    }
    names = (physical_collection(alias, model, generation) for generation in count(1))
    return next(name for name in names if name not in known)


def register_collection(connection: Connection, collection: Collection) -> None:
    """Records a collection. If Milvus has it under another id than recorded, it was lost and made anew: what it had
    acknowledged is void, and the documents' vectors are to be written again."""
    row = connection.execute(
        "SELECT milvus_id FROM vector_collections WHERE name = %s FOR UPDATE", [collection.name]
    ).fetchone()
    if row is not None and row[0] == collection.milvus_id:
        return
    if row is not None:
        connection.execute(
            """UPDATE documents SET indexing_status = 'pending' WHERE indexing_status = 'completed' AND id IN (
                 SELECT c.document_id FROM vector_rows r JOIN document_chunks c ON c.id = r.chunk_id
                 WHERE r.collection = %s)""",
            [collection.name],
        )
        connection.execute("DELETE FROM vector_collections WHERE name = %s", [collection.name])
    connection.execute(
        """INSERT INTO vector_collections (name, alias, kind, model_fingerprint, dimension, milvus_id, state)
           VALUES (%s, %s, %s, %s, %s, %s, %s)
           ON CONFLICT (name) DO NOTHING""",
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
    """The alias points at this collection now; the one that served before is only kept until it is dropped, and so is
    every other that is written: it belongs to a model that is no longer used."""
    connection.execute(
        "UPDATE vector_collections SET state = 'retired' WHERE alias = %s AND state = ANY(%s) AND name <> %s",
        [collection.alias, list(WRITTEN), collection.name],
    )
    connection.execute(
        "UPDATE vector_collections SET state = 'serving' WHERE name = %s", [collection.name]
    )


def void_collection(connection: Connection, name: str) -> None:
    """Forgets what this collection acknowledged, all of it."""
    connection.execute("DELETE FROM vector_rows WHERE collection = %s", [name])


def forget_collection(connection: Connection, name: str) -> None:
    connection.execute("DELETE FROM vector_collections WHERE name = %s", [name])


def uncovered_chunks(connection: Connection, collection: Collection) -> int:
    """Live chunks that searches would lose if the alias moved to this collection: it lacks them, while another of the
    kind holds them or their document was complete. Failed embeddings aside, of which there is nothing to hold."""
    row = connection.execute(
        """SELECT count(*) FROM document_chunks c
           WHERE c.embedding_status <> 'failed'
             AND NOT EXISTS (SELECT FROM vector_rows r WHERE r.collection = %(name)s AND r.chunk_id = c.id)
             AND (c.embedding_status = 'completed' OR EXISTS (
               SELECT FROM vector_rows r JOIN vector_collections v ON v.name = r.collection
               WHERE r.chunk_id = c.id AND v.alias = %(alias)s))""",
        {"name": collection.name, "alias": collection.alias},
    ).fetchone()
    assert row is not None
    return row[0]


def without_embedding(
    connection: Connection, collection: Collection, source_id: uuid.UUID | None = None
) -> int:
    """Chunks of a source (or of all) that this collection holds and whose vectors no Parquet file has."""
    row = connection.execute(
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
    ).fetchone()
    assert row is not None
    return row[0]


def void_source(connection: Connection, source_id: uuid.UUID, names: Sequence[str]) -> None:
    """Forgets that these collections hold the rows of a source: the vector stages write them anew, from Parquet."""
    connection.execute(
        """DELETE FROM vector_rows r USING document_chunks c, documents d
           WHERE r.collection = ANY(%s) AND c.id = r.chunk_id AND d.id = c.document_id AND d.source_uuid = %s""",
        [list(names), source_id],
    )
    connection.execute(
        "UPDATE documents SET indexing_status = 'pending' WHERE source_uuid = %s AND indexing_status = 'completed'",
        [source_id],
    )
