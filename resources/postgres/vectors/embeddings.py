"""Which texts are embedded, and where: tables `embedding_files` and `embeddings`.

An embedding belongs to a text under a model, (model_fingerprint, text_hash): every chunk of that text, in whatever
document or source, uses it.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import LiteralString

from rag_assets.pipeline.vectors import Kind
from resources.files import WrittenFile
from resources.postgres.bulk_copy import copy_rows
from resources.postgres.connection import Connection, Writer
from resources.postgres.scope import SyncScope, in_scope
from resources.postgres.vectors.collections import Collection
from resources.postgres.work_table import fill_work_table


@dataclass(frozen=True, slots=True)
class Target:
    """What the vectors of a source, or of a shard of it, must come from: one model, some kinds."""

    part: SyncScope
    model: str
    kinds: tuple[Kind, ...]

    @property
    def indexed_as(self) -> str:
        return f"{self.model}:{','.join(self.kinds)}"

    def parameters(self) -> dict[str, object]:
        return {
            **self.part.parameters(),
            "model": self.model,
            "kinds": list(self.kinds),
            "indexed_as": self.indexed_as,
        }


@dataclass(frozen=True, slots=True)
class EmbeddingFile:
    """A file as it was recorded when it had been written."""

    id: uuid.UUID
    written: WrittenFile
    row_count: int
    kinds: tuple[Kind, ...]


#: Documents of the part. Spliced into queries as `d`.
OF_PART = in_scope("%(source)s", "d.source_uuid", "d.id")


def _dirty(source: LiteralString) -> LiteralString:
    return f"""{in_scope(source, "d.source_uuid", "d.id")}
  AND (d.indexing_status <> 'completed' OR d.indexed_as IS DISTINCT FROM %(indexed_as)s)"""


#: Documents of the part whose vectors are not known to be right. Spliced into queries as `d`.
DIRTY = _dirty("%(source)s")


def unfinished_documents(source: LiteralString) -> LiteralString:
    """Documents `d` of a source for which something can be done: a dirty one that never had a text stays as it is."""
    return f"""FROM documents d WHERE {_dirty(source)}
             AND (d.char_count > 0 OR EXISTS (SELECT FROM document_chunks c WHERE c.document_id = d.id))"""


#: Chunks of the part that the model did not refuse. Spliced into queries as `d` and `c`.
EMBEDDABLE = f"{OF_PART} AND c.embedding_status <> 'failed'"


def plan_embedding(
    writer: Writer, target: Target, *, batch_chars: int, among: LiteralString = DIRTY
) -> int:
    """Leaves each distinct text that has no embedding in `pg_temp.todo`, shortest first. Returns the batches."""
    return fill_work_table(
        writer.connection,
        f"""SELECT text_hash, id,
              (sum(char_count + 64) OVER (ORDER BY char_count, text_hash))::bigint / %(batch_chars)s AS batch
            FROM (
              SELECT DISTINCT ON (c.text_hash) c.text_hash, c.id, c.char_count
              FROM documents d JOIN document_chunks c ON c.document_id = d.id
              WHERE {among} AND NOT EXISTS (
                SELECT FROM embeddings e WHERE e.model_fingerprint = %(model)s AND e.text_hash = c.text_hash
                AND e.kinds @> %(kinds)s)
              ORDER BY c.text_hash, c.id) AS texts""",
        {**target.parameters(), "batch_chars": batch_chars},
    )


def batch_to_embed(connection: Connection, batch: int) -> list[tuple[str, str]]:
    """(text hash, text), shortest first. A chunk deleted since the plan was made is left out."""
    return connection.execute(
        """SELECT t.text_hash, c.content FROM pg_temp.todo t JOIN document_chunks c USING (id)
           WHERE t.batch = %s ORDER BY c.char_count, t.text_hash""",
        [batch],
    ).fetchall()


def files_of_pending(connection: Connection, target: Target) -> list[tuple[uuid.UUID, str, int]]:
    """(id, path, bytes) of the files that the pending chunks of the source will be read from."""
    return connection.execute(
        f"""SELECT id, path, byte_count FROM embedding_files WHERE id IN (
              SELECT e.file_id FROM documents d JOIN document_chunks c ON c.document_id = d.id
              JOIN embeddings e ON e.model_fingerprint = %(model)s AND e.text_hash = c.text_hash
              WHERE {DIRTY})""",  # pyright: ignore[reportArgumentType]
        target.parameters(),
    ).fetchall()


def files_in_use(
    connection: Connection, model: str, source_id: uuid.UUID | None
) -> list[tuple[uuid.UUID, str, int, str]]:
    """(id, path, bytes, checksum) of the files that hold the texts of a source's chunks, or of all sources'."""
    return connection.execute(
        """SELECT id, path, byte_count, checksum FROM embedding_files WHERE id IN (
             SELECT e.file_id FROM embeddings e JOIN document_chunks c ON c.text_hash = e.text_hash
             WHERE e.model_fingerprint = %(model)s AND (c.source_uuid = %(source)s OR %(source)s IS NULL))
           ORDER BY path""",
        {"model": model, "source": source_id},
    ).fetchall()


def lost_texts(
    connection: Connection, target: Target, damaged: Sequence[uuid.UUID]
) -> tuple[int, int, int]:
    """(texts, characters, tokens) of a source whose embeddings no file has, those of `damaged` files aside."""
    row = connection.execute(
        f"""SELECT count(*), coalesce(sum(char_count), 0)::bigint, coalesce(sum(token_count), 0)::bigint FROM (
              SELECT DISTINCT ON (c.text_hash) c.char_count, c.token_count
              FROM documents d JOIN document_chunks c ON c.document_id = d.id
              WHERE {EMBEDDABLE} AND NOT EXISTS (
                SELECT FROM embeddings e WHERE e.model_fingerprint = %(model)s AND e.text_hash = c.text_hash
                AND e.kinds @> %(kinds)s AND NOT e.file_id = ANY(%(damaged)s))) AS texts""",
        {**target.parameters(), "damaged": list(damaged)},
    ).fetchone()
    assert row is not None
    return row


def bytes_a_text(connection: Connection, model: str) -> float | None:
    """What a text's embedding takes in Parquet, by the files that there are."""
    row = connection.execute(
        "SELECT sum(byte_count)::float8 / sum(row_count) FROM embedding_files WHERE model_fingerprint = %s",
        [model],
    ).fetchone()
    return row[0] if row else None


