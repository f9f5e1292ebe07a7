"""Schedules: the full comparison of every active source nightly, then the evaluation of those with retrieval sets; a
quick look at each every 15 minutes.

Syncs have a schedule for each source: `due_sources_sensor`.
"""

from collections.abc import Iterator

import dagster as dg

from rag_assets.automation.jobs import check_source, check_source_quickly, evaluate_retrieval
from rag_assets.partitions import PARTITION_TAG, SOURCES, partition_key
from rag_assets.settings import load_settings
from resources.configured import PostgresResource
from resources.postgres.retrieval_sets import list_sets
from resources.postgres.sources import list_sources


def _request_active_sources(
    context: dg.ScheduleEvaluationContext, postgres: PostgresResource, *, with_sets: bool = False
) -> Iterator[dg.RunRequest]:
    """One run for each active source whose partition exists (the sensor adds the others within a minute). `with_sets`:
    of those that have a retrieval set."""
    with postgres.open().connect(autocommit=True) as connection:
        active = {
            partition_key(source.name) for source in list_sources(connection) if source.is_active
        }
        if with_sets:
            active &= {partition_key(each.source) for each in list_sets(connection)}
    tick = context.scheduled_execution_time.isoformat()
    for key in sorted(active & set(context.instance.get_dynamic_partitions(SOURCES.name or ""))):
        # By its tag: a job of checks alone has no partitions for Dagster, and a request with a key is refused.
        yield dg.RunRequest(run_key=f"{key}@{tick}", tags={PARTITION_TAG: key})


@dg.schedule(
    job=check_source,
    cron_schedule="0 5 * * *",
    execution_timezone=load_settings().timezone,
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Compares every active source's rows in Milvus with PostgreSQL at 05:00.",
)
def nightly_check(
    context: dg.ScheduleEvaluationContext, postgres: PostgresResource
) -> Iterator[dg.RunRequest]:
    yield from _request_active_sources(context, postgres)


@dg.schedule(
    job=check_source_quickly,
    cron_schedule=load_settings().quick_check_schedule,
    execution_timezone=load_settings().timezone,
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Looks at a sample of every active source's rows in Milvus, every 15 minutes by default.",
)
def frequent_quick_check(
    context: dg.ScheduleEvaluationContext, postgres: PostgresResource
) -> Iterator[dg.RunRequest]:
    yield from _request_active_sources(context, postgres)


@dg.schedule(
    job=evaluate_retrieval,
    cron_schedule="0 6 * * *",
    execution_timezone=load_settings().timezone,
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Measures retrieval from every active source that has a retrieval set, at 06:00.",
)
def nightly_evaluation(
    context: dg.ScheduleEvaluationContext, postgres: PostgresResource
) -> Iterator[dg.RunRequest]:
    yield from _request_active_sources(context, postgres, with_sets=True)


SCHEDULES = [nightly_check, nightly_evaluation, frequent_quick_check]
