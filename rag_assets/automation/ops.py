"""The steps of the jobs in `jobs.py`. Each opens its resources and calls one use-case."""

from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg

from rag_assets.assets.documentation import documentation
from rag_assets.assets.failures import RETRY, errors_as_failures
from rag_assets.automation.op_helpers import for_each_source
from rag_assets.dagster_storage import trim_run_logs
from rag_assets.ingestion.garbage import GRACE
from rag_assets.ingestion.outbox import drain_removed_sources
from rag_assets.ingestion.publishing import drop_unpublished_collections, publish_collections
from rag_assets.ingestion.raw_files import sweep
from rag_assets.ingestion.stage import Stage
from rag_assets.operations.erasure import forget
from rag_assets.operations.rebuild import Rebuilder
from rag_assets.operations.reembed import reembed
from rag_assets.operations.repair import RepairContext, repair_source
from rag_assets.settings.load import load_settings
from resources.dagster_resources import (
    ChunkingResource,
    EmbedderResource,
    LimitsResource,
    MilvusResource,
    PostgresResource,
    StorageResource,
    vector_stores,
)
from resources.postgres.consistency.check_results import record_repair
from resources.postgres.documents.erasures import find_erasure, list_unfinished_erasures
from resources.postgres.documents.versions import drop_months, make_months

# Deletions ---------------------------------------------------------------------------------------------------------


@dg.op(retry_policy=RETRY)
def drain_outbox(
    context: dg.OpExecutionContext, postgres: PostgresResource, milvus: MilvusResource
) -> None:
    """Delete the vectors of removed sources."""
    with errors_as_failures(context), closing(milvus.open()) as store:
        count = drain_removed_sources(postgres.open(), store)
    context.log.info(f"Deleted {count} chunks of removed sources from Milvus.")


@dg.op(retry_policy=RETRY)
def forget_requested(
    context: dg.OpExecutionContext,
    postgres: PostgresResource,
    milvus: MilvusResource,
    storage: StorageResource,
) -> list[dict[str, Any]]:
    """Finish every recorded request of `rag forget`. Returns the receipts."""
    receipts = []
    with errors_as_failures(context), closing(milvus.open()) as store:

        def work(stage: Stage) -> None:
            for hashed_key in list_unfinished_erasures(stage.connection, stage.source.name):
                request = find_erasure(stage.connection, stage.source.name, hashed_key)
                if request is not None:
                    receipts.append(forget(stage, store, storage.open(), request))

        for_each_source(context, postgres, "forget", work)
    context.add_output_metadata({"receipts": dg.MetadataValue.json(receipts)})
    return receipts


@dg.op(retry_policy=RETRY)
def turn_months(context: dg.OpExecutionContext, postgres: PostgresResource) -> dict[str, Any]:
    """Create the partitions of `document_versions` for the months ahead, and drop the expired ones."""
    with errors_as_failures(context), postgres.open().connect(autocommit=True) as connection:
        made = make_months(connection)
        dropped = drop_months(connection, load_settings().history_days)
    report = {"months": made, "dropped": dropped}
    context.add_output_metadata({"history": dg.MetadataValue.json(report)})
    return report


@dg.op(retry_policy=RETRY)
def sweep_raw_files(
    context: dg.OpExecutionContext, postgres: PostgresResource, storage: StorageResource
) -> int:
    """Delete raw files that no document needs. Returns their number."""
    with errors_as_failures(context), postgres.open().connect(autocommit=True) as connection:
        deleted, _ = sweep(connection, storage.open(), lambda: GRACE)
    context.add_output_metadata({"deleted": deleted})
    return deleted


#: Days for which the details of runs are kept: a run that nobody looked into by then needs none.
RUN_LOG_DAYS = 60


@dg.op(retry_policy=RETRY)
def trim_logs(context: dg.OpExecutionContext) -> dict[str, int]:
    """Delete the events of steps, the log lines and the captured output of old runs."""
    deleted = trim_run_logs(context.instance, datetime.now(UTC) - timedelta(days=RUN_LOG_DAYS))
    context.add_output_metadata({"deleted": dg.MetadataValue.json(deleted)})
    return deleted


# Repairs -----------------------------------------------------------------------------------------------------------