def files_of_source(connection: Connection, target: Target) -> list[EmbeddingFile]:
    """The files that hold the embeddings of the source's chunks."""
    rows = connection.execute(
        """SELECT f.id, f.path, f.byte_count, f.checksum, f.row_count, f.kinds FROM embedding_files f
           WHERE f.id IN (SELECT e.file_id FROM documents d JOIN document_chunks c ON c.document_id = d.id
                          JOIN embeddings e ON e.model_fingerprint = %(model)s AND e.text_hash = c.text_hash
                          WHERE d.source_uuid = %(source)s) ORDER BY f.path""",
        target.parameters(),
    )
    return [
        EmbeddingFile(file_id, WrittenFile(path, size, checksum), rows, tuple(kinds))
        for file_id, path, size, checksum, rows, kinds in rows
    ]


def without_embedding(
    connection: Connection, target: Target
) -> list[tuple[uuid.UUID, str, uuid.UUID]]:
    """(document, its key, chunk) of chunks that are said to be completed and whose text has no embedding."""
    return connection.execute(
        """SELECT d.id, d.source_key, c.id FROM documents d JOIN document_chunks c ON c.document_id = d.id
           LEFT JOIN embeddings e ON e.model_fingerprint = %(model)s AND e.text_hash = c.text_hash
             AND e.kinds @> %(kinds)s
           WHERE d.source_uuid = %(source)s AND c.embedding_status = 'completed' AND e.text_hash IS NULL
           ORDER BY d.source_key, c.position""",
        target.parameters(),
    ).fetchall()


