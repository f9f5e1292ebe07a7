"""The job that keeps the history of documents within its months and the raw store tidy, and its schedule."""

from typing import Any

import dagster as dg

from rag_assets.assets.run_stage import RETRY
from rag_assets.automation.jobs import MAX_RUNTIME
from rag_assets.ingestion.garbage import GRACE
from rag_assets.ingestion.raw_files import sweep
from rag_assets.settings.load import load_settings
from resources.dagster_resources import PostgresResource, StorageResource
from resources.postgres.documents.versions import drop_months, make_months


@dg.op(retry_policy=RETRY)
def turn_months(context: dg.OpExecutionContext, postgres: PostgresResource) -> dict[str, Any]:
    with postgres.open().connect(autocommit=True) as connection:
        made = make_months(connection)
        dropped = drop_months(connection, load_settings().history_days)
    found = {"months": made, "dropped": dropped}
    context.add_output_metadata({"history": dg.MetadataValue.json(found)})
    return found


@dg.op(retry_policy=RETRY)
def sweep_raw_files(
    context: dg.OpExecutionContext, postgres: PostgresResource, storage: StorageResource
) -> int:
    with postgres.open().connect(autocommit=True) as connection:
        deleted, _ = sweep(connection, storage.open(), lambda: GRACE)
    context.add_output_metadata({"deleted": deleted})
    return deleted


@dg.job(
    tags=MAX_RUNTIME,
    description="Makes the partitions of document_versions for the months ahead, and drops those beyond the retention. "
    "Deletes raw files that a killed sync left a day ago or earlier.",
)
def keep_history() -> None:
    turn_months()
    sweep_raw_files()


daily_history = dg.ScheduleDefinition(
    name="daily_history",
    job=keep_history,
    cron_schedule="30 3 * * *",
    execution_timezone=load_settings().timezone,
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Makes the months ahead of document_versions, drops the old ones and sweeps raw files, daily at 03:30.",
)
