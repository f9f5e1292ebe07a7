"""Jobs: verbs over the assets. `sync_source` brings one source up to date; `check_source` compares everything."""

from contextlib import closing
from typing import Any

import dagster as dg

from rag_assets.assets.document_chunks import ChunkingResource
from rag_assets.assets.run_stage import RETRY, Stage
from rag_assets.automation.op_helpers import for_each_source
from rag_assets.checks.quick import QUICK_CHECKS
from rag_assets.checks.retrieval import RETRIEVAL_CHECKS
from rag_assets.checks.schedule import synced_on_schedule
from rag_assets.checks.tables import chunk_positions_are_contiguous, chunks_have_documents
from rag_assets.ingestion.garbage import drain_removed_sources
from rag_assets.operations.repair import repair_source
from rag_assets.partitions import SOURCES
from resources.dagster_resources import (
    EmbedderResource,
    LimitsResource,
    MilvusResource,
    PostgresResource,
    StorageResource,
)
from resources.postgres.consistency.check_results import record_repair

#: Seconds. A run whose machine lost power stays STARTED for ever otherwise, and keeps its place in the queue.
MAX_RUNTIME = {"dagster/max_runtime": str(24 * 3600)}

#: The pipeline, and the checks without which going on would publish a lie (they cost two queries).
SYNC_SELECTION = dg.AssetSelection.groups("ingestion").without_checks() | dg.AssetSelection.checks(
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
    selection=dg.AssetSelection.all_asset_checks()
    - dg.AssetSelection.checks(*QUICK_CHECKS, *RETRIEVAL_CHECKS, synced_on_schedule),
    description="Every asset check of one source, with the full comparison of PostgreSQL and Milvus. Changes nothing.",
    tags=MAX_RUNTIME,
)

check_source_quickly = dg.define_asset_job(
    "check_source_quickly",
    selection=dg.AssetSelection.checks(*QUICK_CHECKS),
    description="A quick look at one source: counts, and a random sample of its rows in Milvus. Changes nothing.",
    tags=MAX_RUNTIME,
)

evaluate_retrieval = dg.define_asset_job(
    "evaluate_retrieval",
    selection=dg.AssetSelection.groups("evaluation"),
    description="Measures retrieval from one source by its retrieval sets, and checks it against what was accepted.",
    tags=MAX_RUNTIME,
)


@dg.op(retry_policy=RETRY)
def drain_outbox(
    context: dg.OpExecutionContext, postgres: PostgresResource, milvus: MilvusResource
) -> None:
    with closing(milvus.open()) as store:
        count = drain_removed_sources(postgres.open(), store)
    context.log.info(f"{count} chunks of removed sources left Milvus")


@dg.job(
    tags=MAX_RUNTIME,
    description="Deletes the vectors of sources that were removed, from every collection.",
)
def purge_removed_sources() -> None:
    drain_outbox()


class RepairConfig(dg.Config):
    """`dry_run`: print what would be done, change nothing."""

    dry_run: bool = False


@dg.op(retry_policy=RETRY)
def repair(
    context: dg.OpExecutionContext,
    config: RepairConfig,
    postgres: PostgresResource,
    milvus: MilvusResource,
    storage: StorageResource,
    embedder: EmbedderResource,
    chunking: ChunkingResource,
    limits: LimitsResource,
) -> list[dict[str, Any]]:
    def work(stage: Stage) -> dict[str, Any]:
        if not config.dry_run:
            record_repair(stage.connection, stage.source.id, context.run_id)
        report = repair_source(
            stage, milvus, storage, embedder, chunking, limits, dry_run=config.dry_run
        )
        if not config.dry_run:  # what a check saw while this went on is older than its end
            record_repair(stage.connection, stage.source.id, context.run_id)
        return report.as_dict()

    if not config.dry_run:
        with closing(milvus.open()) as store:
            drain_removed_sources(postgres.open(), store)
    reports = for_each_source(context, postgres, "repair", work)
    context.add_output_metadata({"repairs": dg.MetadataValue.json(reports)})
    return reports


@dg.job(
    tags=MAX_RUNTIME,
    partitions_def=SOURCES,
    description="Mends one source: rows from Parquet, orphans by key, damaged files, indexes, aliases, statuses.",
)
def repair_drift() -> None:
    repair()


JOBS = [
    sync_source,
    check_source,
    check_source_quickly,
    evaluate_retrieval,
    repair_drift,
    purge_removed_sources,
]
