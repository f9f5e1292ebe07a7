"""The finding about the schedule of a source: whether its last complete sync is young enough."""

from __future__ import annotations

import shlex
from datetime import datetime

from rag_assets.consistency.finding import Finding, conclude
from rag_assets.consistency.remediation import age
from rag_assets.pipeline.cron import Timetable
from resources.postgres.registry.syncs import SyncState


def synced_on_schedule(state: SyncState, timetable: Timetable, now: datetime) -> Finding:
    """Compare the last complete sync with the schedule. A late sync is undetermined until an attempt fails."""
    planned = state.next_sync_at is not None and state.next_sync_at > now
    late = None
    if state.error_count or not planned:
        late = timetable.lateness(state.schedule, state.last_sync_at or state.created_at, now)
    synced = f"last synced {age(state.last_sync_at)} ago" if state.last_sync_at else "never synced"
    facts = {
        "schedule": f"{timetable.cron(state.schedule)} {timetable.timezone}",
        "last_sync_at": str(state.last_sync_at or "never"),
        "next_sync_at": str(state.next_sync_at or "not planned yet"),
        "failures_in_a_row": state.error_count,
        "minutes_late": round(late.total_seconds() / 60) if late else 0,
    }
    if late is None:
        return conclude(
            "passed", f"{state.name}: {synced}, in time.", source=state.name, metadata=facts
        )
    reason = (
        f" {state.error_count} failures in a row: {state.last_error}" if state.last_error else ""
    )
    return conclude(
        "failed" if state.error_count else "undetermined",
        f"{state.name}: {synced}; a sync was due {age(now - late)} ago and is not done.{reason}",
        source=state.name,
        remedy="person",
        command=f"rag ingest {shlex.quote(state.name)}",
        key=[f"{state.name} {state.last_sync_at}"],
        metadata=facts,
    )
