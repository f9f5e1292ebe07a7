"""Tables `embedding_files` and `embeddings`: which texts are embedded, and where.

An embedding belongs to a text under a model, (model_fingerprint, text_hash): every chunk with this text uses it, in any
document and source.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import LiteralString, NamedTuple

from rag_assets.pipeline.vectors import Kind
from resources.files import WrittenFile
from resources.postgres.bulk_copy import copy_rows
from resources.postgres.connection import Connection, Writer
from resources.postgres.queries import fetch_all, fetch_one, named_row, scalar, scalars
from resources.postgres.scope import SyncScope
from resources.postgres.table_statistics import analyze_if_unknown
from resources.postgres.vectors.collections import Collection
from resources.postgres.vectors.target import Target, is_dirty, is_embeddable, is_in_scope
from resources.postgres.work_table import fill_work_table


@dataclass(frozen=True, slots=True)
class EmbeddingFile:
    """A file as it was recorded after it had been written."""

    id: uuid.UUID
    written: WrittenFile
    row_count: int
    kinds: tuple[Kind, ...]


#: SQL: the columns of `embedding_file()` from embedding_files `f`.
EMBEDDING_FILE_COLUMNS: LiteralString = (
    "f.id, f.path, f.byte_count, f.checksum, f.row_count, f.kinds"
)


def embedding_file(
    *,
    id: uuid.UUID,
    path: str,
    byte_count: int,
    checksum: str,
    row_count: int,
    kinds: Sequence[Kind],
) -> EmbeddingFile:
    return EmbeddingFile(id, WrittenFile(path, byte_count, checksum), row_count, tuple(kinds))


class FileRecord(NamedTuple):
    id: uuid.UUID
    path: str
    byte_count: int
    checksum: str


class TextCounts(NamedTuple):
    """Numbers of distinct texts, and of their characters and tokens."""

    texts: int
    characters: int
    tokens: int


class ChunkOfDocument(NamedTuple):
    document_id: uuid.UUID
    document_key: str
    chunk_id: uuid.UUID


class EmbeddedChunk(NamedTuple):
    """A chunk, and the row of the file that is its embedding."""

    chunk_id: str
    path: str
    row_index: int


def plan_embedding(
    writer: Writer, target: Target, *, batch_chars: int, all_documents: bool = False
) -> int:
    """Fill the work table with each distinct text without an embedding, shortest first. Returns the number of batches.

    Considers the dirty documents; with `all_documents` every chunk that the model did not reject. A text that the model
    rejected is left out. One that failed otherwise, or that is to be tried again, is a batch of its own at the end: it
    would cost its neighbours a second request.
    """
    chosen = is_embeddable("d", "c") if all_documents else is_dirty("d")
    analyze_if_unknown(writer.connection)
    return fill_work_table(
        writer.connection,
        f"""SELECT text_hash, id, dense_rank() OVER (ORDER BY has_failed, part) - 1 AS batch
            FROM (
              SELECT text_hash, id, has_failed, CASE WHEN has_failed
                THEN row_number() OVER (PARTITION BY has_failed ORDER BY char_count, text_hash)
                ELSE (sum(char_count + 64) OVER (PARTITION BY has_failed ORDER BY char_count, text_hash))::bigint
                  / %(batch_chars)s END AS part
              FROM (
                SELECT DISTINCT ON (c.text_hash) c.text_hash, c.id, c.char_count,
                  c.embedding_status = 'failed' AS has_failed
                FROM documents d JOIN document_chunks c ON c.document_id = d.id
                WHERE {chosen} AND NOT EXISTS (
                  SELECT FROM embeddings e WHERE e.model_fingerprint = %(model)s AND e.text_hash = c.text_hash
                  AND e.kinds @> %(kinds)s)
                AND NOT EXISTS (
                  SELECT FROM document_chunks r WHERE r.text_hash = c.text_hash AND r.rejected_as = %(indexed_as)s)
                ORDER BY c.text_hash, has_failed DESC, c.id) AS texts) AS parts""",
        {**target.parameters(), "batch_chars": batch_chars},
    )


def batch_to_embed(connection: Connection, batch: int) -> list[tuple[str, str]]:
    """Return (text hash, text), shortest first. A chunk that was deleted after the plan is left out."""
    return connection.execute(
        """SELECT t.text_hash, c.content FROM pg_temp.todo t JOIN document_chunks c USING (id)
           WHERE t.batch = %s ORDER BY c.char_count, t.text_hash""",
        [batch],
    ).fetchall()


def files_of_pending(connection: Connection, target: Target) -> list[FileRecord]:
    """Return the files that the dirty documents' chunks will be read from."""
    return fetch_all(
        connection,
        FileRecord,
        f"""SELECT id, path, byte_count, checksum FROM embedding_files WHERE id IN (
              SELECT e.file_id FROM documents d JOIN document_chunks c ON c.document_id = d.id
              JOIN embeddings e ON e.model_fingerprint = %(model)s AND e.text_hash = c.text_hash
              WHERE {is_dirty("d")})""",
        target.parameters(),
    )


