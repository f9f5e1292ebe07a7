"""Asset source_documents: the raw documents of a source, as bytes under the hash of their content."""

from collections.abc import Iterator

import dagster as dg

from rag_assets.assets.run_stage import COMMON, run_stage
from rag_assets.ingestion.fetch import (
    find_idle_sources,
    listed_by_another_shard,
    sync_source_documents,
)
from rag_assets.partitions import SOURCES
from resources.dagster_resources import GuardResource, PostgresResource, StorageResource


class SyncConfig(dg.Config):
    """`accept_deletions`: delete everything that the source no longer lists, however much it is."""

    accept_deletions: bool = False


@dg.asset(
    partitions_def=SOURCES,
    kinds={"python", "file"},
    code_version="1",
    pool="sources",
    **COMMON,
)
def source_documents(
    context: dg.AssetExecutionContext,
    config: SyncConfig,
    postgres: PostgresResource,
    storage: StorageResource,
    guard: GuardResource,
) -> Iterator[dg.MaterializeResult]:
    """The raw documents of a source, fetched when their size, mtime or version changed, kept by content hash.

    A source that suddenly lists nothing, or lost a large share of its documents, is not emptied until confirmed. If its
    server dies halfway, the fetched documents are kept, nothing is deleted, and the next sync continues from there.
    """
    limits = None if config.accept_deletions else guard.limits()
    yield from run_stage(
        context,
        postgres,
        lambda stage: (
            listed_by_another_shard(stage) or sync_source_documents(stage, storage.open(), limits)
        ),
        find_idle_sources,
        turns="listing",
    )