class RepairConfig(dg.Config):
    """`dry_run`: only report what a repair would do."""

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
    """Make the rows of a source in Milvus, Parquet and PostgreSQL agree. Returns a report for each source."""
    with errors_as_failures(context), closing(milvus.open()) as store:
        stores = vector_stores(store, storage, milvus, embedder)
        repair_context = RepairContext(
            stores, chunking.config(), storage.precision, limits.outbox_seconds
        )

        def work(stage: Stage) -> dict[str, Any]:
            if not config.dry_run:
                record_repair(stage.connection, stage.source.id, context.run_id)
            report = repair_source(stage, repair_context, dry_run=config.dry_run)
            # Again at the end: the results of checks that ran during the repair are then older than it.
            if not config.dry_run:
                record_repair(stage.connection, stage.source.id, context.run_id)
            return report.as_dict()

        if not config.dry_run:
            drain_removed_sources(postgres.open(), store)
        reports = for_each_source(context, postgres, "repair", work)
    context.add_output_metadata({"repairs": dg.MetadataValue.json(reports)})
    return reports


# Publication -------------------------------------------------------------------------------------------------------


@dg.op(retry_policy=RETRY)
def publish(
    context: dg.OpExecutionContext,
    postgres: PostgresResource,
    milvus: MilvusResource,
    storage: StorageResource,
    embedder: EmbedderResource,
) -> dict[str, Any]:
    """Let the configured model's collections serve if the comparison and the evaluation allow it."""
    with errors_as_failures(context), closing(milvus.open()) as store:
        stores = vector_stores(store, storage, milvus, embedder)
        report = publish_collections(postgres.open(), stores, context.log)
    metadata = dg.MetadataValue.json(report.as_dict())
    if report.blocked:
        message = f"{report.blocked}. The previous collections keep serving."
        evidence = {"publication": metadata, "docs": documentation("how-to/change-the-model.md")}
        raise dg.Failure(message, evidence, allow_retries=False)
    context.add_output_metadata({"publication": metadata})
    return report.as_dict()


class ModelConfig(dg.Config):
    """`model`: the fingerprint of the model whose collections are dropped."""

    model: str


@dg.op(retry_policy=RETRY)
def drop_unpublished(
    context: dg.OpExecutionContext,
    config: ModelConfig,
    postgres: PostgresResource,
    milvus: MilvusResource,
) -> list[str]:
    """Drop the collections of a model that do not serve."""
    with errors_as_failures(context), closing(milvus.open()) as store:
        dropped = drop_unpublished_collections(postgres.open(), store, config.model)
    context.add_output_metadata({"dropped": dg.MetadataValue.json(dropped)})
    return dropped


# Rebuilds ----------------------------------------------------------------------------------------------------------


class RebuildConfig(dg.Config):
    """`source`: only the rows of this source, in place; empty: all rows, into new collections.

    `dry_run`: only report what a rebuild would do.
    """

    source: str = ""
    dry_run: bool = False


@dg.op(retry_policy=RETRY)
def rebuild_collections(
    context: dg.OpExecutionContext,
    config: RebuildConfig,
    postgres: PostgresResource,
    milvus: MilvusResource,
    storage: StorageResource,
    embedder: EmbedderResource,
) -> dict[str, Any]:
    with errors_as_failures(context), closing(milvus.open()) as store:
        stores = vector_stores(store, storage, milvus, embedder)
        rebuilder = Rebuilder(postgres.open(), stores, context.log)
        if config.source:
            report = rebuilder.one_source(config.source, dry_run=config.dry_run)
        else:
            report = rebuilder.all_sources(dry_run=config.dry_run)
    metadata = dg.MetadataValue.json(report.as_dict())
    if report.refused:
        kept = "" if config.source else " The previous collections keep serving."
        evidence = {"rebuild": metadata, "docs": documentation("how-to/rebuild.md")}
        raise dg.Failure(f"{report.refused}.{kept}", evidence, allow_retries=False)
    context.add_output_metadata({"rebuild": metadata})
    return report.as_dict()


@dg.op(retry_policy=RETRY)
def embed_what_is_lost(
    context: dg.OpExecutionContext,
    postgres: PostgresResource,
    storage: StorageResource,
    embedder: EmbedderResource,
) -> list[dict[str, Any]]:
    """Embed the texts whose embeddings are missing or damaged."""
    with errors_as_failures(context):
        model = embedder.model_target()

        def work(stage: Stage) -> dict[str, Any]:
            target = model.target(stage.scope)
            report = reembed(stage, storage.open(), model.embedder, target, storage.precision)
            return report.as_dict()

        reports = for_each_source(context, postgres, "rebuild parquet", work)
    context.add_output_metadata({"rebuilds": dg.MetadataValue.json(reports)})
    return reports
