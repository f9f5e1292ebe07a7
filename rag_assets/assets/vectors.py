"""Assets dense_vectors, sparse_vectors and multi_vectors: one collection a kind, equal to PostgreSQL."""

from collections.abc import Iterator
from contextlib import closing

import dagster as dg

from rag_assets.assets.chunk_embeddings import chunk_embeddings
from rag_assets.assets.failures import errors_as_failures
from rag_assets.assets.run_stage import COMMON, run_stage
from rag_assets.ingestion.index import find_idle_vectors, sync_vectors
from rag_assets.partitions import SOURCES
from rag_assets.pipeline.vectors import Kind
from resources.dagster_resources import (
    EmbedderResource,
    MilvusResource,
    PostgresResource,
    StorageResource,
    vector_stores,
)


def _vector_asset(kind: Kind, description: str) -> dg.AssetsDefinition:
    @dg.asset(
        name=f"{kind}_vectors",
        description=description,
        partitions_def=SOURCES,
        deps=[chunk_embeddings],
        kinds={"python", "milvus"},
        tags={"vectors": kind},
        code_version="1",
        pool="milvus",
        **COMMON,
    )
    def vectors(
        context: dg.AssetExecutionContext,
        postgres: PostgresResource,
        milvus: MilvusResource,
        storage: StorageResource,
        embedder: EmbedderResource,
    ) -> Iterator[dg.MaterializeResult]:
        with errors_as_failures(context), closing(milvus.open()) as store:
            yield from run_stage(
                context,
                postgres,
                lambda stage: sync_vectors(
                    stage, kind, vector_stores(store, storage, milvus, embedder)
                ),
                lambda connection, sources: find_idle_vectors(
                    connection, sources, kind, vector_stores(store, storage, milvus, embedder)
                ),
            )

    return vectors  # pyright: ignore[reportReturnType] - the decorator is typed as object


dense_vectors = _vector_asset(
    "dense",
    "One dense vector per chunk in Milvus `dense_collection`: upserts what differs from PostgreSQL, deletes old rows.",
)
sparse_vectors = _vector_asset(
    "sparse",
    "One sparse vector (term weights) a chunk in Milvus `sparse_collection`: upserts what differs, deletes old rows.",
)
multi_vectors = _vector_asset(
    "multi",
    "One vector per token in Milvus `multi_collection`, for late interaction (MaxSim). Only if RAG_VECTORS has multi.",
)
