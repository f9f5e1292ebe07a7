"""Asset compacted_embeddings: the embedding files in one size, without rows that nobody needs.

Not partitioned: a text is embedded once, so a file holds texts of any source, and small files of many sources make one.
It is no part of a sync: a file worth compacting takes many of them.
"""

import dagster as dg

from rag_assets.assets.chunk_embeddings import chunk_embeddings
from rag_assets.assets.run_stage import COMMON
from rag_assets.ingestion.compaction import compact
from resources.dagster_resources import PostgresResource, StorageResource
from resources.errors import RagError


@dg.asset(
    deps=[chunk_embeddings],
    kinds={"python", "parquet", "postgres"},
    code_version="1",
    **{**COMMON, "group_name": "maintenance"},
)
def compacted_embeddings(
    context: dg.AssetExecutionContext, postgres: PostgresResource, storage: StorageResource
) -> dg.MaterializeResult:
    """The embedding files after small and mostly dead ones were put together: their live rows in files of 64 MiB.

    Nothing is embedded, and syncs go on meanwhile. What was replaced is deleted a day later.
    """
    try:
        report = compact(postgres.open(), storage.open(), context.log)
    except RagError as error:
        raise dg.Failure(str(error), allow_retries=error.transient) from error
    return dg.MaterializeResult(metadata=report.as_dict())
