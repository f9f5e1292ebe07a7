"""Asset document_chunks: documents split along their structure, one row a chunk."""

from collections.abc import Mapping

import dagster as dg

from rag_assets.assets.documents import documents
from rag_assets.assets.run_stage import (
    COMMON,
    Outcome,
    Stage,
    columns_and_sample,
    one_ahead,
    run_stage,
)
from rag_assets.partitions import SOURCES
from rag_assets.pipeline.chunking import CHUNKER_VERSION, ChunkingConfig, split
from rag_assets.pipeline.identity import fingerprint
from rag_assets.pipeline.plan import Plan
from resources.dagster_resources import PostgresResource
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


class ChunkingResource(dg.ConfigurableResource):
    """How documents are split; sizes in characters."""

    max_chars: int = 1000
    min_chars: int = 200

    def config(self) -> ChunkingConfig:
        return ChunkingConfig(self.max_chars, self.min_chars)


@dg.asset(
    partitions_def=SOURCES,
    deps=[documents],
    kinds={"python", "postgres"},
    code_version=CHUNKER_VERSION,
    pool="postgres",
    **COMMON,
)
def document_chunks(
    context: dg.AssetExecutionContext, postgres: PostgresResource, chunking: ChunkingResource
) -> dg.MaterializeResult:
    """One row a chunk, with section, page and language. Table `document_chunks`. Unchanged text keeps its id."""
    config = chunking.config()
    return run_stage(
        context,
        postgres,
        lambda stage: sync_chunks(stage, config),
        lambda connection, sources: _idle(connection, sources, config),
    )


def _idle(
    connection: Connection, sources: Mapping[str, SourceRow], config: ChunkingConfig
) -> dict[str, Outcome]:
    ids = {key: source.id for key, source in sources.items()}
    found = idle_chunks(connection, ids, [_chunker(s, config) for s in sources.values()])
    return {key: Outcome(Plan(kept=total), total) for key, (total,) in found.items()}


def _chunker(source: SourceRow, config: ChunkingConfig) -> str:
    return fingerprint(config.fingerprint, source.config.get("language") or "")


def sync_chunks(stage: Stage, config: ChunkingConfig) -> Outcome:
    plan, chunker = Plan(), _chunker(stage.source, config)
    batches = plan_chunking(stage.writer, stage.part, chunker)
    split_ahead = one_ahead(
        batches,
        lambda batch: batch_to_chunk(stage.connection, batch),
        lambda documents: [
            row for document in documents for row in _chunked(stage.source, document, config)
        ],
    )
    for batch, _, rows in split_ahead:
        with stage.writer.transaction() as connection:
            done = write_chunks(connection, batch, rows, chunker)
            fault_point("chunks-written")
        fault_point("chunks-committed")
        plan.inserted += done.inserted
        plan.replaced += done.replaced
        plan.deleted += done.deleted
        stage.progress(batch + 1, batches)
    total = count_chunks(stage.connection, stage.part)
    plan.kept = total - plan.inserted - plan.replaced
    columns, sample = columns_and_sample(
        stage.connection,
        "document_chunks",
        ("section_title", "chunk_type", "position", "char_count", "content"),
        "source_uuid = %(source)s",
        {"source": stage.source.id},
    )
    return Outcome(plan, total, columns, sample)


def _chunked(
    source: SourceRow, document: ToChunk, config: ChunkingConfig
) -> list[tuple[object, ...]]:
    chunks = split(document.text, markdown=document.markdown, config=config)
    prescribed = "language" in source.config
    languages = [
        None
        if prescribed or chunk.chunk_type in ("code", "table")
        else own_language(chunk.content, document.language)
        for chunk in chunks
    ]
    return chunk_rows(source.id, document, chunks, languages)
