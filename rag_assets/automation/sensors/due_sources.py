"""The sensor that requests each source's sync by its schedule, and reports in the UI which sources are late.

Due syncs are read from table `sources`. A sync stays due until it is done, so a lost request is made again.
"""

import json
from collections.abc import Sequence
from datetime import UTC, datetime

import dagster as dg

from rag_assets.automation.jobs import sync_source
from rag_assets.automation.run_requests import (
    INTERVAL,
    canceled_runs,
    sources_in_progress,
    sync_requests,
)
from rag_assets.checks.results import check_result
from rag_assets.checks.schedule import ASSET, NAME
from rag_assets.consistency.finding import not_applicable
from rag_assets.consistency.sync_findings import synced_on_schedule
from rag_assets.partitions import SOURCES
from rag_assets.pipeline.cron import Timetable
from rag_assets.settings.load import load_settings
from rag_assets.settings.schedules import timetable
from resources.dagster_resources import PostgresResource
from resources.partition_keys import partition_key, sync_keys
from resources.postgres.registry.syncs import (
    SyncState,
    mark_canceled,
    mark_interrupted,
    mark_requested,
    plan_syncs,
    sync_states,
)

#: Maximum requests per tick: the queue runs a few at a time, and the remaining sources are due at the next tick.
MAX_REQUESTS = 100
#: Seconds after which a requested sync that did not start is requested again.
LOST_SECONDS = 600
INTERRUPTED = "The run that was syncing it ended before everything was indexed."


@dg.sensor(
    job=sync_source,
    minimum_interval_seconds=INTERVAL,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Syncs each source by its schedule (or the default one); after failures at growing intervals.",
)
def due_sources_sensor(
    context: dg.SensorEvaluationContext, postgres: PostgresResource
) -> dg.SensorResult:
    """The cursor contains the names of late sources: only changes are reported."""
    now, table = datetime.now(UTC), timetable(load_settings())
    with postgres.open().connect(autocommit=True) as connection:
        states = sync_states(connection)
        running, is_range_running = sources_in_progress(context.instance)
        idle = [] if is_range_running else [s for s in states if s.name not in running]
        ended = {s.name: s.run for s in idle if s.status == "running"}
        canceled = canceled_runs(context.instance, ended.values())
        dead = {name: run for name, run in ended.items() if run not in canceled}
        mark_interrupted(connection, dead, INTERRUPTED)
        mark_canceled(connection, [name for name in ended if name not in dead])
        # A source without any sync is due at once, others at the next tick of their schedule.
        unplanned = {
            s.id: table.after(s.schedule, now) if s.last_sync_at or s.run else now
            for s in states
            if s.next_sync_at is None
        }
        plan_syncs(connection, unplanned)
        due = [s for s in idle if s.name not in ended and _is_due(s, now)]
        partitions = (
            set(context.instance.get_dynamic_partitions(SOURCES.name or "")) if due else set()
        )
        due = [s for s in due if partitions.issuperset(sync_keys(s.name, s.shards))][:MAX_REQUESTS]
        mark_requested(connection, [s.id for s in due])
    events, cursor = _changes(states, set(json.loads(context.cursor or "[]")), table, now)
    return dg.SensorResult(
        run_requests=[request for s in due for request in sync_requests(s.name, s.shards)],
        asset_events=events,
        cursor=cursor,
        skip_reason=None if due else dg.SkipReason("No source is due."),
    )


def _is_due(state: SyncState, now: datetime) -> bool:
    is_requested = state.waited is not None and state.waited < LOST_SECONDS
    return state.next_sync_at is not None and state.next_sync_at <= now and not is_requested


def _changes(
    states: Sequence[SyncState], before: set[str], table: Timetable, now: datetime
) -> tuple[list[dg.AssetCheckEvaluation], str]:
    """Return check evaluations of the sources that became late or no longer are, and the new cursor."""
    results = {s.name: check_result(synced_on_schedule(s, table, now)) for s in states}
    # Dagster shows the last result of a check, whose source may be gone or paused since.
    for name in before - results.keys():
        reason = f"{name} was removed or paused, so it is not synced."
        results[name] = check_result(not_applicable(reason))
    late = {name for name, result in results.items() if not result.passed}
    events = [
        dg.AssetCheckEvaluation(
            asset_key=dg.AssetKey(ASSET),
            check_name=NAME,
            passed=result.passed,
            metadata=result.metadata,
            severity=result.severity,
            description=result.description,
            partition=partition_key(name),
        )
        for name, result in results.items()
        if name in late ^ before
    ]
    return events, json.dumps(sorted(late))
