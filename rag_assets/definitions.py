"""The only assembly: every asset, check, job, schedule, sensor and resource, and nothing else.

Any definition is two hops from here. `build_definitions` takes other resources for tests.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dagster as dg

from rag_assets.assets.asset_metadata import definition_metadata
from rag_assets.assets.chunk_embeddings import chunk_embeddings
from rag_assets.assets.compacted_embeddings import compacted_embeddings
from rag_assets.assets.document_chunks import document_chunks
from rag_assets.assets.documents import documents
from rag_assets.assets.retrieval_evaluation import retrieval_evaluation
from rag_assets.assets.source_documents import source_documents
from rag_assets.assets.vectors import dense_vectors, multi_vectors, sparse_vectors
from rag_assets.automation.jobs import JOBS
from rag_assets.automation.schedules import build_schedules
from rag_assets.automation.sensors.changed_folders import changed_folders_sensor
from rag_assets.automation.sensors.due_sources import due_sources_sensor
from rag_assets.automation.sensors.failed_checks import failed_checks_sensor
from rag_assets.automation.sensors.sources_table import sources_table_sensor
from rag_assets.automation.sensors.unpublished_collections import unpublished_collections_sensor
from rag_assets.checks.embeddings import EMBEDDING_CHECKS
from rag_assets.checks.retrieval import RETRIEVAL_CHECKS
from rag_assets.checks.sample_checks import QUICK_CHECKS
from rag_assets.checks.schedule import synced_on_schedule
from rag_assets.checks.sources import files_are_as_read_check
from rag_assets.checks.tables import TABLE_CHECKS
from rag_assets.checks.vectors import VECTOR_CHECKS
from rag_assets.dagster_internals import default_freshness_policy
from rag_assets.settings.load import Settings, load_settings
from rag_assets.settings.unknown_variables import warn_of_unknown_variables
from resources.dagster_resources import (
    ChunkingResource,
    EmbedderResource,
    GuardResource,
    LimitsResource,
    MilvusResource,
    ParsingResource,
    PostgresResource,
    RetrievalResource,
    StorageResource,
    as_definition,
)

ASSETS = [
    source_documents,
    documents,
    document_chunks,
    chunk_embeddings,
    dense_vectors,
    sparse_vectors,
    multi_vectors,
    retrieval_evaluation,
    compacted_embeddings,
]
CHECKS = [
    files_are_as_read_check,
    *TABLE_CHECKS,
    *EMBEDDING_CHECKS,
    *VECTOR_CHECKS,
    *QUICK_CHECKS,
    *RETRIEVAL_CHECKS,
    synced_on_schedule,
]
SENSORS = [
    sources_table_sensor,
    changed_folders_sensor,
    due_sources_sensor,
    failed_checks_sensor,
    unpublished_collections_sensor,
]


def build_resources(settings: Settings) -> dict[str, Any]:
    """Return the configured resources, unopened."""
    return {
        "postgres": PostgresResource(
            url=settings.postgres_url, home=str(settings.home), lock_timeout=settings.lock_timeout
        ),
        "milvus": MilvusResource(
            uri=settings.milvus_uri,
            token=settings.milvus_token,
            ca_file=settings.milvus_ca,
            home=str(settings.home),
            timeout=settings.milvus_timeout,
            dense_index=settings.dense_index,
            sparse_index=settings.sparse_index,
            dense_search=settings.dense_search,
            search_consistency=settings.search_consistency,
            shards=settings.milvus_shards,
        ),
        "storage": StorageResource(
            url=settings.effective_storage_url, precision=settings.parquet_precision
        ),
        "embedder": EmbedderResource(
            spec=settings.embedder,
            kinds=list(settings.vectors),
            options=settings.embedder_options,
            api_key=settings.openai_api_key,
        ),
        "guard": GuardResource(share=settings.guard_share, documents=settings.guard_documents),
        "parsing": ParsingResource(
            workers=settings.parsers,
            seconds=settings.parse_seconds,
            memory_mib=settings.parse_memory_mib,
        ),
        "retrieval": RetrievalResource(fusion=settings.fusion, margin=settings.eval_margin),
        "limits": LimitsResource(outbox_seconds=settings.outbox_seconds),
        "chunking": ChunkingResource(
            max_chars=settings.chunk_max_chars, min_chars=settings.chunk_min_chars
        ),
    }


def build_definitions(
    resources: Mapping[str, Any] | None = None, settings: Settings | None = None
) -> dg.Definitions:
    if settings is None:
        settings = load_settings()
        warn_of_unknown_variables(settings.home)
    resources = build_resources(settings) if resources is None else resources
    return dg.Definitions(
        assets=dg.with_source_code_references(
            dg.map_asset_specs(lambda spec: _described(spec, settings), ASSETS)
        ),
        asset_checks=CHECKS,
        jobs=JOBS,
        schedules=build_schedules(settings),
        sensors=SENSORS,
        resources={name: as_definition(resource) for name, resource in resources.items()},
        # A step in its own process costs 1.4 s, one in the run's process 0.08 s; steps run one after another anyway.
        executor=dg.in_process_executor,
    )


def _described(spec: dg.AssetSpec, settings: Settings) -> dg.AssetSpec:
    """Return the spec with its owners, metadata and freshness policy, which depend on the settings."""
    name = spec.key.to_user_string()
    freshness = default_freshness_policy(settings.sync_schedule, settings.timezone)
    return spec.replace_attributes(
        owners=list(settings.owners),
        metadata={**spec.metadata, **definition_metadata(name, settings)},
        freshness_policy=freshness if spec.key == source_documents.key else spec.freshness_policy,
    )


@dg.definitions
def defs() -> dg.Definitions:
    """The definitions as Dagster loads them."""
    return build_definitions()
