"""Asset documents: the raw bytes as text with a title and a language, one row a document."""

import json
import uuid
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import dagster as dg

from rag_assets.assets.run_stage import (
    COMMON,
    Outcome,
    Stage,
    columns_and_sample,
    one_ahead,
    run_stage,
)
from rag_assets.assets.source_documents import source_documents
from rag_assets.partitions import SOURCES
from rag_assets.pipeline.identity import content_hash
from rag_assets.pipeline.near_duplicates import signature
from rag_assets.pipeline.plan import Plan
from resources.dagster_resources import PostgresResource, StorageResource
from resources.errors import ParseError, RagError, SourceError
from resources.fault_injection import fault_point
from resources.files import FileStore, raw_name
from resources.parsing import PARSER_VERSION, LimitExceeded, ParserPool
from resources.postgres.connection import Connection
from resources.postgres.documents.documents import (
    DocumentRow,
    ParserFingerprints,
    ToParse,
    batch_to_parse,
    count_documents,
    delete_gone_documents,
    failed_documents,
    plan_parsing,
    write_documents,
)
from resources.postgres.documents.near_duplicates import (
    Signed,
    count_near_duplicates,
    mark_left_behind,
    plan_signing,
    texts_to_sign,
    write_signatures,
)
from resources.postgres.idle_sources import idle_documents
from resources.postgres.registry.sources import SourceRow
from resources.postgres.registry.syncs import record_counts
from resources.sources.base import Entry, Source
from resources.sources.envelope import stated, unwrap, wrap
from resources.sources.registered import open_registered

#: Failed documents named in the metadata; all of them are in the table.
NAMED_FAILURES = 50


class ParsingResource(dg.ConfigurableResource):
    """How documents are parsed: how many at a time, and what one of them may take."""

    workers: int = 2
    seconds: float = 60.0
    memory_mib: int = 1024

    def fingerprints(self, language: str | None) -> ParserFingerprints:
        return ParserFingerprints.of(language, self.seconds, self.memory_mib)


@dg.asset(
    partitions_def=SOURCES,
    deps=[source_documents],
    kinds={"python", "postgres"},
    code_version=PARSER_VERSION,
    pool="postgres",
    **COMMON,
)
def documents(
    context: dg.AssetExecutionContext,
    postgres: PostgresResource,
    storage: StorageResource,
    parsing: ParsingResource,
) -> dg.MaterializeResult:
    """One row a document: its text decoded, parsed and repaired, its title, language and author. Table `documents`.

    A document that cannot be read is recorded as failed with the reason; its last good text is kept.
    Near-duplicates are marked (view `near_duplicates`), not dropped.
    """
    return run_stage(
        context,
        postgres,
        lambda stage: sync_documents(stage, storage.open(), parsing),
        lambda connection, sources: _idle(connection, sources, parsing),
    )


def _idle(
    connection: Connection, sources: Mapping[str, SourceRow], parsing: ParsingResource
) -> dict[str, Outcome]:
    ids = {key: source.id for key, source in sources.items()}
    parsers = [parsing.fingerprints(s.config.get("language")) for s in sources.values()]
    found = idle_documents(connection, ids, parsers)
    record_counts(connection, [ids[key] for key in found])
    return {
        key: Outcome(Plan(kept=total), total, metadata=_metadata(connection, ids[key], *counts))
        for key, (total, *counts) in found.items()
    }


def sync_documents(stage: Stage, files: FileStore, parsing: ParsingResource) -> Outcome:
    language = stage.source.config.get("language")
    parser = parsing.fingerprints(language)
    plan = Plan()
    batches = plan_parsing(stage.writer, stage.part, parser)
    with (
        closing(open_registered(stage.source)) as source,
        ThreadPoolExecutor(parsing.workers) as pool,
        ParserPool(seconds=parsing.seconds, memory_mib=parsing.memory_mib) as parsers,
    ):

        def parse(todo: list[ToParse]) -> list[DocumentRow]:
            _prefetch(source, files, todo)
            return list(pool.map(lambda item: _parse(source, files, parsers, item, language), todo))

        parsed = one_ahead(batches, lambda batch: batch_to_parse(stage.connection, batch), parse)
        for batch, todo, rows in parsed:
            signed = [Signed(row.id, row.signature) for row in rows if row.error is None]
            with stage.writer.transaction() as connection:
                write_documents(connection, stage.source, rows, parser)
                fault_point("documents-written")
                write_signatures(connection, stage.source, signed)
            for item, row in zip(todo, rows):
                plan.failed += row.error is not None
                plan.inserted += row.error is None and item.is_new
                plan.replaced += row.error is None and not item.is_new
            stage.progress(batch + 1, batches)
    plan.deleted = delete_gone_documents(stage.writer, stage.part)
    sign_unsigned(stage)
    mark_left_behind(stage.writer)
    record_counts(stage.connection, [stage.source.id])
    return _outcome(stage, plan)


