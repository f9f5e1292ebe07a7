"""Jobs: verbs over the assets. `sync_source` brings one source up to date; `check_source` compares everything."""

import dagster as dg

from rag_assets.assets.stage import RETRY
from rag_assets.checks.tables import chunk_positions_are_contiguous, chunks_have_documents
from rag_assets.maintenance import drain_removed_sources
from resources.configured import MilvusResource, PostgresResource

#: Seconds. A run whose machine lost power stays STARTED for ever otherwise, and keeps its place in the queue.
MAX_RUNTIME = {"dagster/max_runtime": str(24 * 3600)}

#: The pipeline, and the checks without which going on would publish a lie (they cost two queries).
SYNC_SELECTION = dg.AssetSelection.all().without_checks() | dg.AssetSelection.checks(
    chunks_have_documents, chunk_positions_are_contiguous
)

sync_source = dg.define_asset_job(
    "sync_source",
    selection=SYNC_SELECTION,
    description="Brings one source up to date in PostgreSQL, Parquet and Milvus. Does nothing where nothing changed.",
    tags=MAX_RUNTIME,
)

check_source = dg.define_asset_job(
    "check_source",
    selection=dg.AssetSelection.all_asset_checks(),
    description="Every asset check of one source, with the full comparison of PostgreSQL and Milvus. Changes nothing.",
    tags=MAX_RUNTIME,
)


@dg.op(retry_policy=RETRY)
def drain_outbox(
    context: dg.OpExecutionContext, postgres: PostgresResource, milvus: MilvusResource
) -> None:
    store = milvus.open()
    try:
        count = drain_removed_sources(postgres.open(), store)
    finally:
        store.close()
    context.log.info(f"{count} chunks of removed sources left Milvus")


@dg.job(
    tags=MAX_RUNTIME,
    description="Deletes the vectors of sources that were removed, from every collection.",
)
def purge_removed_sources() -> None:
    drain_outbox()


JOBS = [sync_source, check_source, purge_removed_sources]
