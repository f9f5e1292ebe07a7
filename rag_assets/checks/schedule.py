"""The check that each source is synced when its schedule says so. The sensor of due sources reports it too.

Dagster's freshness policies look at an asset as a whole: one source in time would hide the others. So the asset has a
policy from the default schedule, and each source this check. It is no part of `check_source`, and is not remembered in
`check_results`: a late source is whole, and neither a repair nor another look at its rows would mend it.
"""

from datetime import UTC, datetime
from functools import cache

import dagster as dg

from rag_assets.checks.results import of_each_source, result
from rag_assets.consistency.remediation import age
from rag_assets.partitions import SOURCES
from rag_assets.pipeline.cron import Timetable, timetable
from resources.dagster_resources import PostgresResource
from resources.postgres.connection import Connection
from resources.postgres.registry.syncs import SyncState, sync_states

ASSET, NAME = "source_documents", "synced_on_schedule"


def judged(state: SyncState, table: Timetable, now: datetime) -> dg.AssetCheckResult:
    """Whether the last complete sync of a source is as young as its schedule demands; if not, how late and why."""
    planned = state.next_sync_at is not None and state.next_sync_at > now
    late = None
    if state.error_count or not planned:
        late = table.lateness(state.schedule, state.last_sync_at or state.created_at, now)
    done = f"last synced {age(state.last_sync_at)} ago" if state.last_sync_at else "never synced"
    facts = {
        "schedule": f"{table.cron(state.schedule)} {table.timezone}",
        "last_sync_at": str(state.last_sync_at or "never"),
        "next_sync_at": str(state.next_sync_at or "not planned yet"),
        "failures_in_a_row": state.error_count,
    }
    if late is None:
        return result(True, f"{state.name}: {done}, in time.", metadata=facts)
    reason = (
        f" {state.error_count} failures in a row: {state.last_error}" if state.last_error else ""
    )
    return result(
        False,
        f"{state.name}: {done}; a sync was due {age(now - late)} ago and is not done.{reason}",
        mend=f"rag ingest --name {state.name}",
        warning=not state.error_count,
        metadata={**facts, "minutes_late": round(late.total_seconds() / 60)},
    )


@dg.asset_check(
    asset=ASSET,
    name=NAME,
    description="The source's last complete sync is as young as its schedule (or the default one) demands.",
    partitions_def=SOURCES,
)
def synced_on_schedule(
    context: dg.AssetCheckExecutionContext, postgres: PostgresResource
) -> dg.AssetCheckResult:
    now, table = datetime.now(UTC), timetable()

    @cache
    def states(connection: Connection) -> dict[str, SyncState]:
        return {state.name: state for state in sync_states(connection)}

    def look(connection: Connection, name: str) -> dg.AssetCheckResult:
        state = states(connection).get(name)
        if state is None:
            return result(True, f"{name} is not active: it is not synced.")
        return judged(state, table, now)

    return of_each_source(context, postgres, look, remembered=False)
