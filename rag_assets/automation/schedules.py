"""All schedules, built from the settings. Syncs have a schedule per source: see `sensors/due_sources.py`."""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from rag_assets.automation.jobs import (
    check_source,
    check_source_quickly,
    compact_embeddings,
    evaluate_retrieval,
    keep_history,
)
from rag_assets.partitions import PARTITION_TAG, SOURCES
from rag_assets.settings.schedules import ScheduleSettings
from resources.dagster_resources import PostgresResource
from resources.partition_keys import partition_key
from resources.postgres.evaluation.retrieval_sets import list_sets
from resources.postgres.registry.sources import list_sources


def build_schedules(settings: ScheduleSettings) -> list[dg.ScheduleDefinition]:
    zone = settings.timezone
    return [
        _of_active_sources(
            "nightly_check",
            check_source,
            settings.nightly_check_schedule,
            zone,
            "Compares every active source's rows in Milvus with PostgreSQL, at 05:00 by default.",
        ),
        _of_active_sources(
            "nightly_evaluation",
            evaluate_retrieval,
            settings.nightly_evaluation_schedule,
            zone,
            "Measures retrieval from every active source that has a retrieval set, at 06:00 by default.",
            with_sets=True,
        ),
        _of_active_sources(
            "frequent_quick_check",
            check_source_quickly,
            settings.quick_check_schedule,
            zone,
            "Checks a sample of every active source's rows in Milvus, every 15 minutes by default.",
        ),
        dg.ScheduleDefinition(
            name="daily_history",
            job=keep_history,
            cron_schedule=settings.history_schedule,
            execution_timezone=zone,
            default_status=dg.DefaultScheduleStatus.RUNNING,
            description="Creates the partitions of document_versions for the months ahead, drops expired ones, and "
            "deletes unused raw files and the details of old runs, daily at 03:30 by default.",
        ),
        dg.ScheduleDefinition(
            name="weekly_compaction",
            job=compact_embeddings,
            cron_schedule=settings.compaction_schedule,
            execution_timezone=zone,
            default_status=dg.DefaultScheduleStatus.RUNNING,
            description="Compacts the embedding files, on Sundays at 04:00 by default.",
        ),
    ]


def _of_active_sources(
    name: str,
    # The type that `define_asset_job` returns; Dagster exports no name for it.
    job: Any,
    cron: str,
    timezone: str,
    description: str,
    *,
    with_sets: bool = False,
) -> dg.ScheduleDefinition:
    """Return a schedule that requests one run per active source; `with_sets`: only sources with a retrieval set.

    A source without a partition is left out; sources_table_sensor adds its partition within a minute.
    """

    @dg.schedule(
        name=name,
        job=job,
        cron_schedule=cron,
        execution_timezone=timezone,
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description=description,
    )
    def request_runs(
        context: dg.ScheduleEvaluationContext, postgres: PostgresResource
    ) -> Iterator[dg.RunRequest]:
        with postgres.open().connect(autocommit=True) as connection:
            sources = [source for source in list_sources(connection) if source.is_active]
            keys = {partition_key(source.name) for source in sources}
            if with_sets:
                keys &= {partition_key(item.source) for item in list_sets(connection)}
        keys &= set(context.instance.get_dynamic_partitions(SOURCES.name or ""))
        tick = context.scheduled_execution_time.isoformat()
        for key in sorted(keys):
            # A tag, not partition_key: Dagster sees no partitions in a job of checks alone and refuses a key.
            yield dg.RunRequest(run_key=f"{key}@{tick}", tags={PARTITION_TAG: key})

    return request_runs