def files_in_use(
    connection: Connection, model: str, source_id: uuid.UUID | None
) -> list[FileRecord]:
    """Return the files with the embeddings of a source's chunks, or of all sources'."""
    return fetch_all(
        connection,
        FileRecord,
        """SELECT id, path, byte_count, checksum FROM embedding_files WHERE id IN (
             SELECT e.file_id FROM embeddings e JOIN document_chunks c ON c.text_hash = e.text_hash
             WHERE e.model_fingerprint = %(model)s AND (c.source_uuid = %(source)s OR %(source)s IS NULL))
           ORDER BY path""",
        {"model": model, "source": source_id},
    )


def lost_texts(connection: Connection, target: Target, damaged: Sequence[uuid.UUID]) -> TextCounts:
    """Count the texts of a source whose embeddings no file has, apart from the `damaged` files."""
    return fetch_one(
        connection,
        TextCounts,
        f"""SELECT count(*) AS texts, coalesce(sum(char_count), 0)::bigint AS characters,
              coalesce(sum(token_count), 0)::bigint AS tokens
            FROM (
              SELECT DISTINCT ON (c.text_hash) c.char_count, c.token_count
              FROM documents d JOIN document_chunks c ON c.document_id = d.id
              WHERE {is_embeddable("d", "c")} AND NOT EXISTS (
                SELECT FROM embeddings e WHERE e.model_fingerprint = %(model)s AND e.text_hash = c.text_hash
                AND e.kinds @> %(kinds)s AND NOT e.file_id = ANY(%(damaged)s))) AS texts""",
        {**target.parameters(), "damaged": list(damaged)},
    )


def bytes_per_text(connection: Connection, model: str) -> float | None:
    """Return the mean size of a text's embedding in Parquet, or None without a file."""
    return scalar(
        connection,
        "SELECT sum(byte_count)::float8 / sum(row_count) FROM embedding_files WHERE model_fingerprint = %s",
        [model],
    )


def files_of_source(connection: Connection, target: Target) -> list[EmbeddingFile]:
    """Return the files with the embeddings of the source's chunks."""
    return fetch_all(
        connection,
        embedding_file,
        f"""SELECT {EMBEDDING_FILE_COLUMNS} FROM embedding_files f
           WHERE f.id IN (SELECT e.file_id FROM documents d JOIN document_chunks c ON c.document_id = d.id
                          JOIN embeddings e ON e.model_fingerprint = %(model)s AND e.text_hash = c.text_hash
                          WHERE d.source_uuid = %(source)s) ORDER BY f.path""",
        target.parameters(),
    )


def chunks_without_embedding(connection: Connection, target: Target) -> list[ChunkOfDocument]:
    """Return the chunks that are marked as completed and whose text has no embedding."""
    return fetch_all(
        connection,
        ChunkOfDocument,
        """SELECT d.id AS document_id, d.source_key AS document_key, c.id AS chunk_id
           FROM documents d JOIN document_chunks c ON c.document_id = d.id
           LEFT JOIN embeddings e ON e.model_fingerprint = %(model)s AND e.text_hash = c.text_hash
             AND e.kinds @> %(kinds)s
           WHERE d.source_uuid = %(source)s AND c.embedding_status = 'completed' AND e.text_hash IS NULL
           ORDER BY d.source_key, c.position""",
        target.parameters(),
    )


