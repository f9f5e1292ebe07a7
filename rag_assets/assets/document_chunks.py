"""Asset document_chunks: documents split along their structure, one row per chunk."""

from collections.abc import Iterator

import dagster as dg

from rag_assets.assets.documents import documents
from rag_assets.assets.run_stage import COMMON, run_stage
from rag_assets.ingestion.split import find_idle_chunks, sync_chunks
from rag_assets.partitions import SOURCES
from rag_assets.pipeline.chunking import CHUNKER_VERSION
from resources.dagster_resources import ChunkingResource, PostgresResource


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
) -> Iterator[dg.MaterializeResult]:
    """One row per chunk, with section, page and language. Table `document_chunks`. Unchanged text keeps its id."""
    config = chunking.config()
    yield from run_stage(
        context,
        postgres,
        lambda stage: sync_chunks(stage, config),
        lambda connection, sources: find_idle_chunks(connection, sources, config),
    )
