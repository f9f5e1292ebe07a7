"""Table `documents`: parsed texts. An entry is parsed if its document differs from what the parser would make of it."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, LiteralString, NamedTuple

from rag_assets.pipeline.identity import fingerprint
from resources.postgres.bulk_copy import copy_rows
from resources.postgres.connection import Connection, Writer
from resources.postgres.queries import fetch_all, scalar
from resources.postgres.registry.sources import SourceRow
from resources.postgres.scope import SyncScope, in_scope
from resources.postgres.work_table import fill_work_table

#: Raw bytes parsed at a time. Each document counts 64 KiB more, so a batch has at most 512 documents.
BATCH_BYTES = 32 * 1024 * 1024
DOCUMENT_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class ToParse:
    """An entry whose content must be parsed. `error`: the reason why it could not be fetched."""

    key: str
    document_id: uuid.UUID
    locator: str
    content_hash: str | None
    error: str | None
    is_new: bool


@dataclass(frozen=True, slots=True)
class DocumentRow:
    """A parsed document, or (with `error`) one that could not be parsed. `limited`: it took too much time or memory.

    `metadata` is JSON. `category` and `tags` are None if neither source nor document states them, and the stored ones
    stay; empty ones clear the stored ones. `signature`: see pipeline/near_duplicates.py; `write_signatures` writes it.
    """

    id: uuid.UUID
    key: str
    raw_hash: str | None
    error: str | None = None
    limited: bool = False
    title: str = ""
    content: str = ""
    author: str | None = None
    language: str | None = None
    mime_type: str | None = None
    is_markdown: bool = False
    word_count: int = 0
    metadata: str = "{}"
    source_url: str | None = None
    category: str | None = None
    tags: Sequence[str] | None = None
    signature: list[int] | None = None


class ParserFingerprints(NamedTuple):
    """`parser`: the fingerprint of everything that determines a text. `limited`: the same with the limits of time and
    memory, for documents that failed at these limits."""

    parser: str
    limited: str

    @classmethod
    def of(
        cls, parser_version: str, language: str | None, seconds: float, memory_mib: int
    ) -> ParserFingerprints:
        """Return the fingerprints of a parser for a source that prescribes this language, or None."""
        identity = (parser_version, language or "")
        limits = (str(seconds), str(memory_mib))
        return cls(fingerprint(*identity), fingerprint(*identity, *limits))


def entries_to_parse(
    source: LiteralString, parser: LiteralString, limited: LiteralString
) -> LiteralString:
    """SQL: FROM entries `e` of the scope and documents `d`, where `d` is missing or is not the result of parsing `e`
    under these fingerprints."""
    return f"""FROM source_entries e LEFT JOIN documents d ON d.id = e.document_id
           WHERE {in_scope(source, "e.source_id", "e.document_id")} AND (d.id IS NULL
             OR d.raw_hash IS DISTINCT FROM e.content_hash
             OR coalesce(d.parser_fingerprint, '') NOT IN ({parser}, {limited})
             OR (e.error IS NOT NULL AND d.error_message IS DISTINCT FROM e.error))
             AND (d.id IS NOT NULL OR e.removed_hash IS NULL OR e.removed_hash <> e.content_hash)"""


def gone_documents(source: LiteralString) -> LiteralString:
    """SQL: FROM documents `d` of the scope whose entry is gone."""
    return f"""FROM documents d WHERE {in_scope(source, "d.source_uuid", "d.id")} AND NOT EXISTS (
                       SELECT FROM source_entries e WHERE e.source_id = {source} AND e.key = d.source_key)"""


def plan_parsing(writer: Writer, scope: SyncScope, fingerprints: ParserFingerprints) -> int:
    """Fill the work table with the entries to parse. Returns the number of batches."""
    return fill_work_table(
        writer.connection,
        f"""SELECT e.key, e.document_id, e.locator, e.content_hash, e.error, d.id IS NULL AS is_new,
             (sum(coalesce(e.size, 0) + %(document_bytes)s) OVER (ORDER BY e.key))::bigint / %(batch_bytes)s AS batch
           {entries_to_parse("%(source)s", "%(parser)s", "%(limited)s")}""",
        {
            **scope.parameters(),
            **fingerprints._asdict(),
            "document_bytes": DOCUMENT_BYTES,
            "batch_bytes": BATCH_BYTES,
        },
    )


def batch_to_parse(connection: Connection, batch: int) -> list[ToParse]:
    return fetch_all(
        connection,
        ToParse,
        "SELECT key, document_id, locator, content_hash, error, is_new FROM pg_temp.todo WHERE batch = %s ORDER BY key",
        [batch],
    )


_PARSED_COLUMNS: Mapping[str, LiteralString] = {
    "id": "uuid",
    "key": "text",
    "raw_hash": "text",
    "error": "text",
    "limited": "bool",
    "title": "text",
    "content": "text",
    "author": "text",
    "language": "text",
    "mime_type": "text",
    "is_markdown": "bool",
    "word_count": "int4",
    "metadata": "text",
    "source_url": "text",
    "category": "text",
    "tags": "text[]",
}


#: SQL, in the ON CONFLICT clause of an INSERT INTO documents: a changed raw content or text makes a new version. The
#: trigger finds other changes, at the cost of a second update.
_NEXT_VERSION: LiteralString = """
  version = documents.version + (documents.raw_hash IS DISTINCT FROM excluded.raw_hash
    OR (excluded.error_message IS NULL AND documents.content <> excluded.content))::int,
  versioned_at = CASE WHEN documents.raw_hash IS DISTINCT FROM excluded.raw_hash
    OR (excluded.error_message IS NULL AND documents.content <> excluded.content)
    THEN clock_timestamp() ELSE documents.versioned_at END"""


def write_documents(
    connection: Connection,
    source: SourceRow,
    rows: Iterable[DocumentRow],
    fingerprints: ParserFingerprints,
) -> None:
    """Upsert a batch. A document whose text is unchanged keeps its chunks; a failed one keeps its last good text."""
    copy_rows(
        connection,
        "parsed",
        _PARSED_COLUMNS,
        ([getattr(row, name) for name in _PARSED_COLUMNS] for row in rows),
    )
    parameters: dict[str, Any] = {
        "source": source.id,
        "type": source.source_type,
        "name": source.name,
        **fingerprints._asdict(),
    }
    connection.execute(
        f"""INSERT INTO documents (id, title, content, source_type, source_id, source_uuid, source_key, source_url,
             author, language, word_count, char_count, raw_hash, parser_fingerprint, mime_type, is_markdown, metadata,
             category, tags, processing_status, parsed_run)
           SELECT id, title, content, %(type)s, %(name)s || '/' || key, %(source)s, key, source_url, author, language,
             word_count, length(content), raw_hash, %(parser)s, mime_type, is_markdown, metadata::jsonb,
             CASE WHEN category IS NULL THEN (SELECT d.category FROM documents d WHERE d.id = parsed.id)
               ELSE nullif(category, '') END,
             coalesce(tags, (SELECT d.tags FROM documents d WHERE d.id = parsed.id)), 'pending', rag_run()
           FROM parsed WHERE error IS NULL
           ON CONFLICT (id) DO UPDATE SET title = excluded.title, content = excluded.content,
             source_url = excluded.source_url, author = excluded.author, language = excluded.language,
             word_count = excluded.word_count, char_count = excluded.char_count, raw_hash = excluded.raw_hash,
             parser_fingerprint = excluded.parser_fingerprint, mime_type = excluded.mime_type,
             is_markdown = excluded.is_markdown, metadata = excluded.metadata, error_message = NULL,
             category = excluded.category, tags = excluded.tags,
             updated_at = now(), parsed_run = excluded.parsed_run, {_NEXT_VERSION},
             chunker_fingerprint = CASE WHEN documents.content = excluded.content
               AND documents.is_markdown = excluded.is_markdown THEN documents.chunker_fingerprint END,
             processing_status = CASE WHEN documents.content = excluded.content
               AND documents.is_markdown = excluded.is_markdown AND documents.chunker_fingerprint IS NOT NULL
               THEN 'completed' ELSE 'pending' END""",
        parameters,
    )
    connection.execute(
        f"""INSERT INTO documents (id, title, content, source_type, source_id, source_uuid, source_key, language,
             raw_hash, parser_fingerprint, processing_status, indexing_status, error_message, parsed_run)
           SELECT id, title, '', %(type)s, %(name)s || '/' || key, %(source)s, key, NULL, raw_hash,
             CASE WHEN limited THEN %(limited)s ELSE %(parser)s END, 'failed', 'failed', error, rag_run()
           FROM parsed WHERE error IS NOT NULL
           ON CONFLICT (id) DO UPDATE SET raw_hash = excluded.raw_hash,
             parser_fingerprint = excluded.parser_fingerprint, processing_status = 'failed',
             error_message = excluded.error_message, updated_at = now(), parsed_run = excluded.parsed_run,
             {_NEXT_VERSION}""",
        parameters,
    )


def delete_gone_documents(writer: Writer, scope: SyncScope, *, limit: int = 500) -> tuple[int, int]:
    """Delete the documents whose entry is gone, `limit` a transaction. Triggers queue the deletion of their vectors.

    Returns the numbers of documents and of their chunks.
    """
    documents = chunks = 0
    while True:
        with writer.transaction() as connection:
            rows = connection.execute(
                f"""DELETE FROM documents WHERE id IN (
                     SELECT d.id {gone_documents("%(source)s")} LIMIT %(limit)s) RETURNING chunk_count""",
                {**scope.parameters(), "limit": limit},
            ).fetchall()
        documents += len(rows)
        chunks += sum(count or 0 for (count,) in rows)
        if len(rows) < limit:
            return documents, chunks


def count_documents(connection: Connection, scope: SyncScope) -> int:
    return scalar(
        connection,
        f"SELECT count(*) FROM documents WHERE {in_scope('%(source)s', 'source_uuid', 'id')}",
        scope.parameters(),
    )


def incomplete_documents(source: LiteralString) -> LiteralString:
    """SQL: the number of documents of a source of which a share of the text could not be read."""
    return f"SELECT count(*) FROM documents WHERE source_uuid = {source} AND metadata ? 'text_lost'"


def count_incomplete_documents(connection: Connection, source_id: uuid.UUID) -> int:
    """Count the documents of a source of which a share of the text could not be read."""
    return scalar(connection, incomplete_documents("%s"), [source_id])


class IncompleteDocument(NamedTuple):
    """A document of which a share (0 to 1) of the text could not be read. `total`: the number of such documents."""

    source: str
    key: str
    share: float
    total: int


def most_incomplete_documents(connection: Connection, limit: int) -> list[IncompleteDocument]:
    """Return the documents of all sources with the largest shares of unread text."""
    return fetch_all(
        connection,
        IncompleteDocument,
        """SELECT s.name AS source, d.source_key AS key, (d.metadata->>'text_lost')::float8 AS share,
             count(*) OVER () AS total
           FROM documents d JOIN sources s ON s.id = d.source_uuid
           WHERE d.metadata ? 'text_lost' AND jsonb_typeof(d.metadata->'text_lost') = 'number'
           ORDER BY 3 DESC, 1, 2 LIMIT %s""",
        [limit],
    )


class FailedDocument(NamedTuple):
    """A document that is not searchable, wholly or in part. `step`: "read", or "embed" if its text is known."""

    source: str
    key: str
    step: Literal["read", "embed"]
    reason: str


def failed_documents(
    connection: Connection,
    sources: Sequence[uuid.UUID] | None = None,
    *,
    step: Literal["read", "embed"] | None = None,
    limit: int | None = None,
) -> list[FailedDocument]:
    """Return the documents of some or all sources that could not be read or embedded."""
    return fetch_all(
        connection,
        FailedDocument,
        """SELECT s.name AS source, d.source_key AS key, failed.step, coalesce(d.error_message, (
             SELECT embedding_error FROM document_chunks c WHERE c.document_id = d.id
             AND embedding_error IS NOT NULL ORDER BY position LIMIT 1), 'unknown') AS reason
           FROM documents d JOIN sources s ON s.id = d.source_uuid CROSS JOIN LATERAL (
             SELECT CASE WHEN d.processing_status = 'failed' THEN 'read' ELSE 'embed' END AS step) AS failed
           WHERE 'failed' IN (d.processing_status, d.indexing_status)
             AND (d.source_uuid = ANY(%(sources)s) OR %(sources)s::uuid[] IS NULL)
             AND (failed.step = %(step)s OR %(step)s::text IS NULL)
           ORDER BY s.name, d.source_key LIMIT %(limit)s""",
        {"sources": None if sources is None else list(sources), "step": step, "limit": limit},
    )


def count_failed_documents(connection: Connection) -> dict[str, int]:
    """Return step -> the number of documents of all sources that failed in it."""
    return dict(
        connection.execute(
            """SELECT CASE WHEN processing_status = 'failed' THEN 'read' ELSE 'embed' END, count(*) FROM documents
               WHERE 'failed' IN (processing_status, indexing_status) GROUP BY 1"""
        ).fetchall()
    )
