"""Asset source_documents: the raw documents of a source, as bytes under the hash of their content."""

from collections.abc import Iterator

import dagster as dg

from rag_assets.assets.run_stage import COMMON, run_stage
from rag_assets.ingestion.fetch import (
    SyncOptions,
    find_idle_sources,
    listed_by_another_shard,
    sync_source_documents,
)
from rag_assets.partitions import SOURCES
from resources.dagster_resources import GuardResource, PostgresResource, StorageResource


class SyncConfig(dg.Config):
    """`accept_deletions`: delete everything that the source no longer lists, however much it is.

    `accept_replacements`: replace documents even if many of them turned into one and the same content. `reread`: fetch
    every document, even if its size, times or version are equal.
    """

    accept_deletions: bool = False
    accept_replacements: bool = False
    reread: bool = False


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
    """The raw documents of a source, fetched when their size, times, inode or version changed, kept by content hash.

    A source that suddenly lists nothing, or lost a large share of its documents, is not emptied until confirmed.
    Documents that turned into one and the same content, such as an error, keep the former one until confirmed; then
    the run fails at its end. If its server dies halfway, the fetched documents are kept, nothing is deleted, and the
    next sync continues from there.
    """
    options = SyncOptions(
        None if config.accept_deletions else guard.limits(),
        None if config.accept_replacements else guard.limits(),
        config.reread,
    )
    yield from run_stage(
        context,
        postgres,
        lambda stage: (
            listed_by_another_shard(stage) or sync_source_documents(stage, storage.open(), options)
        ),
        (lambda *_: {}) if config.reread else find_idle_sources,
        turns="listing",
    )