def embedded_chunks(
    connection: Connection, collection: Collection, source_id: uuid.UUID, rows: int
) -> Iterator[list[tuple[str, str, int]]]:
    """(chunk, file, row in it) of what a collection acknowledged of a source, in the order of the files, so many rows
    at a time."""
    with connection.transaction(), connection.cursor(name="embedded_chunks") as cursor:
        cursor.execute(
            """SELECT c.id::text, f.path, e.row_index FROM document_chunks c
               JOIN vector_rows r ON r.collection = %s AND r.chunk_id = c.id AND r.row_count > 0
               JOIN embeddings e ON e.model_fingerprint = %s AND e.text_hash = c.text_hash AND %s = ANY(e.kinds)
               JOIN embedding_files f ON f.id = e.file_id
               WHERE c.source_uuid = %s ORDER BY f.path, e.row_index""",
            [collection.name, collection.model, collection.kind, source_id],
        )
        while batch := cursor.fetchmany(rows):
            yield batch


def forget_file(connection: Connection, file_id: uuid.UUID) -> None:
    """A recorded file that is gone or damaged: its texts are to be embedded again, whosever they are."""
    connection.execute(
        """UPDATE documents SET indexing_status = 'pending' WHERE indexing_status = 'completed' AND id IN (
             SELECT c.document_id FROM embeddings e JOIN document_chunks c USING (text_hash) WHERE e.file_id = %s)""",
        [file_id],
    )
    connection.execute("DELETE FROM embedding_files WHERE id = %s", [file_id])


def unrecorded(connection: Connection, paths: Sequence[str]) -> list[str]:
    """Those of `paths` that no embedding file is recorded under."""
    rows = connection.execute(
        """SELECT path FROM unnest(%s::text[]) AS given(path)
           WHERE NOT EXISTS (SELECT FROM embedding_files f WHERE f.path = given.path)""",
        [list(paths)],
    )
    return [path for (path,) in rows]


def add_file(
    connection: Connection, model: str, kinds: Sequence[Kind], file: WrittenFile, rows: int
) -> uuid.UUID:
    """Records a file that is in place, and nothing of what is in it."""
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
    """Records a file that is in place. Rows in the order of the file."""
    file_id = add_file(connection, model, kinds, file, len(text_hashes))
    copy_rows(
        connection,
        "embedded",
        {"text_hash": "text", "row_index": "int4"},
        zip(text_hashes, range(len(text_hashes))),
    )
    # In the order of the key: two sources with common texts must not wait for each other in a circle.
    connection.execute(
        """INSERT INTO embeddings (model_fingerprint, text_hash, file_id, row_index, kinds)
           SELECT %s, text_hash, %s, row_index, %s FROM embedded ORDER BY text_hash
           ON CONFLICT (model_fingerprint, text_hash) DO UPDATE
           SET file_id = excluded.file_id, row_index = excluded.row_index, kinds = excluded.kinds""",
        [model, file_id, list(kinds)],
    )


def record_failures(
    connection: Connection, source_id: uuid.UUID, reasons: Mapping[str, str]
) -> None:
    """Marks the chunks of texts that could not be embedded (text hash -> reason), and their documents."""
    copy_rows(connection, "unembedded", {"text_hash": "text", "reason": "text"}, reasons.items())
    connection.execute(
        """WITH failed AS (
             UPDATE document_chunks c SET embedding_status = 'failed', embedding_error = u.reason, updated_at = now()
             FROM unembedded u WHERE c.source_uuid = %s AND c.text_hash = u.text_hash RETURNING c.document_id)
           UPDATE documents SET indexing_status = 'failed', updated_at = now()
           WHERE id IN (SELECT document_id FROM failed)""",
        [source_id],
    )


def count_texts(connection: Connection, part: SyncScope) -> int:
    """Distinct texts of a part's chunks."""
    row = connection.execute(
        f"""SELECT count(DISTINCT c.text_hash) FROM document_chunks c JOIN documents d ON d.id = c.document_id
           WHERE {OF_PART}""",
        part.parameters(),
    ).fetchone()
    assert row is not None
    return row[0]
