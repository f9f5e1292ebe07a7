"""When a sensor asks for a run: not while one is at it, and ever more seldom for what a run did not change."""

from __future__ import annotations

import json
import time
import uuid
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import dagster as dg

from rag_assets.partitions import PARTITION_TAG, RANGE_TAG, SYNC_TAG, source_name, sync_keys

#: Seconds between two looks of a sensor.
INTERVAL = 30
#: Seconds until what was requested once and is still there is requested again, doubled each time.
FIRST_RETRY = 60
LAST_RETRY = 3600

#: In a cursor, the partition that the next tick begins with; no partition has this key.
_POSITION = ""

T = TypeVar("T")

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


def in_progress(instance: dg.DagsterInstance) -> tuple[set[str], bool]:
    """(sources that runs in progress are for, or for a shard of, whether one of these runs is for a range of
    partitions), in one query."""
    runs = instance.get_runs(dg.RunsFilter(statuses=_IN_PROGRESS))
    return (
        {source_name(run.tags[PARTITION_TAG]) for run in runs if PARTITION_TAG in run.tags},
        any(RANGE_TAG in run.tags for run in runs),
    )


def sync_requests(source_name: str, shards: int) -> list[dg.RunRequest]:
    """A run that syncs the source, or one for each of its shards, all of one sync."""
    tags = {SYNC_TAG: str(uuid.uuid4())} if shards > 1 else {}
    return [dg.RunRequest(partition_key=key, tags=tags) for key in sync_keys(source_name, shards)]


@dataclass
class Asked:
    """A sensor's cursor: for each partition asked for, what was seen, how often it was asked for, and when.

    Only partitions that are looked at again, by `due`, `known` or `asked`, are kept.
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

    def known(self, key: str, seen: str) -> bool:
        """Whether it was asked for because of the same."""
        if key in self.before:
            self.after[key] = self.before[key]
        return self.before.get(key, ("", 0, 0.0))[0] == seen

    def asked(self, key: str, seen: str) -> None:
        last, times, _ = self.before.get(key, ("", 0, 0.0))
        self.after[key] = (seen, times + 1 if last == seen else 1, time.time())

    def round(self, items: Sequence[T], key: Callable[[T], str]) -> Iterator[T]:
        """The items in the order of their keys, from where the last tick stopped, and around to there."""
        items = sorted(items, key=key)
        keys = [key(item) for item in items]
        start = bisect_left(keys, self.before.get(_POSITION, ("", 0, 0.0))[0])
        yield from items[start:]
        yield from items[:start]

    def stopped_at(self, key: str) -> None:
        """The tick ends before this partition: what was asked of others is kept, and the next one begins here."""
        self.after = {**self.before, **self.after, _POSITION: (key, 0, 0.0)}

    def cursor(self) -> str:
        return json.dumps(self.after)
