"""The ticks of cron expressions, and when a source is due or late. No database, no clock."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo

#: R or r(0-30) as a field or in a list; no name of a month or day begins with r.
_RANDOM = re.compile(r"(^|[\s,])r", re.IGNORECASE)


@dataclass(frozen=True)
class Timetable:
    """When sources are synced.

    `default` is the schedule of sources without their own; a sync is late `grace` after its tick.
    """

    default: str
    timezone: str
    grace: timedelta

    def cron(self, own: str | None) -> str:
        """Return a source's expression, or the default if it never comes due (SQL can write anything)."""
        return own if own and comes_due(own) else self.default

    def after(self, own: str | None, moment: datetime) -> datetime:
        """Return the first tick after a moment.

        The hour that is repeated when daylight saving time ends has its ticks twice. Dagster's own schedules tick in
        its second pass alone, unless they tick every hour.
        """
        # Imported here: it takes 50 ms, and most commands do not need it.
        from croniter import croniter

        start = moment.astimezone(ZoneInfo(self.timezone))
        return croniter(self.cron(own), start).get_next(datetime)

    def lateness(self, own: str | None, done: datetime, now: datetime) -> timedelta | None:
        """Return the time since the first sync after `done` was due; None within the grace period."""
        # Python subtracts two times of one zone by the clock on the wall, which is an hour off when clocks change.
        passed = now.astimezone(UTC) - self.after(own, done).astimezone(UTC)
        return passed if passed > self.grace else None


@cache
def comes_due(cron: str) -> bool:
    """Return whether an expression is valid and has a tick.

    Valid are five fields, or a macro such as @daily: what Dagster reads. `0 0 31 2,4 *` is valid and has no tick.
    """
    from croniter import CroniterError, croniter

    fields = cron.split()
    is_macro = len(fields) == 1 and fields[0].startswith("@")
    # croniter also reads seconds and years as sixth and seventh field, ...
    if not is_macro and len(fields) != 5:
        return False
    # ... the working day nearest to a day (15W), and random times (R), which differ at each call.
    if not is_macro and ("w" in fields[2].lower() or _RANDOM.search(cron)):
        return False
    try:
        croniter(cron, datetime(2000, 1, 1, tzinfo=UTC)).get_next()
    except CroniterError:
        return False
    return True
