"""Table `document_chunks`: the chunks of each document. Only rows that differ are written."""

from __future__ import annotations

import uuid
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from typing import LiteralString, NamedTuple

from rag_assets.pipeline.chunking import Chunk
from rag_assets.pipeline.identity import chunk_id, text_hash
from rag_assets.pipeline.plan import Plan
from resources.postgres.bulk_copy import copy_rows
from resources.postgres.connection import Connection, Writer
from resources.postgres.queries import fetch_all, scalar
from resources.postgres.scope import SyncScope, in_scope
from resources.postgres.work_table import fill_work_table

#: Characters of text split at a time. Each document counts 4,000 more, so a batch has at most 1,000 documents.
BATCH_CHARS = 4_000_000
_DOCUMENT_CHARS = 4_000

_CHUNK_COLUMNS: Mapping[str, LiteralString] = {
    "id": "uuid",
    "document_id": "uuid",
    "content": "text",
    "chunk_type": "text",
    "position": "int4",
    "section_title": "text",
    "hierarchy_level": "int4",
    "parent_chunk_id": "uuid",
    "token_count": "int4",
    "char_count": "int4",
    "source_uuid": "uuid",
    "text_hash": "text",
    "page": "int4",
    "language": "text",
}


def documents_to_split(source: LiteralString, chunker: LiteralString) -> LiteralString:
    """SQL: FROM documents of the scope whose text was not split by this chunker."""
    return f"""FROM documents WHERE {in_scope(source, "source_uuid", "id")} AND char_count > 0
             AND chunker_fingerprint IS DISTINCT FROM {chunker}"""


def plan_chunking(writer: Writer, scope: SyncScope, chunker_fingerprint: str) -> int:
    """Fill the work table with the documents to split. Returns the number of batches."""
    return fill_work_table(
        writer.connection,
        f"""SELECT id, (sum(char_count + %(document_chars)s) OVER (ORDER BY id))::bigint / %(batch_chars)s AS batch
           {documents_to_split("%(source)s", "%(chunker)s")}""",
        {
            **scope.parameters(),
            "chunker": chunker_fingerprint,
            "document_chars": _DOCUMENT_CHARS,
            "batch_chars": BATCH_CHARS,
        },
    )


class ToChunk(NamedTuple):
    """A document's text, and the values that its chunks inherit. `page_starts`: offsets of its pages, if it has any."""

    id: uuid.UUID
    text: str
    markdown: bool
    language: str | None
    page_starts: list[int] | None


def batch_to_chunk(connection: Connection, batch: int) -> list[ToChunk]:
    return fetch_all(
        connection,
        ToChunk,
        """SELECT d.id, d.content AS text, d.is_markdown AS markdown, d.language,
             d.metadata->'page_starts' AS page_starts
           FROM pg_temp.todo t JOIN documents d USING (id) WHERE t.batch = %s ORDER BY d.id""",
        [batch],
    )


def chunk_rows(
    source_id: uuid.UUID,
    document: ToChunk,
    chunks: Sequence[Chunk],
    languages: Sequence[str | None],
) -> list[tuple[object, ...]]:
    """Return the rows of one document's chunks. The occurrence number distinguishes equal texts within the document.

    `languages`: of each chunk, None where it is the document's.
    """
    pages = document.page_starts
    seen: dict[str, int] = {}
    ids: list[uuid.UUID] = []
    hashes: list[str] = []
    for chunk in chunks:
        digest = text_hash(chunk.content)
        occurrence = seen.get(digest, 0)
        seen[digest] = occurrence + 1
        ids.append(chunk_id(document.id, digest, occurrence))
        hashes.append(digest)
    return [
        (
            ids[index],
            document.id,
            chunk.content,
            chunk.chunk_type,
            chunk.position,
            chunk.section_title,
            chunk.hierarchy_level,
            None if chunk.parent is None else ids[chunk.parent],
            chunk.token_count,
            len(chunk.content),
            source_id,
            hashes[index],
            bisect_right(pages, chunk.start) if pages else None,
            language,
        )
        for index, (chunk, language) in enumerate(zip(chunks, languages))
    ]


