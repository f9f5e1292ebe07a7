"""The job that keeps the history of documents within its months, and its schedule."""

from typing import Any

import dagster as dg

from rag_assets.assets.stage import RETRY
from rag_assets.automation.jobs import MAX_RUNTIME
from rag_assets.settings import load_settings
from resources.configured import PostgresResource
from resources.postgres.versions import drop_months, make_months


@dg.op(retry_policy=RETRY)
def turn_months(context: dg.OpExecutionContext, postgres: PostgresResource) -> dict[str, Any]:
    with postgres.open().connect(autocommit=True) as connection:
        made = make_months(connection)
        dropped = drop_months(connection, load_settings().history_days)
    found = {"months": made, "dropped": dropped}
    context.add_output_metadata({"history": dg.MetadataValue.json(found)})
    return found


@dg.job(
    tags=MAX_RUNTIME,
    description="Makes the partitions of document_versions for the months ahead, and drops those beyond the retention.",
)
def keep_history() -> None:
    turn_months()


daily_history = dg.ScheduleDefinition(
    name="daily_history",
    job=keep_history,
    cron_schedule="30 3 * * *",
    execution_timezone=load_settings().timezone,
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Makes the months ahead of document_versions and drops the old ones, daily at 03:30.",
)
