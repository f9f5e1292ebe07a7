"""The changes of a repair in PostgreSQL: it deletes wrong acknowledgements, and resets contradictory statuses.

A repair makes doubtful rows pending; the stages then write them again.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import NamedTuple

from resources.postgres.connection import Connection
from resources.postgres.queries import fetch_all, scalars


class Contradiction(NamedTuple):
    """A document whose statuses, counts or chunks cannot all be true. `rechunk`: its chunks are in doubt too."""

    document_id: uuid.UUID
    key: str
    rechunk: bool


_CONTRADICTIONS = """
  SELECT d.id AS document_id, d.source_key AS key,
    (d.processing_status IN ('pending', 'processing') OR (d.processing_status = 'completed' AND d.char_count > 0 AND (
      d.chunk_count <> count(c.id) OR count(c.id) <> count(DISTINCT c.position)
      OR coalesce(max(c.position), -1) <> count(c.id) - 1 OR count(c.id) = 0
      OR bool_or(c.parent_chunk_id IS NOT NULL AND p.document_id IS DISTINCT FROM d.id)))) AS rechunk
  FROM documents d LEFT JOIN document_chunks c ON c.document_id = d.id
  LEFT JOIN document_chunks p ON p.id = c.parent_chunk_id
  WHERE d.source_uuid = %(source)s
  GROUP BY d.id
  HAVING d.processing_status IN ('pending', 'processing') OR d.indexing_status = 'indexing'
    OR (d.processing_status = 'completed' AND d.char_count > 0 AND (
      d.chunk_count <> count(c.id) OR count(c.id) <> count(DISTINCT c.position)
      OR coalesce(max(c.position), -1) <> count(c.id) - 1))
    OR bool_or(c.parent_chunk_id IS NOT NULL AND p.document_id IS DISTINCT FROM d.id)
    OR bool_or(c.embedding_status = 'processing')
    OR (d.indexing_status = 'completed' AND d.char_count > 0 AND (count(c.id) = 0
      OR bool_or(c.embedding_status <> 'completed'
        OR ('dense' = ANY(%(kinds)s) AND c.dense_vector_id IS DISTINCT FROM c.id || '_dense')
        OR ('sparse' = ANY(%(kinds)s) AND c.sparse_vector_id IS DISTINCT FROM c.id || '_sparse')
        OR ('multi' = ANY(%(kinds)s) AND c.multi_vector_id IS DISTINCT FROM c.id || '_multi')
        OR (SELECT count(*) FROM vector_rows r WHERE r.chunk_id = c.id AND r.collection = ANY(%(collections)s))
          < cardinality(%(collections)s))))"""


def contradictions(
    connection: Connection, source_id: uuid.UUID, kinds: Sequence[str], collections: Sequence[str]
) -> list[Contradiction]:
    """Return the documents that contradict themselves or their chunks."""
    return fetch_all(
        connection,
        Contradiction,
        _CONTRADICTIONS,
        {"source": source_id, "kinds": list(kinds), "collections": list(collections)},
    )


def misplaced_chunks(connection: Connection, source_id: uuid.UUID) -> list[uuid.UUID]:
    """Return chunks of the source without a document, and chunks recorded under another source than their document."""
    return scalars(
        connection,
        """SELECT c.id FROM document_chunks c LEFT JOIN documents d ON d.id = c.document_id
           WHERE (c.source_uuid = %(source)s AND d.id IS NULL)
             OR (d.source_uuid = %(source)s AND c.source_uuid <> d.source_uuid)""",
        {"source": source_id},
    )


def move_chunks(connection: Connection, source_id: uuid.UUID, chunks: Sequence[uuid.UUID]) -> None:
    """Move chunks to the source of their document. Those without a document are deleted, from Milvus too."""
    connection.execute(
        """DELETE FROM document_chunks c WHERE c.id = ANY(%s)
           AND NOT EXISTS (SELECT FROM documents d WHERE d.id = c.document_id)""",
        [list(chunks)],
    )
    connection.execute(
        "UPDATE document_chunks SET source_uuid = %s WHERE id = ANY(%s)", [source_id, list(chunks)]
    )


def make_pending(
    connection: Connection, documents: Sequence[uuid.UUID], rechunk: Sequence[uuid.UUID]
) -> None:
    """Make the stages repeat their work: all of `documents` get new vectors, those in `rechunk` also new chunks."""
    connection.execute(
        """UPDATE documents SET indexing_status = 'pending', updated_at = now(),
             chunker_fingerprint = CASE WHEN id = ANY(%(rechunk)s) THEN NULL ELSE chunker_fingerprint END,
             processing_status = CASE WHEN processing_status = 'processing' OR id = ANY(%(rechunk)s) THEN 'pending'
               ELSE processing_status END
           WHERE id = ANY(%(documents)s)""",
        {"documents": list(documents), "rechunk": list(rechunk)},
    )
    connection.execute(
        """UPDATE document_chunks SET embedding_status = 'pending', updated_at = now()
           WHERE document_id = ANY(%s) AND embedding_status = 'processing'""",
        [list(documents)],
    )


def void_rows(connection: Connection, collection: str, chunks: Sequence[uuid.UUID]) -> None:
    """Delete the acknowledgements of these chunks: the vector stages write their rows again, from Parquet."""
    connection.execute(
        "DELETE FROM vector_rows WHERE collection = %s AND chunk_id = ANY(%s)",
        [collection, list(chunks)],
    )
    connection.execute(
        """UPDATE documents SET indexing_status = 'pending', updated_at = now() WHERE id IN (
             SELECT document_id FROM document_chunks WHERE id = ANY(%s))""",
        [list(chunks)],
    )