def embedded_chunks(
    connection: Connection, collection: Collection, source_id: uuid.UUID, rows: int
) -> Iterator[list[EmbeddedChunk]]:
    """Yield the chunks of a source that a collection acknowledged, in the order of the files, `rows` at a time."""
    with (
        connection.transaction(),
        connection.cursor("embedded_chunks", row_factory=named_row(EmbeddedChunk)) as cursor,
    ):
        cursor.execute(
            """SELECT c.id::text AS chunk_id, f.path, e.row_index FROM document_chunks c
               JOIN vector_rows r ON r.collection = %s AND r.chunk_id = c.id AND r.row_count > 0
               JOIN embeddings e ON e.model_fingerprint = %s AND e.text_hash = c.text_hash AND %s = ANY(e.kinds)
               JOIN embedding_files f ON f.id = e.file_id
               WHERE c.source_uuid = %s ORDER BY f.path, e.row_index""",
            [collection.name, collection.model, collection.kind, source_id],
        )
        while batch := cursor.fetchmany(rows):
            yield batch


def forget_file(connection: Connection, file_id: uuid.UUID) -> None:
    """Delete the record of a file that is gone or damaged: its texts, of any source, are embedded again."""
    connection.execute(
        """UPDATE documents SET indexing_status = 'pending', updated_at = now()
           WHERE indexing_status = 'completed' AND id IN (
             SELECT c.document_id FROM embeddings e JOIN document_chunks c USING (text_hash) WHERE e.file_id = %s)""",
        [file_id],
    )
    connection.execute("DELETE FROM embedding_files WHERE id = %s", [file_id])


def unrecorded(connection: Connection, paths: Sequence[str]) -> list[str]:
    """Return those of `paths` that no embedding file is recorded under."""
    return scalars(
        connection,
        """SELECT path FROM unnest(%s::text[]) AS listed(path)
           WHERE NOT EXISTS (SELECT FROM embedding_files f WHERE f.path = listed.path)""",
        [list(paths)],
    )


def add_file(
    connection: Connection, model: str, kinds: Sequence[Kind], file: WrittenFile, rows: int
) -> uuid.UUID:
    """Record a file that is in place, without its rows."""
    file_id = uuid.uuid4()
    connection.execute(
        """INSERT INTO embedding_files (id, path, model_fingerprint, kinds, row_count, byte_count, checksum, run)
           VALUES (%s, %s, %s, %s, %s, %s, %s, rag_run())""",
        [file_id, file.path, model, list(kinds), rows, file.byte_count, file.checksum],
    )
    return file_id


def record_file(
    connection: Connection,
    model: str,
    kinds: Sequence[Kind],
    file: WrittenFile,
    text_hashes: Sequence[str],
) -> None:
    """Record a file that is in place, and its rows. `text_hashes`: in the order of the file."""
    file_id = add_file(connection, model, kinds, file, len(text_hashes))
    copy_rows(
        connection,
        "embedded",
        {"text_hash": "text", "row_index": "int4"},
        zip(text_hashes, range(len(text_hashes))),
    )
    # In the order of the key: two writers with common texts must not wait for each other in a circle.
    connection.execute(
        """INSERT INTO embeddings (model_fingerprint, text_hash, file_id, row_index, kinds)
           SELECT %s, text_hash, %s, row_index, %s FROM embedded ORDER BY text_hash
           ON CONFLICT (model_fingerprint, text_hash) DO UPDATE
           SET file_id = excluded.file_id, row_index = excluded.row_index, kinds = excluded.kinds""",
        [model, file_id, list(kinds)],
    )


def count_texts(connection: Connection, scope: SyncScope) -> int:
    """Count the distinct texts of a scope's chunks."""
    return scalar(
        connection,
        f"""SELECT count(DISTINCT c.text_hash) FROM document_chunks c JOIN documents d ON d.id = c.document_id
           WHERE {is_in_scope("d")}""",
        scope.parameters(),
    )


def count_failed_chunks(connection: Connection, scope: SyncScope, collection: str) -> int:
    """Count the chunks of a scope whose embedding failed, without those that a collection has, of another model."""
    return scalar(
        connection,
        f"""SELECT count(*) FROM documents d JOIN document_chunks c ON c.document_id = d.id
           WHERE {is_in_scope("d")} AND d.indexing_status = 'failed' AND c.embedding_status = 'failed'
             AND NOT EXISTS (SELECT FROM vector_rows r WHERE r.collection = %(collection)s AND r.chunk_id = c.id)""",
        {**scope.parameters(), "collection": collection},
    )
