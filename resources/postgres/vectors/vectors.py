"""What Milvus holds, as far as PostgreSQL knows: acknowledged rows, and the outbox of deletions."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import LiteralString

import psycopg

from rag_assets.pipeline.vectors import Kind
from resources.postgres.connection import Connection, Writer
from resources.postgres.scope import SyncScope, in_scope
from resources.postgres.vectors.collections import Collection
from resources.postgres.vectors.embeddings import DIRTY, Target, unfinished_documents
from resources.postgres.work_table import fill_work_table

#: The fingerprint that a chunk's rows must have now. Spliced into queries with `c`, `d` and `s` in scope.
FINGERPRINT = """rag_row_fingerprint(%(model)s, c.text_hash, d.id, d.source_type, s.name,
                                     coalesce(c.language, d.language), c.position, d.created_at, c.chunk_type,
                                     d.author, d.category, d.filter_tags)"""


#: Outbox entries claimed at a time.
CLAIMED = 1000


@dataclass(frozen=True, slots=True)
class VectorRow:
    """What a row in Milvus says besides its vector, and where that vector is kept."""

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


#: What is set on a chunk `u` that every kind of collection holds.
COMPLETED = """embedding_status = 'completed', embedding_error = NULL, embedded_at = now(),
  dense_vector_id = CASE WHEN 'dense' = ANY(%(kinds)s) THEN u.id || '_dense' END,
  sparse_vector_id = CASE WHEN 'sparse' = ANY(%(kinds)s) THEN u.id || '_sparse' END,
  multi_vector_id = CASE WHEN 'multi' = ANY(%(kinds)s) THEN u.id || '_multi' END"""


def outbox(source: LiteralString) -> LiteralString:
    """What must leave the collections of %(kind)s, of a part of a source."""
    part = in_scope(source, "v.source_uuid", "coalesce(v.document_id, v.chunk_id)")
    return f"FROM vector_deletions v WHERE {part} AND v.kind = %(kind)s"


def pending_deletions(
    connection: Connection, part: SyncScope, kind: Kind
) -> tuple[list[int], dict[uuid.UUID, int | None]]:
    """Claims a batch of the outbox for this transaction: (outbox ids, chunks that no longer exist -> their rows).

    A chunk that lives again is claimed but not among the second: its row will be overwritten, not deleted.
    """
    rows = connection.execute(
        f"""SELECT v.id, v.chunk_id, v.row_count, EXISTS (SELECT FROM document_chunks c WHERE c.id = v.chunk_id)
           {outbox("%(source)s")} ORDER BY v.id LIMIT %(limit)s FOR UPDATE OF v SKIP LOCKED""",
        {**part.parameters(), "kind": kind, "limit": CLAIMED},
    ).fetchall()
    return [row[0] for row in rows], {row[1]: row[2] for row in rows if not row[3]}


def confirm_deletions(connection: Connection, outbox_ids: Sequence[int]) -> None:
    connection.execute("DELETE FROM vector_deletions WHERE id = ANY(%s)", [list(outbox_ids)])


def abandoned_deletions(connection: Connection) -> list[tuple[uuid.UUID, Kind]]:
    """Outbox entries of sources that no longer exist: no sync will come for them."""
    return connection.execute(
        """SELECT DISTINCT source_uuid, kind FROM vector_deletions v
           WHERE NOT EXISTS (SELECT FROM sources s WHERE s.id = v.source_uuid)"""
    ).fetchall()


def plan_vectors(
    writer: Writer,
    target: Target,
    collection: str,
    *,
    batch_rows: int,
    among: LiteralString = DIRTY,
) -> int:
    """Leaves the chunks whose row in the collection is missing or not known to be right in `pg_temp.todo`.

    `among`: the documents that are looked at, OF_PART for all.
    """
    return fill_work_table(
        writer.connection,
        f"""SELECT id, row_fingerprint, path, row_index, document_id, source_type, source, language, position,
              created_at, chunk_type, author, category, tags, replaces,
              (row_number() OVER (ORDER BY file_id, row_index, id) - 1) / %(batch_rows)s AS batch
            FROM (
              SELECT c.id, {FINGERPRINT} AS row_fingerprint, e.file_id, f.path, e.row_index, d.id AS document_id,
                d.source_type, s.name AS source, coalesce(c.language, d.language) AS language, c.position, d.created_at,
                c.chunk_type, d.author, d.category, d.filter_tags AS tags,
                r.chunk_id IS NOT NULL AS replaces, r.row_fingerprint AS acknowledged
              FROM documents d JOIN sources s ON s.id = d.source_uuid JOIN document_chunks c ON c.document_id = d.id
              JOIN embeddings e ON e.model_fingerprint = %(model)s AND e.text_hash = c.text_hash
                AND e.kinds @> %(kinds)s
              JOIN embedding_files f ON f.id = e.file_id
              LEFT JOIN vector_rows r ON r.collection = %(collection)s AND r.chunk_id = c.id
              WHERE {among}) AS wanted
            WHERE acknowledged IS DISTINCT FROM row_fingerprint""",
        {**target.parameters(), "collection": collection, "batch_rows": batch_rows},
    )


def batch_of_vectors(connection: Connection, batch: int) -> tuple[list[VectorRow], int]:
    """The rows of a batch in file order, and how many of them replace an acknowledged row."""
    rows = connection.execute(
        """SELECT id, row_fingerprint, path, row_index, document_id, source_type, source, language, position,
             created_at, chunk_type, author, category, tags, replaces
           FROM pg_temp.todo WHERE batch = %s ORDER BY path, row_index, id""",
        [batch],
    ).fetchall()
    return [VectorRow(*row[:-1]) for row in rows], sum(row[-1] for row in rows)


def void_acknowledgements(connection: Connection, collection: str, batch: int) -> None:
    """Forgets what Milvus acknowledged of a batch that is about to be written: each row may then be old or new.

    Were it kept, an edit that is reverted after a crash between upsert and acknowledgement would look done.
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
    """Records that Milvus holds the rows of a batch, `rows[i]` rows for the i-th chunk of `batch_of_vectors`.

    Of a chunk that was deleted meanwhile the deletion is ordered once more: where the whole source was removed, the
    first order may have been carried out before the upsert.
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
    """Whether any document of the source is not known to be right, and can be made so."""
    row = connection.execute(
        f"SELECT EXISTS (SELECT {unfinished_documents('%(source)s')})",
        target.parameters(),
    ).fetchone()
    assert row is not None
    return row[0]


def complete_chunks(
    connection: Connection, target: Target, names: Sequence[str], batch: int
) -> None:
    """Marks the chunks of a batch that every collection of `names` holds as this batch's rows say."""
    connection.execute(
        f"""UPDATE document_chunks u SET {COMPLETED}
           FROM (SELECT t.id FROM pg_temp.todo t JOIN vector_rows r ON r.collection = ANY(%(collections)s)
                   AND r.chunk_id = t.id AND r.row_fingerprint = t.row_fingerprint
                 WHERE t.batch = %(batch)s GROUP BY t.id HAVING count(*) = %(count)s) AS held
           WHERE u.id = held.id""",
        {**target.parameters(), "collections": list(names), "count": len(names), "batch": batch},
    )


