"""When a sensor asks for a run: not while one is at it, and ever more seldom for what a run did not change."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field

import dagster as dg

#: Seconds between two looks of a sensor.
INTERVAL = 30
#: Seconds until what was requested once and is still there is requested again, doubled each time.
FIRST_RETRY = 60
LAST_RETRY = 3600

_IN_PROGRESS = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


def busy(instance: dg.DagsterInstance, job: str | None, tags: dict[str, str]) -> bool:
    """Whether a run with these tags, of this job or of any, is in progress."""
    return (
        instance.get_runs_count(dg.RunsFilter(job_name=job, tags=tags, statuses=_IN_PROGRESS)) > 0
    )


@dataclass
class Asked:
    """A sensor's cursor: for each partition asked for, what was seen, how often it was asked for, and when.

    Only partitions that are looked at again, by `due` or `asked`, are kept.
    """

    before: dict[str, tuple[str, int, float]]
    after: dict[str, tuple[str, int, float]] = field(default_factory=dict)

    @classmethod
    def of(cls, cursor: str | None) -> Asked:
        return cls({key: tuple(asked) for key, asked in json.loads(cursor or "{}").items()})

    def due(self, key: str, seen: str) -> bool:
        """Whether it is time to ask: at once for what is seen the first time."""
        last, times, at = self.before.get(key, ("", 0, 0.0))
        if key in self.before:
            self.after[key] = self.before[key]
        if last != seen or times == 0:
            return True
        return time.time() - at >= min(FIRST_RETRY * 2 ** (times - 1), LAST_RETRY)

    def asked(self, key: str, seen: str) -> None:
        last, times, _ = self.before.get(key, ("", 0, 0.0))
        self.after[key] = (seen, times + 1 if last == seen else 1, time.time())

    def cursor(self) -> str:
        return json.dumps(self.after)
