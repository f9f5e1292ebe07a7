"""Asset chunk_embeddings: every distinct text embedded once, in Parquet files."""

from collections.abc import Iterator

import dagster as dg

from rag_assets.assets.document_chunks import document_chunks
from rag_assets.assets.run_stage import COMMON, run_stage
from rag_assets.ingestion.embed import embed_texts, find_idle_embeddings
from rag_assets.ingestion.stage import Outcome, Stage
from rag_assets.partitions import SOURCES
from resources.dagster_resources import EmbedderResource, PostgresResource, StorageResource


@dg.asset(
    partitions_def=SOURCES,
    deps=[document_chunks],
    kinds={"python", "parquet"},
    code_version="1",
    pool="embedder",
    **COMMON,
)
def chunk_embeddings(
    context: dg.AssetExecutionContext,
    postgres: PostgresResource,
    storage: StorageResource,
    embedder: EmbedderResource,
) -> Iterator[dg.MaterializeResult]:
    """Dense, sparse and multi-vectors of each distinct chunk text, embedded once a model; append-only Parquet files.

    A text that the model refuses is recorded as failed with the reason; the others go on.
    """

    def work(stage: Stage) -> Outcome:
        model = embedder.model_target()
        target = model.target(stage.scope)
        return embed_texts(stage, storage.open(), model.embedder, target, storage.precision)

    yield from run_stage(
        context,
        postgres,
        work,
        lambda connection, sources: find_idle_embeddings(
            connection, sources, storage.open(), embedder.model_target(), context.log
        ),
    )