def complete_documents(connection: Connection, target: Target, names: Sequence[str]) -> int:
    """Marks chunks whose rows are right in all collections `names`, and the documents all of whose chunks are.

    Returns how many documents became complete.
    """
    parameters = {**target.parameters(), "collections": list(names), "count": len(names)}
    _learn_sizes(connection)
    connection.execute("DROP TABLE IF EXISTS pg_temp.held")
    psycopg.ClientCursor(connection).execute(
        f"""CREATE TEMPORARY TABLE held AS
            SELECT c.id, c.document_id FROM documents d JOIN sources s ON s.id = d.source_uuid
            JOIN document_chunks c ON c.document_id = d.id
            JOIN vector_rows r ON r.collection = ANY(%(collections)s) AND r.chunk_id = c.id
              AND r.row_fingerprint = {FINGERPRINT}
            WHERE {DIRTY} GROUP BY c.id HAVING count(*) = %(count)s""",  # pyright: ignore[reportArgumentType]
        parameters,
    )
    connection.execute("ANALYZE pg_temp.held")
    connection.execute(
        f"""UPDATE document_chunks u SET {COMPLETED}
           FROM held
           WHERE u.id = held.id AND (u.embedding_status <> 'completed'
             OR u.dense_vector_id IS DISTINCT FROM CASE WHEN 'dense' = ANY(%(kinds)s) THEN u.id || '_dense' END
             OR u.sparse_vector_id IS DISTINCT FROM CASE WHEN 'sparse' = ANY(%(kinds)s) THEN u.id || '_sparse' END
             OR u.multi_vector_id IS DISTINCT FROM CASE WHEN 'multi' = ANY(%(kinds)s) THEN u.id || '_multi' END)""",
        parameters,
    )
    return connection.execute(
        f"""UPDATE documents u SET indexing_status = 'completed', indexed_at = now(), indexed_as = %(indexed_as)s,
              indexed_run = rag_run()
            FROM (
              SELECT d.id FROM documents d
              LEFT JOIN (SELECT document_id, count(*) AS n FROM pg_temp.held GROUP BY 1) AS h ON h.document_id = d.id
              LEFT JOIN (SELECT c.document_id, count(*) AS n FROM documents d
                         JOIN document_chunks c ON c.document_id = d.id WHERE {DIRTY} GROUP BY 1) AS l
                ON l.document_id = d.id
              WHERE {DIRTY} AND d.char_count > 0 AND d.chunker_fingerprint IS NOT NULL
                AND coalesce(h.n, 0) = coalesce(l.n, 0)) AS done
            WHERE u.id = done.id""",  # pyright: ignore[reportArgumentType]
        parameters,
    ).rowcount


