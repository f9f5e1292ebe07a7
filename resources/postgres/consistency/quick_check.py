"""What the quick form of the comparison asks: a sample of what a collection must hold, and how much that is."""

from __future__ import annotations

import uuid
from datetime import datetime

from resources.postgres.connection import Connection
from resources.postgres.vectors.collections import Collection
from resources.postgres.vectors.vectors import claims_of_chunks


def sample_claims(
    connection: Connection, collection: Collection, source_id: uuid.UUID, chunks: int
) -> tuple[int, list[tuple[uuid.UUID, str, int, datetime]]]:
    """How many rows Milvus must hold of a source, and what it must hold of so many chunks, chosen at random."""
    rows = connection.execute(
        """SELECT c.id, (sum(r.row_count) OVER ())::bigint FROM documents d
           JOIN document_chunks c ON c.document_id = d.id
           JOIN vector_rows r ON r.collection = %s AND r.chunk_id = c.id AND r.row_count > 0
           WHERE d.source_uuid = %s ORDER BY random() LIMIT %s""",
        [collection.name, source_id, chunks],
    ).fetchall()
    claims = claims_of_chunks(connection, collection, [chunk for chunk, _ in rows])
    return (rows[0][1] if rows else 0), [
        (chunk, fingerprint, count, at)
        for chunk, (fingerprint, count, at) in claims.items()
        if fingerprint is not None and at is not None
    ]


def rows_of_collection(connection: Connection, collection: Collection) -> tuple[int, bool]:
    """The rows of all sources that Milvus acknowledged, and whether it may hold others: what is not acknowledged yet
    or waits for its deletion."""
    row = connection.execute(
        """SELECT held.rows, held.chunks < (SELECT count(*) FROM document_chunks)
             OR EXISTS (SELECT FROM vector_deletions WHERE kind = %s)
           FROM (SELECT coalesce(sum(row_count), 0)::bigint AS rows, count(*) AS chunks
                 FROM vector_rows WHERE collection = %s) AS held""",
        [collection.kind, collection.name],
    ).fetchone()
    assert row is not None
    return row[0], row[1]
