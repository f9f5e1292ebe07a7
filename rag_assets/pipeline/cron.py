"""When a source is due and when it is late, by its cron expression or the default one. No database, no clock."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache

import dagster as dg
from dagster._utils.schedules import (
    get_next_cron_tick,
    get_smallest_cron_interval,
    is_valid_cron_schedule,
)

from rag_assets.settings.load import load_settings


@dataclass(frozen=True)
class Timetable:
    """The schedule of sources that have none of their own, the time zone of all, and how long after a tick is late."""

    default: str
    timezone: str
    grace: timedelta

    def cron(self, own: str | None) -> str:
        """A source's expression; one that never comes due (SQL can write anything) is as if there were none."""
        return own if own and comes_due(own) else self.default

    def after(self, own: str | None, moment: datetime) -> datetime:
        """The first tick after a moment."""
        return get_next_cron_tick(self.cron(own), moment + timedelta(seconds=1), self.timezone)

    def lateness(self, own: str | None, done: datetime, now: datetime) -> timedelta | None:
        """How long ago the first sync after `done` was due, if that is longer than the grace; None: it is in time."""
        passed = now - self.after(own, done)
        return passed if passed > self.grace else None


@cache
def comes_due(cron: str) -> bool:
    """Whether an expression can be read and has a tick: `0 0 31 2,4 *` has none."""
    if not is_valid_cron_schedule(cron):
        return False
    try:
        get_next_cron_tick(cron, datetime.now(UTC), "UTC")
    except ValueError:
        return False
    return True


def timetable() -> Timetable:
    settings = load_settings()
    grace = timedelta(minutes=settings.sync_grace_minutes)
    return Timetable(settings.sync_schedule, settings.timezone, grace)


def freshness_policy() -> dg.FreshnessPolicy:
    """Of the asset as a whole, which is all that Dagster judges: some source was synced since the tick before last."""
    table = timetable()
    return dg.FreshnessPolicy.cron(
        deadline_cron=table.default,
        lower_bound_delta=get_smallest_cron_interval(table.default, table.timezone),
        timezone=table.timezone,
    )
