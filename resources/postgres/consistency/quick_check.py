"""Queries of the quick comparison: a sample of the rows that a collection must contain, and their number."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import NamedTuple

from resources.postgres.connection import Connection
from resources.postgres.queries import fetch_all, fetch_one
from resources.postgres.vectors.claims import claims_of_chunks
from resources.postgres.vectors.collections import Collection


class SampledClaim(NamedTuple):
    """The rows that Milvus must contain of a chunk."""

    chunk_id: uuid.UUID
    fingerprint: str
    rows: int
    acknowledged_at: datetime


class CollectionRows(NamedTuple):
    """`claimed`: acknowledged rows of all sources. `may_have_others`: Milvus may have further rows, not acknowledged or
    not deleted yet."""

    claimed: int
    may_have_others: bool


class _SampledChunk(NamedTuple):
    id: uuid.UUID
    claimed: int


def sample_claims(
    connection: Connection, collection: Collection, source_id: uuid.UUID, chunks: int
) -> tuple[int, list[SampledClaim]]:
    """Return the number of rows that Milvus must contain of a source, and the claims of `chunks` random chunks."""
    sample = fetch_all(
        connection,
        _SampledChunk,
        """SELECT c.id, (sum(r.row_count) OVER ())::bigint AS claimed FROM documents d
           JOIN document_chunks c ON c.document_id = d.id
           JOIN vector_rows r ON r.collection = %s AND r.chunk_id = c.id AND r.row_count > 0
           WHERE d.source_uuid = %s ORDER BY random() LIMIT %s""",
        [collection.name, source_id, chunks],
    )
    claims = claims_of_chunks(connection, collection, [chunk.id for chunk in sample])
    return (sample[0].claimed if sample else 0), [
        SampledClaim(chunk, claim.fingerprint, claim.rows, claim.acknowledged_at)
        for chunk, claim in claims.items()
        if claim.fingerprint is not None and claim.acknowledged_at is not None
    ]


def rows_of_collection(connection: Connection, collection: Collection) -> CollectionRows:
    return fetch_one(
        connection,
        CollectionRows,
        """SELECT acknowledged.rows AS claimed, acknowledged.chunks < (SELECT count(*) FROM document_chunks)
             OR EXISTS (SELECT FROM vector_deletions WHERE kind = %s) AS may_have_others
           FROM (SELECT coalesce(sum(row_count), 0)::bigint AS rows, count(*) AS chunks
                 FROM vector_rows WHERE collection = %s) AS acknowledged""",
        [collection.kind, collection.name],
    )
