"""Asset compacted_embeddings: embedding files of one size, without rows that no chunk needs.

Not partitioned: a text is embedded once, so a file contains texts of any source, and small files of many sources become
one. It is no part of a sync: a file worth compacting takes many syncs.
"""

import dagster as dg

from rag_assets.assets.chunk_embeddings import chunk_embeddings
from rag_assets.assets.failures import errors_as_failures
from rag_assets.assets.run_stage import COMMON
from rag_assets.ingestion.compaction import compact
from resources.dagster_resources import PostgresResource, StorageResource


@dg.asset(
    deps=[chunk_embeddings],
    kinds={"python", "parquet", "postgres"},
    code_version="1",
    **{**COMMON, "group_name": "maintenance"},
)
def compacted_embeddings(
    context: dg.AssetExecutionContext, postgres: PostgresResource, storage: StorageResource
) -> dg.MaterializeResult:
    """The embedding files after compaction: the live rows of small and mostly dead files in files of 64 MiB.

    Nothing is embedded, and syncs go on. Replaced files are deleted a day later.
    """
    with errors_as_failures(context):
        report = compact(postgres.open(), storage.open(), context.log)
    return dg.MaterializeResult(metadata=report.as_dict())
