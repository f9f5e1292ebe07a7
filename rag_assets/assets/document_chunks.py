"""Asset document_chunks: documents split along their structure, one row a chunk."""

import dagster as dg

from rag_assets.assets.documents import documents
from rag_assets.assets.stage import COMMON, Outcome, Stage, columns_and_sample, one_ahead, run_stage
from rag_assets.partitions import SOURCES
from rag_assets.pipeline.chunking import CHUNKER_VERSION, ChunkingConfig, split
from rag_assets.pipeline.plan import Plan
from resources.configured import PostgresResource
from resources.faults import passage
from resources.postgres.chunks import (
    batch_to_chunk,
    chunk_rows,
    count_chunks,
    plan_chunking,
    write_chunks,
)


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
    **COMMON,
)
def document_chunks(
    context: dg.AssetExecutionContext, postgres: PostgresResource, chunking: ChunkingResource
) -> dg.MaterializeResult:
    """One row a chunk, with section, level and parent. Table `document_chunks`. Unchanged text keeps its id."""
    return run_stage(context, postgres, lambda stage: sync_chunks(stage, chunking.config()))


def sync_chunks(stage: Stage, config: ChunkingConfig) -> Outcome:
    plan = Plan()
    batches = plan_chunking(stage.writer, stage.source.id, config.fingerprint)
    split_ahead = one_ahead(
        batches,
        lambda batch: batch_to_chunk(stage.connection, batch),
        lambda texts: [
            row
            for document, text, markdown in texts
            for row in chunk_rows(
                stage.source.id, document, split(text, markdown=markdown, config=config)
            )
        ],
    )
    for batch, _, rows in split_ahead:
        with stage.writer.transaction() as connection:
            done = write_chunks(connection, batch, rows, config.fingerprint)
            passage("chunks-written")
        passage("chunks-committed")
        plan.inserted += done.inserted
        plan.replaced += done.replaced
        plan.deleted += done.deleted
        stage.progress(batch + 1, batches)
    total = count_chunks(stage.connection, stage.source.id)
    plan.kept = total - plan.inserted - plan.replaced
    columns, sample = columns_and_sample(
        stage.connection,
        "document_chunks",
        ("section_title", "chunk_type", "position", "char_count", "content"),
        "source_uuid = %(source)s",
        {"source": stage.source.id},
    )
    return Outcome(plan, total, columns, sample)
