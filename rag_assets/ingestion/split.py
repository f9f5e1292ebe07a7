"""Stage document_chunks: documents split along their structure into one row per chunk."""

from __future__ import annotations

from collections.abc import Mapping

from rag_assets.ingestion.stage import Outcome, Stage, columns_and_sample, one_ahead
from rag_assets.pipeline.chunking import ChunkingConfig, split
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
    split_ahead = one_ahead(
        batches,
        lambda batch: batch_to_chunk(stage.connection, batch),
        lambda documents: [
            row for document in documents for row in _rows(stage.source, document, config)
        ],
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


def _rows(source: SourceRow, document: ToChunk, config: ChunkingConfig) -> list[tuple[object, ...]]:
    chunks = split(document.text, markdown=document.markdown, config=config)
    prescribed = "language" in source.config
    languages = [
        None
        if prescribed or chunk.chunk_type in ("code", "table")
        else own_language(chunk.content, document.language)
        for chunk in chunks
    ]
    return chunk_rows(source.id, document, chunks, languages)
