"""The sensor that asks for each source's sync when its schedule says so, and says in the UI which source is late.

What is due is what table `sources` says; a sync stays due until it is done, so a request that is lost is made again.
"""

import json
from collections.abc import Sequence
from datetime import UTC, datetime

import dagster as dg

from rag_assets.automation.jobs import sync_source
from rag_assets.automation.run_requests import INTERVAL, in_progress, sync_requests
from rag_assets.checks.schedule import ASSET, NAME, judged
from rag_assets.partitions import SOURCES, partition_key, sync_keys
from rag_assets.pipeline.cron import Timetable, timetable
from resources.dagster_resources import PostgresResource
from resources.postgres.registry.syncs import (
    SyncState,
    mark_interrupted,
    mark_requested,
    plan_syncs,
    sync_states,
)

#: Requests a tick: the queue runs a few at a time, and what is left is due at the next tick.
REQUESTS = 100
#: Seconds after which a sync that was asked for, and of which nothing was seen, is asked for again.
LOST = 600
INTERRUPTED = "The run that was syncing it ended before everything was indexed."


@dg.sensor(
    job=sync_source,
    minimum_interval_seconds=INTERVAL,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Syncs each source when its schedule (or the default one) says so; after failures ever later.",
)
def due_sources_sensor(
    context: dg.SensorEvaluationContext, postgres: PostgresResource
) -> dg.SensorResult:
    """The cursor keeps the names of late sources: only what changes is reported."""
    now, table = datetime.now(UTC), timetable()
    with postgres.open().connect(autocommit=True) as connection:
        states = sync_states(connection)
        working, several = in_progress(context.instance)
        idle = [] if several else [s for s in states if s.name not in working]
        dead = {s.name: s.run for s in idle if s.status == "running"}
        mark_interrupted(connection, dead, INTERRUPTED)
        # Never synced: at once. Else at the next tick of its schedule.
        unplanned = {
            s.id: table.after(s.schedule, now) if s.last_sync_at else now
            for s in states
            if s.next_sync_at is None
        }
        plan_syncs(connection, unplanned)
        due = [s for s in idle if s.name not in dead and _is_due(s, now)]
        known = set(context.instance.get_dynamic_partitions(SOURCES.name or "")) if due else set()
        due = [s for s in due if known.issuperset(sync_keys(s.name, s.shards))][:REQUESTS]
        mark_requested(connection, [s.id for s in due])
    events, cursor = _changes(states, set(json.loads(context.cursor or "[]")), table, now)
    return dg.SensorResult(
        run_requests=[request for s in due for request in sync_requests(s.name, s.shards)],
        asset_events=events,
        cursor=cursor,
        skip_reason=None if due else dg.SkipReason("No source is due."),
    )


def _is_due(state: SyncState, now: datetime) -> bool:
    asked = state.waited is not None and state.waited < LOST
    return state.next_sync_at is not None and state.next_sync_at <= now and not asked


def _changes(
    states: Sequence[SyncState], before: set[str], table: Timetable, now: datetime
) -> tuple[list[dg.AssetCheckEvaluation], str]:
    """What the check of the schedule would now find of the sources that became late or no longer are."""
    found = {s.name: judged(s, table, now) for s in states}
    late = {name for name, evaluation in found.items() if not evaluation.passed}
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
        for name, result in found.items()
        if name in late ^ before
    ]
    return events, json.dumps(sorted(late))
