"""Queries of the checks inside PostgreSQL: rows of documents, chunks and the outbox that contradict each other.

Each returns the exceptions of one source, with a code for the problem. `consistency/table_findings.py` explains them.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from resources.postgres.connection import Connection, is_written
from resources.postgres.queries import fetch_all, fetch_one

ChunkProblem = Literal["no_document", "other_source", "parent_in_other_document"]
StatusProblem = Literal[
    "left_in_progress",
    "not_chunked",
    "not_indexed",
    "incomplete_chunks",
    "missing_vector_ids",
    "no_chunks",
    "failed_but_complete",
]


@dataclass(frozen=True, slots=True)
class SourceCounts:
    """`is_written`: a run is writing the source."""

    documents: int
    chunks: int
    is_written: bool


@dataclass(frozen=True, slots=True)
class MisplacedChunk:
    chunk: uuid.UUID
    document: uuid.UUID
    problem: ChunkProblem


@dataclass(frozen=True, slots=True)
class WrongPositions:
    """A document, by its key, whose chunks do not have the positions 0 to chunk_count - 1."""

    document: str
    chunk_count: int
    chunks: int
    distinct_positions: int
    last_position: int | None


@dataclass(frozen=True, slots=True)
class WrongStatus:
    """A document, by its key; `completed` of its `chunks` are, and `without_id` of those lack a vector id."""

    document: str
    processing: str
    indexing: str
    problem: StatusProblem
    chunks: int
    completed: int
    without_id: int


@dataclass(frozen=True, slots=True)
class WaitingDeletions:
    """Entries of one source and kind in the outbox; `overdue`: ids of the entries that wait too long."""

    source: str
    kind: str
    waiting: int
    overdue: Sequence[int]
    oldest: datetime


def source_counts(connection: Connection, source_id: uuid.UUID, partition: str) -> SourceCounts:
    return fetch_one(
        connection,
        SourceCounts,
        f"""SELECT count(*) AS documents, coalesce(sum(chunk_count), 0)::bigint AS chunks,
              {is_written("%(partition)s")} AS is_written
            FROM documents WHERE source_uuid = %(source)s""",
        {"source": source_id, "partition": partition},
    )


def chunks_without_document(connection: Connection, source_id: uuid.UUID) -> list[MisplacedChunk]:
    """Return the chunks that have no document in their source, or a parent in another document."""
    return fetch_all(
        connection,
        MisplacedChunk,
        """SELECT c.id AS chunk, c.document_id AS document, CASE WHEN d.id IS NULL THEN 'no_document'
             WHEN d.source_uuid <> c.source_uuid THEN 'other_source'
             ELSE 'parent_in_other_document' END AS problem
           FROM document_chunks c LEFT JOIN documents d ON d.id = c.document_id
           LEFT JOIN document_chunks p ON p.id = c.parent_chunk_id
           WHERE (c.source_uuid = %(source)s OR d.source_uuid = %(source)s) AND (d.id IS NULL
             OR d.source_uuid <> c.source_uuid OR p.document_id <> c.document_id)
           ORDER BY c.id""",
        {"source": source_id},
    )


def wrong_positions(connection: Connection, source_id: uuid.UUID) -> list[WrongPositions]:
    """Return the documents whose chunk_count or positions are wrong."""
    return fetch_all(
        connection,
        WrongPositions,
        """SELECT d.source_key AS document, d.chunk_count, count(c.id) AS chunks,
             count(DISTINCT c.position) AS distinct_positions, max(c.position) AS last_position
           FROM documents d LEFT JOIN document_chunks c ON c.document_id = d.id
           WHERE d.source_uuid = %(source)s AND d.processing_status = 'completed'
           GROUP BY d.id HAVING d.chunk_count <> count(c.id) OR count(c.id) <> count(DISTINCT c.position)
             OR max(c.position) <> count(c.id) - 1 ORDER BY d.source_key""",
        {"source": source_id},
    )


def wrong_statuses(
    connection: Connection, source_id: uuid.UUID, partition: str, kinds: Sequence[str]
) -> list[WrongStatus]:
    """Return the documents whose statuses contradict each other, or are in progress without a run."""
    return fetch_all(
        connection,
        WrongStatus,
        f"""WITH writer AS (SELECT {is_written("%(partition)s")} AS written), counted AS (
              SELECT d.id, d.source_key, d.processing_status, d.indexing_status,
                count(c.id) AS chunks,
                count(*) FILTER (WHERE c.embedding_status = 'completed') AS completed,
                count(*) FILTER (WHERE c.embedding_status = 'processing') AS processing,
                count(*) FILTER (WHERE c.embedding_status = 'completed' AND (
                  ('dense' = ANY(%(kinds)s) AND c.dense_vector_id IS DISTINCT FROM c.id || '_dense')
                  OR ('sparse' = ANY(%(kinds)s) AND c.sparse_vector_id IS DISTINCT FROM c.id || '_sparse')
                  OR ('multi' = ANY(%(kinds)s) AND c.multi_vector_id IS DISTINCT FROM c.id || '_multi')
                )) AS without_id
              FROM documents d LEFT JOIN document_chunks c ON c.document_id = d.id
              WHERE d.source_uuid = %(source)s GROUP BY d.id),
            judged AS (
              SELECT counted.*, CASE
                WHEN written AND (processing > 0 OR processing_status IN ('pending', 'processing')
                  OR indexing_status IN ('pending', 'indexing')) THEN NULL
                WHEN processing > 0 OR processing_status = 'processing' OR indexing_status = 'indexing'
                  THEN 'left_in_progress'
                WHEN processing_status = 'pending' THEN 'not_chunked'
                WHEN indexing_status = 'pending' THEN 'not_indexed'
                WHEN indexing_status = 'completed' AND completed < chunks THEN 'incomplete_chunks'
                WHEN indexing_status = 'completed' AND without_id > 0 THEN 'missing_vector_ids'
                WHEN indexing_status = 'completed' AND chunks = 0 THEN 'no_chunks'
                WHEN indexing_status = 'failed' AND processing_status = 'completed' AND completed = chunks
                  THEN 'failed_but_complete'
              END AS problem FROM counted, writer)
            SELECT source_key AS document, processing_status AS processing, indexing_status AS indexing, problem,
              chunks, completed, without_id
            FROM judged WHERE problem IS NOT NULL ORDER BY source_key""",
        {"source": source_id, "partition": partition, "kinds": list(kinds)},
    )


def waiting_by_kind(
    connection: Connection, source_id: uuid.UUID, limit: float
) -> list[WaitingDeletions]:
    """Return the entries of the source, and of removed sources, in the outbox. Overdue: older than `limit` seconds."""
    return fetch_all(
        connection,
        WaitingDeletions,
        """SELECT coalesce(s.name, 'removed ' || v.source_uuid) AS source, v.kind, count(*) AS waiting,
             coalesce(array_agg(v.id ORDER BY v.id) FILTER (
               WHERE v.enqueued_at < now() - %(limit)s * interval '1 second'), '{}') AS overdue,
             min(v.enqueued_at) AS oldest
           FROM vector_deletions v LEFT JOIN sources s ON s.id = v.source_uuid
           WHERE v.source_uuid = %(source)s OR s.id IS NULL GROUP BY 1, 2 ORDER BY 1, 2""",
        {"source": source_id, "limit": limit},
    )


def unacknowledged_chunks(
    connection: Connection, source_id: uuid.UUID, collection: str
) -> list[tuple[uuid.UUID, str]]:
    """Return (chunk, document key) of completed chunks that the collection never acknowledged."""
    return connection.execute(
        """SELECT c.id, d.source_key FROM documents d JOIN document_chunks c ON c.document_id = d.id
           LEFT JOIN vector_rows r ON r.collection = %s AND r.chunk_id = c.id
           WHERE d.source_uuid = %s AND c.embedding_status = 'completed' AND r.chunk_id IS NULL ORDER BY c.id""",
        [collection, source_id],
    ).fetchall()


def documents_of_chunks(
    connection: Connection, chunks: Sequence[uuid.UUID]
) -> dict[uuid.UUID, str]:
    """Return chunk -> document key of the live chunks."""
    return dict(
        connection.execute(
            """SELECT c.id, d.source_key FROM document_chunks c JOIN documents d ON d.id = c.document_id
               WHERE c.id = ANY(%s)""",
            [list(chunks)],
        ).fetchall()
    )


def keys_of_documents(
    connection: Connection, documents: Sequence[uuid.UUID]
) -> dict[uuid.UUID, str]:
    """Return document -> key of the documents that exist."""
    return dict(
        connection.execute(
            "SELECT id, source_key FROM documents WHERE id = ANY(%s)", [list(documents)]
        ).fetchall()
    )
