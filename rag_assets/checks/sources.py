"""The check that compares a source with what was read of it."""

import dagster as dg

from rag_assets.checks.results import check_each_source
from rag_assets.consistency.source_findings import FILES_FACT, files_are_as_read
from rag_assets.partitions import SOURCES
from resources.dagster_resources import PostgresResource
from resources.postgres.registry.sources import get_source


@dg.asset_check(
    asset="source_documents",
    name="files_are_as_read",
    description=FILES_FACT,
    partitions_def=SOURCES,
)
def files_are_as_read_check(
    context: dg.AssetCheckExecutionContext, postgres: PostgresResource
) -> dg.AssetCheckResult:
    return check_each_source(
        context,
        postgres,
        lambda connection, name: files_are_as_read(connection, get_source(connection, name)),
    )