def _learn_sizes(connection: Connection) -> None:
    """After a first load PostgreSQL knows no numbers yet, and would walk the chunks once a document; later it learns by
    itself, in time for all but a table that has doubled since."""
    columns = {"vector_rows": "", "document_chunks": " (id, document_id, text_hash, source_uuid)"}
    unknown = connection.execute(
        """SELECT relname FROM pg_class WHERE oid = ANY(%s::regclass[])
             AND (reltuples < 0 OR pg_relation_size(oid) > 2 * relpages * current_setting('block_size')::bigint)""",
        [list(columns)],
    ).fetchall()
    for (table,) in unknown:
        connection.execute(f"ANALYZE {table}{columns[table]}")  # pyright: ignore[reportArgumentType, reportCallIssue]


def claimed_rows(connection: Connection, collection: Collection, source_id: uuid.UUID) -> int:
    """How many rows of a source the collection acknowledged."""
    row = connection.execute(
        """SELECT coalesce(sum(r.row_count), 0)::bigint FROM document_chunks c
           JOIN vector_rows r ON r.collection = %s AND r.chunk_id = c.id WHERE c.source_uuid = %s""",
        [collection.name, source_id],
    ).fetchone()
    assert row is not None
    return row[0]


def claims_in_range(
    connection: Connection, collection: Collection, source_id: uuid.UUID, lower: int, upper: int
) -> list[tuple[str, str, int]]:
    """(chunk, fingerprint, rows) that Milvus must hold of a source, for chunks whose first 32 bits are in the range."""
    # The chunk as text: PostgreSQL writes it four times as fast as Python.
    return connection.execute(
        f"""SELECT id::text, fingerprint, row_count FROM ({_CLAIMS}
              WHERE d.source_uuid = %(source)s AND c.id BETWEEN %(lower)s AND %(upper)s
                AND r.chunk_id IS NOT NULL AND r.row_count > 0) AS claims""",  # pyright: ignore[reportArgumentType]
        {
            "collection": collection.name,
            "model": collection.model,
            "source": source_id,
            "lower": uuid.UUID(int=lower << 96),
            "upper": uuid.UUID(int=(upper << 96) - 1),
        },
    ).fetchall()


def claims_of_chunks(
    connection: Connection, collection: Collection, chunks: Sequence[uuid.UUID]
) -> dict[uuid.UUID, tuple[str | None, int, datetime | None]]:
    """chunk -> (fingerprint, rows, acknowledged at) for those of `chunks` that exist now."""
    rows = connection.execute(
        f"{_CLAIMS} WHERE c.id = ANY(%(chunks)s)",  # pyright: ignore[reportArgumentType]
        {"collection": collection.name, "model": collection.model, "chunks": list(chunks)},
    ).fetchall()
    return {chunk: (fingerprint, count, at) for chunk, fingerprint, count, at in rows}


def leaving_chunks(
    connection: Connection, kind: Kind, chunks: Sequence[uuid.UUID]
) -> set[uuid.UUID]:
    """Those of `chunks` whose deletion waits in the outbox."""
    rows = connection.execute(
        "SELECT chunk_id FROM vector_deletions WHERE kind = %s AND chunk_id = ANY(%s)",
        [kind, list(chunks)],
    )
    return {row[0] for row in rows}


#: A complete document's rows must say what it says now; one in work may still have the rows it had.
_CLAIMS = f"""SELECT c.id,
    CASE WHEN r.chunk_id IS NULL THEN NULL WHEN d.indexing_status = 'completed' THEN {FINGERPRINT}
      ELSE r.row_fingerprint END AS fingerprint,
    coalesce(r.row_count, 0) AS row_count, r.acknowledged_at
  FROM document_chunks c JOIN documents d ON d.id = c.document_id JOIN sources s ON s.id = d.source_uuid
  LEFT JOIN vector_rows r ON r.collection = %(collection)s AND r.chunk_id = c.id"""
