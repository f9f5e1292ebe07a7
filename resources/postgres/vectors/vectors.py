"""Table `vector_rows`: the rows that Milvus acknowledged. The stages plan, acknowledge and complete with it."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import LiteralString, NamedTuple

import psycopg

from resources.postgres.connection import Connection, Writer
from resources.postgres.documents.row_fingerprint import row_fingerprint
from resources.postgres.queries import fetch_all, scalar
from resources.postgres.table_statistics import analyze_if_unknown
from resources.postgres.vectors.target import Target, is_dirty, is_in_scope, unfinished_documents
from resources.postgres.work_table import fill_work_table


class VectorRow(NamedTuple):
    """A row to write to Milvus: its fields besides the vector, and the place of that vector.

    `replaces`: the collection has acknowledged another row of this chunk.
    """

    chunk_id: uuid.UUID
    row_fingerprint: str
    path: str
    row_index: int
    document_id: uuid.UUID
    source_type: str
    source: str
    language: str | None
    position: int
    created_at: datetime
    chunk_type: str
    author: str | None
    category: str | None
    tags: list[str]
    replaces: bool


def _set_completed(chunk: LiteralString) -> LiteralString:
    """SQL: the SET clause for a chunk, by its alias, whose rows every kind's collection acknowledged."""
    return f"""embedding_status = 'completed', embedding_error = NULL, rejected_as = NULL, embedded_at = now(),
      updated_at = now(),
      dense_vector_id = CASE WHEN 'dense' = ANY(%(kinds)s) THEN {chunk}.id || '_dense' END,
      sparse_vector_id = CASE WHEN 'sparse' = ANY(%(kinds)s) THEN {chunk}.id || '_sparse' END,
      multi_vector_id = CASE WHEN 'multi' = ANY(%(kinds)s) THEN {chunk}.id || '_multi' END"""


def plan_vectors(
    writer: Writer,
    target: Target,
    collection: str,
    *,
    batch_rows: int,
    all_documents: bool = False,
) -> int:
    """Fill the work table with the chunks whose row in the collection is missing or may be wrong.

    Considers the dirty documents, or all of the scope. Returns the number of batches.
    """
    chosen = is_in_scope("d") if all_documents else is_dirty("d")
    analyze_if_unknown(writer.connection)
    return fill_work_table(
        writer.connection,
        f"""SELECT id, row_fingerprint, path, row_index, document_id, source_type, source, language, position,
              created_at, chunk_type, author, category, tags, replaces,
              (row_number() OVER (ORDER BY file_id, row_index, id) - 1) / %(batch_rows)s AS batch
            FROM (
              SELECT c.id, {row_fingerprint("c", "d", "s")} AS row_fingerprint,
                e.file_id, f.path, e.row_index, d.id AS document_id, d.source_type, s.name AS source,
                coalesce(c.language, d.language) AS language, c.position, d.created_at, c.chunk_type,
                d.author, d.category, d.filter_tags AS tags,
                r.chunk_id IS NOT NULL AS replaces, r.row_fingerprint AS acknowledged
              FROM documents d JOIN sources s ON s.id = d.source_uuid JOIN document_chunks c ON c.document_id = d.id
              JOIN embeddings e ON e.model_fingerprint = %(model)s AND e.text_hash = c.text_hash
                AND e.kinds @> %(kinds)s
              JOIN embedding_files f ON f.id = e.file_id
              LEFT JOIN vector_rows r ON r.collection = %(collection)s AND r.chunk_id = c.id
              WHERE {chosen}) AS required
            WHERE acknowledged IS DISTINCT FROM row_fingerprint""",
        {**target.parameters(), "collection": collection, "batch_rows": batch_rows},
    )


def batch_of_vectors(connection: Connection, batch: int) -> tuple[list[VectorRow], int]:
    """Return the rows of a batch in file order, and how many of them replace an acknowledged row."""
    rows = fetch_all(
        connection,
        VectorRow,
        """SELECT id AS chunk_id, row_fingerprint, path, row_index, document_id, source_type, source, language,
             position, created_at, chunk_type, author, category, tags, replaces
           FROM pg_temp.todo WHERE batch = %s ORDER BY path, row_index, id""",
        [batch],
    )
    return rows, sum(row.replaces for row in rows)


def void_acknowledgements(connection: Connection, collection: str, batch: int) -> None:
    """Delete the acknowledgements of a batch that is about to be written: its rows may then be old or new.

    With them, an edit that is reverted after a crash between upsert and acknowledgement would count as done.
    """
    connection.execute(
        """DELETE FROM vector_rows r USING pg_temp.todo t
           WHERE t.batch = %s AND t.replaces AND r.collection = %s AND r.chunk_id = t.id""",
        [batch, collection],
    )


