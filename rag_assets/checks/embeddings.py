"""The checks on chunk_embeddings: every completed text has an embedding, in a file as it was written, and the embedder
is still the model that made them."""

from functools import cache

import dagster as dg

from rag_assets.checks.results import check_each_source
from rag_assets.consistency import table_findings
from rag_assets.consistency.model_identity import KNOWN_VECTORS_FACT, judge_model, model_finding
from rag_assets.partitions import SOURCES
from resources.dagster_resources import EmbedderResource, PostgresResource, StorageResource
from resources.postgres.registry.sources import get_source


@dg.asset_check(
    asset="chunk_embeddings",
    description="Every completed chunk's text has an embedding; its file exists, is readable and matches its checksum.",
    partitions_def=SOURCES,
)
def chunk_embeddings_are_in_parquet(
    context: dg.AssetCheckExecutionContext,
    postgres: PostgresResource,
    storage: StorageResource,
    embedder: EmbedderResource,
) -> dg.AssetCheckResult:
    files, model = storage.open(), embedder.model_target()
    return check_each_source(
        context,
        postgres,
        lambda connection, name: table_findings.chunk_embeddings_are_in_parquet(
            connection, get_source(connection, name), files, model
        ),
    )


@dg.asset_check(asset="chunk_embeddings", description=KNOWN_VECTORS_FACT, partitions_def=SOURCES)
def embedder_returns_known_vectors(
    context: dg.AssetCheckExecutionContext,
    postgres: PostgresResource,
    storage: StorageResource,
    embedder: EmbedderResource,
) -> dg.AssetCheckResult:
    # Asked once for all sources of a run: they share the model.
    finding = cache(
        lambda connection: judge_model(connection, storage.open(), embedder.model_target())
    )
    return check_each_source(
        context,
        postgres,
        lambda connection, name: model_finding(finding(connection), name),
    )


EMBEDDING_CHECKS: list[dg.AssetChecksDefinition] = [
    chunk_embeddings_are_in_parquet,
    embedder_returns_known_vectors,
]
