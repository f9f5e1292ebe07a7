"""Stage documents: raw bytes decoded and parsed into one row per document, with title, language and signature."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from typing import Any

from rag_assets.ingestion.stage import Outcome, Stage, columns_and_sample, one_ahead
from rag_assets.pipeline.copies import once_per_copy
from rag_assets.pipeline.entries import Entry
from rag_assets.pipeline.field_limits import cut_fields
from rag_assets.pipeline.identity import content_hash
from rag_assets.pipeline.limits import ParserLimits
from rag_assets.pipeline.near_duplicates import signature
from rag_assets.pipeline.plan import Plan
from resources.errors import ParseError, RagError, SourceError
from resources.fault_injection import fault_point
from resources.files import FileStore, raw_name
from resources.parsing import PARSER_VERSION, LimitExceeded, ParsedDocument, ParserPool
from resources.postgres.connection import Connection
from resources.postgres.documents.deferred_indexes import defer_indexes
from resources.postgres.documents.documents import (
    DocumentRow,
    ParserFingerprints,
    ToParse,
    batch_to_parse,
    count_documents,
    count_incomplete_documents,
    delete_gone_documents,
    failed_documents,
    plan_parsing,
    write_documents,
)
from resources.postgres.documents.near_duplicates import (
    Signed,
    count_near_duplicates,
    plan_signing,
    renew_stale_marks,
    texts_to_sign,
    write_signatures,
)
from resources.postgres.idle_sources import idle_documents
from resources.postgres.registry.sources import SourceRow
from resources.postgres.registry.syncs import record_counts
from resources.sources.base import Source
from resources.sources.envelope import source_fields, unwrap, wrap
from resources.sources.registered import open_registered

#: Failed documents in the metadata; the table `documents` has all of them.
SHOWN_FAILURES = 50
#: The key in a document's metadata of what was left out of it, and the name of the table of such documents.
LEFT_OUT, LEFT_OUT_COUNT = "left_out", "documents_with_parts_left_out"
#: In the metadata: the chunks of the deleted documents, which went with them.
DELETED_CHUNKS = "deleted_chunks"


def parser_fingerprints(limits: ParserLimits, language: str | None) -> ParserFingerprints:
    return ParserFingerprints.of(PARSER_VERSION, language, limits.seconds, limits.memory_mib)


def find_idle_documents(
    connection: Connection, sources: Mapping[str, SourceRow], limits: ParserLimits
) -> dict[str, Outcome]:
    """Return the outcomes of sources without a document to parse, sign or delete, and record their counts."""
    ids = {key: source.id for key, source in sources.items()}
    parsers = [parser_fingerprints(limits, s.config.get("language")) for s in sources.values()]
    counts = idle_documents(connection, ids, parsers)
    record_counts(connection, [ids[key] for key in counts])
    outcomes = {}
    for key, (total, near_duplicates, incomplete, failed) in counts.items():
        failures = _failures(connection, ids[key]) if failed else {}
        metadata = {"near_duplicates": near_duplicates, "incomplete_documents": incomplete}
        outcomes[key] = Outcome(Plan(kept=total), total, metadata=metadata, tables=failures)
    return outcomes


def sync_documents(stage: Stage, files: FileStore, limits: ParserLimits) -> Outcome:
    """Parse new and changed documents, and delete those that left the source.

    A document that cannot be read is recorded with its reason; the others go on.
    """
    language = stage.source.config.get("language")
    parser = parser_fingerprints(limits, language)
    plan = Plan()
    left_out: dict[str, str] = {}
    sign = once_per_copy(signature)
    batches = plan_parsing(stage.writer, stage.scope, parser)
    if batches > 1 and defer_indexes(stage.writer):
        stage.log.info(
            "The tables are empty: indexes that this load does not read are built at the end of the sync"
        )
    with (
        closing(open_registered(stage.source)) as source,
        ThreadPoolExecutor(limits.workers) as pool,
        ParserPool(seconds=limits.seconds, memory_mib=limits.memory_mib) as parsers,
    ):

        def parse(batch: list[ToParse]) -> list[DocumentRow]:
            _prefetch(source, files, batch)
            return list(
                pool.map(lambda item: _parse(source, files, parsers, sign, item, language), batch)
            )

        parsed = one_ahead(batches, lambda batch: batch_to_parse(stage.connection, batch), parse)
        for batch, items, rows in parsed:
            signed = [Signed(row.id, row.signature) for row in rows if row.error is None]
            with stage.writer.transaction() as connection:
                write_documents(connection, stage.source, rows, parser)
                fault_point("documents-written")
                write_signatures(connection, stage.source, signed)
            for item, row in zip(items, rows):
                if f'"{LEFT_OUT}"' in row.metadata and (
                    parts := json.loads(row.metadata).get(LEFT_OUT)
                ):
                    left_out[row.key] = "; ".join(map(str, parts))
                plan.failed += row.error is not None
                plan.inserted += row.error is None and item.is_new
                plan.replaced += row.error is None and not item.is_new
            stage.progress(batch + 1, batches)
    plan.deleted, deleted_chunks = delete_gone_documents(stage.writer, stage.scope)
    sign_unsigned(stage)
    renew_stale_marks(stage.writer)
    record_counts(stage.connection, [stage.source.id])
    outcome = _outcome(stage, plan, left_out)
    if deleted_chunks:
        outcome = replace(outcome, metadata={**outcome.metadata, DELETED_CHUNKS: deleted_chunks})
    return outcome


def sign_unsigned(stage: Stage) -> None:
    """Sign documents that were parsed before signatures existed, or that plain SQL wrote."""
    for batch in range(plan_signing(stage.writer, stage.scope)):
        texts = texts_to_sign(stage.connection, batch)
        signed = [Signed(document, signature(text)) for document, text in texts]
        with stage.writer.transaction() as connection:
            write_signatures(connection, stage.source, signed)


def _outcome(stage: Stage, plan: Plan, left_out: Mapping[str, str]) -> Outcome:
    """Return the counts of all documents, and of those read now, the ones from which parts were left out."""
    total = count_documents(stage.connection, stage.scope)
    plan.kept = total - plan.inserted - plan.replaced - plan.failed
    columns, sample = columns_and_sample(
        stage.connection,
        "documents",
        ("source_key", "title", "language", "char_count", "processing_status"),
        "source_uuid = %(source)s",
        {"source": stage.source.id},
    )
    metadata = {
        "near_duplicates": count_near_duplicates(stage.connection, stage.source.id),
        "incomplete_documents": count_incomplete_documents(stage.connection, stage.source.id),
    }
    tables = _failures(stage.connection, stage.source.id)
    if left_out:
        metadata[LEFT_OUT_COUNT] = len(left_out)
        shown = [*left_out.items()][:SHOWN_FAILURES]
        tables[LEFT_OUT] = [{"key": key, "parts": parts} for key, parts in shown]
    return Outcome(plan, total, columns, sample, metadata, tables)


def _failures(connection: Connection, source_id: uuid.UUID) -> dict[str, list[dict[str, str]]]:
    failures = failed_documents(connection, [source_id], step="read", limit=SHOWN_FAILURES)
    rows = [{"key": document.key, "reason": document.reason} for document in failures]
    return {"failed_documents": rows} if rows else {}


def _parse(
    source: Source,
    files: FileStore,
    parsers: ParserPool,
    sign: Callable[[str], list[int] | None],
    item: ToParse,
    language: str | None,
) -> DocumentRow:
    name = item.key.rsplit("/", 1)[-1][:1000]
    if item.content_hash is None:
        return DocumentRow(item.document_id, item.key, None, item.error, title=name)
    try:
        about, data = unwrap(_raw_bytes(source, files, item))
        given = source_fields(about)
        parsed = parsers.parse(
            data,
            given.name or item.key,
            language=language or given.language,
            charset=given.charset,
        )
    except RagError as error:
        if error.transient or not isinstance(error, (ParseError, SourceError)):
            # The step must be retried; the document did not fail.
            raise
        limited = isinstance(error, LimitExceeded)
        return DocumentRow(
            item.document_id, item.key, item.content_hash, str(error), limited, title=name
        )
    # Rows of a table arrive as text.
    is_decoded = not about or given.charset is not None
    encoding = {"encoding": parsed.encoding} if parsed.encoding and is_decoded else {}
    tags = parsed.tags if given.tags is None else given.tags
    metadata: dict[str, Any] = {**parsed.metadata, **encoding, **given.metadata}
    left_out = [*_left_out(parsed), *given.left_out, *cut_fields(None, None, tags)]
    if left_out:
        metadata[LEFT_OUT] = left_out
    return DocumentRow(
        id=item.document_id,
        key=item.key,
        raw_hash=item.content_hash,
        title=given.title or parsed.title,
        content=parsed.text,
        author=given.author or parsed.author,
        language=parsed.language,
        mime_type=parsed.mime_type,
        is_markdown=parsed.markdown,
        word_count=len(parsed.text.split()),
        metadata=json.dumps(metadata),
        source_url=given.url,
        category=parsed.category if given.category is None else given.category,
        tags=tags,
        signature=sign(parsed.text),
    )


def _left_out(parsed: ParsedDocument) -> list[str]:
    left_out = parsed.metadata.get(LEFT_OUT)
    return [str(part) for part in left_out] if isinstance(left_out, list) else []


def _prefetch(source: Source, files: FileStore, items: list[ToParse]) -> None:
    """Let a batching source read at once the files that the raw store lost; one by one they cost much more."""
    if source.batched:
        lost = [i for i in items if i.content_hash and files.size(raw_name(i.content_hash)) is None]
        if lost:
            source.prefetch([Entry(item.key, item.locator, None, None) for item in lost])


def _raw_bytes(source: Source, files: FileStore, item: ToParse) -> bytes:
    """Return the bytes of the item's hash: from the raw store, or from the source if the file is lost or damaged."""
    assert item.content_hash is not None
    try:
        data = files.read(raw_name(item.content_hash))
        if content_hash(data) == item.content_hash:
            return data
    except FileNotFoundError:
        pass
    content = source.fetch(Entry(item.key, item.locator, None, None))
    data = wrap(content.data, content.about) if content else b""
    if content_hash(data) != item.content_hash:
        raise SourceError("The document changed while it was read; the next run reads it again.")
    files.write(raw_name(item.content_hash), data)
    return data