def write_chunks(
    connection: Connection,
    batch: int,
    rows: Iterable[Sequence[object]],
    chunker_fingerprint: str,
) -> Plan:
    """Make the chunks of one batch's documents equal to `rows`, in the transaction of the caller.

    A chunk of the same id keeps its row; a moved one is updated; a removed one is deleted, and the trigger queues its
    deletion in Milvus. A document whose text was edited since it was read is left for the next run.
    """
    count = copy_rows(connection, "new_chunks", _CHUNK_COLUMNS, rows)
    connection.execute("CREATE INDEX ON pg_temp.new_chunks (id)")
    connection.execute("ANALYZE pg_temp.new_chunks (id, document_id)")
    deleted = connection.execute(
        """WITH gone AS (
             DELETE FROM document_chunks c USING pg_temp.todo t
             WHERE t.batch = %s AND c.document_id = t.id
               AND NOT EXISTS (SELECT FROM pg_temp.new_chunks n WHERE n.id = c.id)
             RETURNING c.document_id)
           SELECT document_id, count(*) FROM gone GROUP BY 1""",
        [batch],
    ).fetchall()
    written = connection.execute(
        """INSERT INTO document_chunks AS c (id, document_id, content, chunk_type, position, section_title,
             hierarchy_level, parent_chunk_id, token_count, char_count, source_uuid, text_hash, page, language)
           SELECT n.id, n.document_id, n.content, n.chunk_type, n.position, n.section_title, n.hierarchy_level,
             n.parent_chunk_id, n.token_count, n.char_count, n.source_uuid, n.text_hash, n.page, n.language
           FROM pg_temp.new_chunks n JOIN documents d ON d.id = n.document_id
           ON CONFLICT (id) DO UPDATE SET position = excluded.position, chunk_type = excluded.chunk_type,
             section_title = excluded.section_title, hierarchy_level = excluded.hierarchy_level,
             parent_chunk_id = excluded.parent_chunk_id, page = excluded.page, language = excluded.language,
             updated_at = now(), embedding_status = CASE WHEN (c.position, c.language, c.chunk_type)
               IS DISTINCT FROM (excluded.position, excluded.language, excluded.chunk_type) THEN 'pending'
               ELSE c.embedding_status END
           WHERE (c.position, c.chunk_type, c.section_title, c.hierarchy_level, c.parent_chunk_id, c.page, c.language)
             IS DISTINCT FROM (excluded.position, excluded.chunk_type, excluded.section_title,
                               excluded.hierarchy_level, excluded.parent_chunk_id, excluded.page, excluded.language)
           RETURNING c.document_id, (xmax = 0)""",
    ).fetchall()
    inserted = sum(new for _, new in written)
    changed = {document for document, _ in deleted} | {document for document, _ in written}
    connection.execute(
        """UPDATE documents d SET processing_status = CASE WHEN processing_status = 'failed' THEN 'failed'
             ELSE 'completed' END, chunker_fingerprint = %(chunker)s, chunked_run = rag_run(), updated_at = now(),
             chunk_count = coalesce(n.chunks, 0),
             indexing_status = CASE WHEN changed.id IS NOT NULL THEN 'pending' ELSE indexing_status END
           FROM pg_temp.todo t
           LEFT JOIN (SELECT document_id, count(*) AS chunks FROM pg_temp.new_chunks GROUP BY 1) AS n
             ON n.document_id = t.id
           LEFT JOIN unnest(%(changed)s::uuid[]) AS changed(id) ON changed.id = t.id
           WHERE t.batch = %(batch)s AND t.id = d.id""",
        {"chunker": chunker_fingerprint, "batch": batch, "changed": list(changed)},
    )
    return Plan(
        inserted=inserted,
        replaced=len(written) - inserted,
        deleted=sum(n for _, n in deleted),
        kept=count - len(written),
    )


def count_chunks(connection: Connection, scope: SyncScope) -> int:
    return scalar(
        connection,
        f"""SELECT coalesce(sum(chunk_count), 0)::bigint FROM documents
            WHERE {in_scope("%(source)s", "source_uuid", "id")}""",
        scope.parameters(),
    )