def sign_unsigned(stage: Stage) -> None:
    """Signs what was parsed before there were signatures, or written by others."""
    for batch in range(plan_signing(stage.writer, stage.part)):
        texts = texts_to_sign(stage.connection, batch)
        signed = [Signed(document, signature(text)) for document, text in texts]
        with stage.writer.transaction() as connection:
            write_signatures(connection, stage.source, signed)


def _outcome(stage: Stage, plan: Plan) -> Outcome:
    total = count_documents(stage.connection, stage.part)
    plan.kept = total - plan.inserted - plan.replaced - plan.failed
    columns, sample = columns_and_sample(
        stage.connection,
        "documents",
        ("source_key", "title", "language", "char_count", "processing_status"),
        "source_uuid = %(source)s",
        {"source": stage.source.id},
    )
    near_duplicates = count_near_duplicates(stage.connection, stage.source.id)
    metadata = _metadata(stage.connection, stage.source.id, near_duplicates)
    return Outcome(plan, total, columns, sample, metadata)


def _metadata(
    connection: Connection, source_id: uuid.UUID, near_duplicates: int, failed: int | None = None
) -> dict[str, Any]:
    """`failed`: how many documents are; None: not known."""
    metadata: dict[str, Any] = {"near_duplicates": near_duplicates}
    if failed == 0:
        return metadata
    if failures := failed_documents(connection, source_id, limit=NAMED_FAILURES):
        metadata["failed_documents"] = dg.MetadataValue.table(
            [dg.TableRecord({"key": key, "reason": reason}) for key, reason in failures]
        )
    return metadata


def _parse(
    source: Source, files: FileStore, parsers: ParserPool, item: ToParse, language: str | None
) -> DocumentRow:
    name = item.key.rsplit("/", 1)[-1][:1000]
    if item.content_hash is None:
        return DocumentRow(item.document_id, item.key, None, item.error, title=name)
    try:
        about, data = unwrap(_raw(source, files, item))
        said = stated(about)
        parsed = parsers.parse(data, said.name or item.key, language=language or said.language)
    except RagError as error:
        if error.transient or not isinstance(error, (ParseError, SourceError)):
            raise  # to be read again, not a document that failed
        limited = isinstance(error, LimitExceeded)
        return DocumentRow(
            item.document_id, item.key, item.content_hash, str(error), limited, title=name
        )
    return DocumentRow(
        id=item.document_id,
        key=item.key,
        raw_hash=item.content_hash,
        title=said.title or parsed.title,
        content=parsed.text,
        author=said.author or parsed.author,
        language=parsed.language,
        mime_type=parsed.mime_type,
        is_markdown=parsed.markdown,
        word_count=len(parsed.text.split()),
        metadata=json.dumps(
            {
                **parsed.metadata,
                **({"encoding": parsed.encoding} if parsed.encoding and not about else {}),
                **said.metadata,
            }
        ),
        source_url=said.url,
        category=parsed.category if said.category is None else said.category,
        tags=parsed.tags if said.tags is None else said.tags,
        signature=signature(parsed.text),
    )


def _prefetch(source: Source, files: FileStore, todo: list[ToParse]) -> None:
    """Has the source read at once what the raw store lost, where one by one would cost much more."""
    if source.batched:
        lost = [i for i in todo if i.content_hash and files.size(raw_name(i.content_hash)) is None]
        if lost:
            source.prefetch([Entry(item.key, item.locator, None, None) for item in lost])


def _raw(source: Source, files: FileStore, item: ToParse) -> bytes:
    """The bytes of this hash: from the raw store, or once more from the source when they are not there whole."""
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
        raise SourceError("changed while it was read; the next run takes it up")
    files.write(raw_name(item.content_hash), data)
    return data
