"""What a repair changes in PostgreSQL: acknowledgements that are not true, and statuses that contradict each other.

Nothing is declared right here: what is doubtful becomes pending, and the stages make it right.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from resources.postgres.connection import Connection

#: Documents of a source whose statuses, counts or chunks cannot all be true. `rechunk`: their chunks are in doubt too.
_CONTRADICTIONS = """
  SELECT d.id, d.source_key,
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
) -> list[tuple[uuid.UUID, str, bool]]:
    """(document, key, whether its chunks are in doubt) of documents that contradict themselves or their chunks."""
    return connection.execute(
        _CONTRADICTIONS,
        {"source": source_id, "kinds": list(kinds), "collections": list(collections)},
    ).fetchall()


def misplaced_chunks(connection: Connection, source_id: uuid.UUID) -> list[uuid.UUID]:
    """Chunks of the source that no document has, or that are said to be of another source than their document."""
    rows = connection.execute(
        """SELECT c.id FROM document_chunks c LEFT JOIN documents d ON d.id = c.document_id
           WHERE (c.source_uuid = %(source)s AND d.id IS NULL)
             OR (d.source_uuid = %(source)s AND c.source_uuid <> d.source_uuid)""",
        {"source": source_id},
    )
    return [row[0] for row in rows]


def move_chunks(connection: Connection, source_id: uuid.UUID, chunks: Sequence[uuid.UUID]) -> None:
    """Gives chunks to the source of their document; those without a document are deleted, from Milvus too."""
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
    """Has the stages do the documents' work again: all of `documents` their vectors, `rechunk` their chunks too."""
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
    """Forgets that Milvus holds the rows of these chunks: the vector stages write them anew, from Parquet."""
    connection.execute(
        "DELETE FROM vector_rows WHERE collection = %s AND chunk_id = ANY(%s)",
        [collection, list(chunks)],
    )
    connection.execute(
        """UPDATE documents SET indexing_status = 'pending' WHERE id IN (
             SELECT document_id FROM document_chunks WHERE id = ANY(%s))""",
        [list(chunks)],
    )
