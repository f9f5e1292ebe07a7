"""All jobs: verbs over the assets and ops. `sync_source` brings one source up to date; `check_source` compares it."""

import dagster as dg

from rag_assets.automation import ops
from rag_assets.checks.retrieval import RETRIEVAL_CHECKS
from rag_assets.checks.sample_checks import QUICK_CHECKS
from rag_assets.checks.schedule import synced_on_schedule
from rag_assets.checks.tables import chunk_positions_are_contiguous, chunks_have_documents
from rag_assets.partitions import SOURCES

#: A run whose machine lost power otherwise stays STARTED for ever and keeps its place in the queue. A day for jobs that
#: read or write a whole source or collection, an hour for the others.
LONG = {"dagster/max_runtime": str(24 * 3600)}
SHORT = {"dagster/max_runtime": str(3600)}
#: dagster.yaml retries no run whose step failed: steps have retries of their own, and sensors sync a failed source
#: again. Checks have neither.
RETRIED = {"dagster/retry_on_asset_or_op_failure": "true"}

# Jobs of assets and checks -----------------------------------------------------------------------------------------

#: The pipeline, and the two checks that must pass before anything is published (they cost two queries).
SYNC_SELECTION = dg.AssetSelection.groups("ingestion").without_checks() | dg.AssetSelection.checks(
    chunks_have_documents, chunk_positions_are_contiguous
)

sync_source = dg.define_asset_job(
    "sync_source",
    selection=SYNC_SELECTION,
    description="Brings one source up to date in PostgreSQL, Parquet and Milvus. Does nothing if nothing changed.",
    tags=LONG,
)

check_source = dg.define_asset_job(
    "check_source",
    selection=dg.AssetSelection.all_asset_checks()
    - dg.AssetSelection.checks(*QUICK_CHECKS, *RETRIEVAL_CHECKS, synced_on_schedule),
    description="Runs every asset check of one source, with the full comparison of PostgreSQL and Milvus. "
    "Changes nothing.",
    tags={**LONG, **RETRIED},
)

check_source_quickly = dg.define_asset_job(
    "check_source_quickly",
    selection=dg.AssetSelection.checks(*QUICK_CHECKS),
    description="Checks counts and a random sample of one source's rows in Milvus. Changes nothing.",
    tags={**SHORT, **RETRIED},
)

evaluate_retrieval = dg.define_asset_job(
    "evaluate_retrieval",
    selection=dg.AssetSelection.groups("evaluation"),
    description="Measures retrieval from one source with its retrieval sets, and compares it with the accepted one.",
    tags=LONG,
)

compact_embeddings = dg.define_asset_job(
    "compact_embeddings",
    selection=dg.AssetSelection.groups("maintenance"),
    description="Merges small and mostly dead embedding files, without a model call. Syncs continue.",
    tags=LONG,
)

# Jobs of ops -------------------------------------------------------------------------------------------------------


@dg.job(
    tags=LONG,
    description="Lets the collections of a new model serve, after the full comparison of every source and a "
    "measurement of retrieval. Syncs ask for it.",
)
def publish_collections() -> None:
    ops.publish()


@dg.job(
    tags=SHORT,
    description="Drops the collections of a model that was compared with the serving one. Its embeddings stay.",
)
def drop_unpublished_collections() -> None:
    ops.drop_unpublished()


@dg.job(
    tags=SHORT,
    description="Deletes the vectors of removed sources from every collection.",
)
def purge_removed_sources() -> None:
    ops.drain_outbox()


@dg.job(
    tags=LONG,
    partitions_def=SOURCES,
    description="Removes the documents that `rag forget` named from every store, and writes their receipts.",
)
def forget_documents() -> None:
    ops.forget_requested()


@dg.job(
    tags=SHORT,
    description="Creates the partitions of document_versions for the months ahead, and drops those beyond the "
    "retention. Deletes raw files that a killed sync left a day ago or earlier, and the details of runs after "
    f"{ops.RUN_LOG_DAYS} days.",
)
def keep_history() -> None:
    ops.turn_months()
    ops.sweep_raw_files()
    ops.trim_logs()


@dg.job(
    tags=LONG,
    partitions_def=SOURCES,
    description="Repairs one source: rows from Parquet, orphans by key, damaged files, indexes, aliases, statuses.",
)
def repair_drift() -> None:
    ops.repair()


@dg.job(
    tags=LONG,
    description="Writes new collections from Parquet without a model call; they serve once the full comparison passes.",
)
def rebuild_milvus() -> None:
    ops.rebuild_collections()


@dg.job(
    tags=LONG,
    partitions_def=SOURCES,
    description="Embeds again the texts of a source whose Parquet files are gone or damaged. Does not change Milvus.",
)
def rebuild_parquet() -> None:
    ops.embed_what_is_lost()


JOBS = [
    sync_source,
    check_source,
    check_source_quickly,
    evaluate_retrieval,
    compact_embeddings,
    purge_removed_sources,
    forget_documents,
    keep_history,
    publish_collections,
    drop_unpublished_collections,
    repair_drift,
    rebuild_milvus,
    rebuild_parquet,
]
