"""Schedules: the full comparison of every active source nightly, then the evaluation of those with retrieval sets; a
quick look at each every 15 minutes.

Syncs have a schedule for each source: `due_sources_sensor`.
"""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from rag_assets.automation.jobs import check_source, check_source_quickly, evaluate_retrieval
from rag_assets.partitions import PARTITION_TAG, SOURCES, partition_key
from rag_assets.settings.load import load_settings
from resources.dagster_resources import PostgresResource
from resources.postgres.evaluation.retrieval_sets import list_sets
from resources.postgres.registry.sources import list_sources


def _of_active_sources(
    name: str,
    job: Any,  # as `define_asset_job` makes it; Dagster exports no name for its type
    cron: str,
    description: str,
    *,
    with_sets: bool = False,
) -> dg.ScheduleDefinition:
    """One run for each active source whose partition exists (the sensor adds the others within a minute). `with_sets`:
    of those that have a retrieval set."""

    @dg.schedule(
        name=name,
        job=job,
        cron_schedule=cron,
        execution_timezone=load_settings().timezone,
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description=description,
    )
    def requests(
        context: dg.ScheduleEvaluationContext, postgres: PostgresResource
    ) -> Iterator[dg.RunRequest]:
        with postgres.open().connect(autocommit=True) as connection:
            sources = [source for source in list_sources(connection) if source.is_active]
            wanted = {partition_key(source.name) for source in sources}
            if with_sets:
                wanted &= {partition_key(each.source) for each in list_sets(connection)}
        wanted &= set(context.instance.get_dynamic_partitions(SOURCES.name or ""))
        tick = context.scheduled_execution_time.isoformat()
        for key in sorted(wanted):
            # By its tag: a job of checks alone has no partitions for Dagster, and a request with a key is refused.
            yield dg.RunRequest(run_key=f"{key}@{tick}", tags={PARTITION_TAG: key})

    return requests


SCHEDULES = [
    _of_active_sources(
        "nightly_check",
        check_source,
        "0 5 * * *",
        "Compares every active source's rows in Milvus with PostgreSQL at 05:00.",
    ),
    _of_active_sources(
        "nightly_evaluation",
        evaluate_retrieval,
        "0 6 * * *",
        "Measures retrieval from every active source that has a retrieval set, at 06:00.",
        with_sets=True,
    ),
    _of_active_sources(
        "frequent_quick_check",
        check_source_quickly,
        load_settings().quick_check_schedule,
        "Looks at a sample of every active source's rows in Milvus, every 15 minutes by default.",
    ),
]