def acknowledge(
    writer: Writer,
    connection: Connection,
    source_id: uuid.UUID,
    collection: str,
    batch: int,
    rows: Sequence[int],
) -> None:
    """Record that Milvus has the rows of a batch, `rows[i]` rows for the i-th chunk of `batch_of_vectors`.

    A chunk that was deleted since the plan enters the outbox again: if its source was removed, the first entry may have
    been drained before the upsert.
    """
    connection.execute(
        """WITH written AS (
             SELECT id, document_id, row_fingerprint,
               (%(counts)s::int[])[row_number() OVER (ORDER BY path, row_index, id)] AS row_count
             FROM pg_temp.todo WHERE batch = %(batch)s),
           ordered AS (
             INSERT INTO vector_deletions (source_uuid, document_id, kind, chunk_id, row_count)
             SELECT %(source)s, w.document_id, v.kind, w.id, w.row_count FROM written w, vector_collections v
             WHERE v.name = %(collection)s AND NOT EXISTS (SELECT FROM document_chunks c WHERE c.id = w.id))
           INSERT INTO vector_rows (collection, chunk_id, row_fingerprint, row_count, epoch)
           SELECT %(collection)s, w.id, w.row_fingerprint, w.row_count, %(epoch)s
           FROM written w JOIN document_chunks c USING (id)
           ON CONFLICT (collection, chunk_id) DO UPDATE SET row_fingerprint = excluded.row_fingerprint,
             row_count = excluded.row_count, epoch = excluded.epoch, acknowledged_at = now()""",
        {
            "source": source_id,
            "collection": collection,
            "epoch": writer.epoch,
            "batch": batch,
            "counts": list(rows),
        },
    )


def has_unfinished(connection: Connection, target: Target) -> bool:
    """Return whether a dirty document of the scope has work to do."""
    return scalar(
        connection,
        f"SELECT EXISTS (SELECT {unfinished_documents('%(source)s')})",
        target.parameters(),
    )


def complete_chunks(
    connection: Connection, target: Target, names: Sequence[str], batch: int
) -> None:
    """Complete the chunks of a batch for which every collection of `names` acknowledged this batch's rows."""
    connection.execute(
        f"""UPDATE document_chunks u SET {_set_completed("u")}
           FROM (SELECT t.id FROM pg_temp.todo t
                 -- Not a join, for which PostgreSQL would read the whole table in each batch.
                 WHERE t.batch = %(batch)s AND %(count)s = (
                   SELECT count(*) FROM vector_rows r WHERE r.chunk_id = t.id
                     AND r.collection = ANY(%(collections)s) AND r.row_fingerprint = t.row_fingerprint)) AS right_chunks
           WHERE u.id = right_chunks.id""",
        {**target.parameters(), "collections": list(names), "count": len(names), "batch": batch},
    )


def complete_documents(connection: Connection, target: Target, names: Sequence[str]) -> int:
    """Complete the chunks whose rows are right in all collections `names`, and the documents with only such chunks.

    Returns the number of completed documents.
    """
    parameters = {**target.parameters(), "collections": list(names), "count": len(names)}
    analyze_if_unknown(connection)
    connection.execute("DROP TABLE IF EXISTS pg_temp.right_chunks")
    psycopg.ClientCursor(connection).execute(
        f"""CREATE TEMPORARY TABLE right_chunks AS
            SELECT c.id, c.document_id FROM documents d JOIN sources s ON s.id = d.source_uuid
            JOIN document_chunks c ON c.document_id = d.id
            JOIN vector_rows r ON r.collection = ANY(%(collections)s) AND r.chunk_id = c.id
              AND r.row_fingerprint = {row_fingerprint("c", "d", "s")}
            WHERE {is_dirty("d")} GROUP BY c.id HAVING count(*) = %(count)s""",
        parameters,
    )
    connection.execute("ANALYZE pg_temp.right_chunks")
    connection.execute(
        f"""UPDATE document_chunks u SET {_set_completed("u")}
           FROM right_chunks r
           WHERE u.id = r.id AND (u.embedding_status <> 'completed'
             OR u.dense_vector_id IS DISTINCT FROM CASE WHEN 'dense' = ANY(%(kinds)s) THEN u.id || '_dense' END
             OR u.sparse_vector_id IS DISTINCT FROM CASE WHEN 'sparse' = ANY(%(kinds)s) THEN u.id || '_sparse' END
             OR u.multi_vector_id IS DISTINCT FROM CASE WHEN 'multi' = ANY(%(kinds)s) THEN u.id || '_multi' END)""",
        parameters,
    )
    return connection.execute(
        f"""UPDATE documents u SET indexing_status = 'completed', indexed_at = now(), indexed_as = %(indexed_as)s,
              indexed_run = rag_run(), updated_at = now(),
              error_message = CASE WHEN u.processing_status = 'failed' THEN u.error_message END
            FROM (
              SELECT d.id FROM documents d
              LEFT JOIN (SELECT document_id, count(*) AS n FROM pg_temp.right_chunks GROUP BY 1) AS r
                ON r.document_id = d.id
              LEFT JOIN (SELECT c.document_id, count(*) AS n FROM documents d
                         JOIN document_chunks c ON c.document_id = d.id WHERE {is_dirty("d")} GROUP BY 1) AS l
                ON l.document_id = d.id
              WHERE {is_dirty("d")} AND d.char_count > 0 AND d.chunker_fingerprint IS NOT NULL
                AND coalesce(r.n, 0) = coalesce(l.n, 0)) AS done
            WHERE u.id = done.id""",
        parameters,
    ).rowcount
