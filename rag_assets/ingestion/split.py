"""Stage document_chunks: documents split along their structure into one row per chunk."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from rag_assets.ingestion.stage import Outcome, Stage, columns_and_sample, one_ahead
from rag_assets.pipeline.chunking import Chunk, ChunkingConfig, split
from rag_assets.pipeline.copies import CHUNK_SIZE, once_per_copy
from rag_assets.pipeline.identity import fingerprint
from rag_assets.pipeline.plan import Plan
from resources.fault_injection import fault_point
from resources.parsing.language import own_language
from resources.postgres.connection import Connection
from resources.postgres.documents.chunks import (
    ToChunk,
    batch_to_chunk,
    chunk_rows,
    count_chunks,
    plan_chunking,
    write_chunks,
)
from resources.postgres.idle_sources import idle_chunks
from resources.postgres.registry.sources import SourceRow


def find_idle_chunks(
    connection: Connection, sources: Mapping[str, SourceRow], config: ChunkingConfig
) -> dict[str, Outcome]:
    """Return the outcomes of sources without a document to split."""
    ids = {key: source.id for key, source in sources.items()}
    chunkers = [_chunker_fingerprint(source, config) for source in sources.values()]
    counts = idle_chunks(connection, ids, chunkers)
    return {key: Outcome(Plan(kept=total), total) for key, total in counts.items()}


def sync_chunks(stage: Stage, config: ChunkingConfig) -> Outcome:
    """Split the documents whose text or chunker changed. A chunk whose text is unchanged keeps its id."""
    plan, chunker = Plan(), _chunker_fingerprint(stage.source, config)
    batches = plan_chunking(stage.writer, stage.scope, chunker)
    prescribed = "language" in stage.source.config
    language_of = None if prescribed else once_per_copy(own_language, CHUNK_SIZE)
    split_text = once_per_copy(partial(_split, config=config, language_of=language_of))

    def rows_of(document: ToChunk) -> list[tuple[object, ...]]:
        chunks, languages = split_text(document.text, document.markdown, document.language)
        return chunk_rows(stage.source.id, document, chunks, languages)

    split_ahead = one_ahead(
        batches,
        lambda batch: batch_to_chunk(stage.connection, batch),
        lambda documents: [row for document in documents for row in rows_of(document)],
    )
    for batch, _, rows in split_ahead:
        with stage.writer.transaction() as connection:
            written = write_chunks(connection, batch, rows, chunker)
            fault_point("chunks-written")
        fault_point("chunks-committed")
        plan.inserted += written.inserted
        plan.replaced += written.replaced
        plan.deleted += written.deleted
        stage.progress(batch + 1, batches)
    total = count_chunks(stage.connection, stage.scope)
    plan.kept = total - plan.inserted - plan.replaced
    columns, sample = columns_and_sample(
        stage.connection,
        "document_chunks",
        ("section_title", "chunk_type", "position", "char_count", "content"),
        "source_uuid = %(source)s",
        {"source": stage.source.id},
    )
    return Outcome(plan, total, columns, sample)


def _chunker_fingerprint(source: SourceRow, config: ChunkingConfig) -> str:
    return fingerprint(config.fingerprint, source.config.get("language") or "")


def _split(
    text: str,
    markdown: bool,
    language: str | None,
    *,
    config: ChunkingConfig,
    language_of: Callable[[str, str | None], str | None] | None,
) -> tuple[list[Chunk], list[str | None]]:
    """Return the chunks of a text, and the language of each: None if it is that of the document.

    `language_of`: see `own_language`; None if the document's language is prescribed.
    """
    chunks = split(text, markdown=markdown, config=config)
    return chunks, [
        None
        if language_of is None or chunk.chunk_type in ("code", "table")
        else language_of(chunk.content, language)
        for chunk in chunks
    ]
