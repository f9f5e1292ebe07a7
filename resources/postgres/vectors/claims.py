"""The rows that Milvus must contain according to PostgreSQL, with the fingerprints that they must have."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import LiteralString, NamedTuple

from resources.postgres.connection import Connection
from resources.postgres.documents.row_fingerprint import row_fingerprint
from resources.postgres.queries import fetch_all, scalar
from resources.postgres.vectors.collections import Collection


class RangeClaim(NamedTuple):
    """The rows of one chunk, with its id as text: PostgreSQL writes the text four times as fast as Python."""

    chunk_id: str
    fingerprint: str
    rows: int


class Acknowledgement(NamedTuple):
    """The acknowledged rows of an existing chunk. `fingerprint` and `acknowledged_at` are None if there are none."""

    fingerprint: str | None
    rows: int
    acknowledged_at: datetime | None


class _ChunkClaim(NamedTuple):
    chunk_id: uuid.UUID
    fingerprint: str | None
    rows: int
    acknowledged_at: datetime | None


def _claims(condition: LiteralString) -> LiteralString:
    """SQL: the columns of _ChunkClaim, where the condition holds for chunk `c`, document `d` and acknowledgement `r`.

    The rows of an indexed document must match its current columns; those of one in work may still be the acknowledged
    ones.
    """
    return f"""SELECT c.id AS chunk_id,
        CASE WHEN r.chunk_id IS NULL THEN NULL
          WHEN d.indexing_status = 'completed' THEN {row_fingerprint("c", "d", "s")}
          ELSE r.row_fingerprint END AS fingerprint,
        coalesce(r.row_count, 0) AS rows, r.acknowledged_at
      FROM document_chunks c JOIN documents d ON d.id = c.document_id JOIN sources s ON s.id = d.source_uuid
      LEFT JOIN vector_rows r ON r.collection = %(collection)s AND r.chunk_id = c.id
      WHERE {condition}"""


def claims_in_range(
    connection: Connection, collection: Collection, source_id: uuid.UUID, lower: int, upper: int
) -> list[RangeClaim]:
    """Return the claims of a source's chunks whose first 32 bits are in the range [lower, upper)."""
    claims = _claims(
        """d.source_uuid = %(source)s AND c.id BETWEEN %(lower)s AND %(upper)s
           AND r.chunk_id IS NOT NULL AND r.row_count > 0"""
    )
    return fetch_all(
        connection,
        RangeClaim,
        f"SELECT chunk_id::text, fingerprint, rows FROM ({claims}) AS claims",
        {
            "collection": collection.name,
            "model": collection.model,
            "source": source_id,
            "lower": uuid.UUID(int=lower << 96),
            "upper": uuid.UUID(int=(upper << 96) - 1),
        },
    )


def claims_of_chunks(
    connection: Connection, collection: Collection, chunks: Sequence[uuid.UUID]
) -> dict[uuid.UUID, Acknowledgement]:
    """Return chunk -> its claim, for those of `chunks` that exist."""
    claims = fetch_all(
        connection,
        _ChunkClaim,
        _claims("c.id = ANY(%(chunks)s)"),
        {"collection": collection.name, "model": collection.model, "chunks": list(chunks)},
    )
    return {
        claim.chunk_id: Acknowledgement(claim.fingerprint, claim.rows, claim.acknowledged_at)
        for claim in claims
    }


def claimed_rows(connection: Connection, collection: Collection, source_id: uuid.UUID) -> int:
    """Count the rows of a source that the collection acknowledged."""
    return scalar(
        connection,
        """SELECT coalesce(sum(r.row_count), 0)::bigint FROM document_chunks c
           JOIN vector_rows r ON r.collection = %s AND r.chunk_id = c.id WHERE c.source_uuid = %s""",
        [collection.name, source_id],
    )
