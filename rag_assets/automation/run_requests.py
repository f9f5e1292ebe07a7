"""When a sensor requests a run: never while one is in progress, and at growing intervals if runs do not help."""

from __future__ import annotations

import json
import time
import uuid
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import dagster as dg

from rag_assets.partitions import PARTITION_TAG, RANGE_TAG, SYNC_TAG
from resources.partition_keys import source_name, sync_keys

#: Seconds between two ticks of a sensor.
INTERVAL = 30
#: Seconds until the same state is requested a second time; doubled after each request, up to LAST_RETRY.
FIRST_RETRY = 60
LAST_RETRY = 3600

#: The key under which a cursor keeps the partition that the next tick begins with; no partition has this key.
_POSITION = ""

T = TypeVar("T")

_IN_PROGRESS = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


def is_running(instance: dg.DagsterInstance, job: str, tags: dict[str, str]) -> bool:
    """Return whether a run of this job with these tags is in progress."""
    return (
        instance.get_runs_count(dg.RunsFilter(job_name=job, tags=tags, statuses=_IN_PROGRESS)) > 0
    )


def sources_in_progress(instance: dg.DagsterInstance) -> tuple[set[str], bool]:
    """Return the sources that runs in progress work on (or on a shard of), in one query.

    The second value is whether one of these runs covers a range of partitions, so that its sources are unknown.
    """
    runs = instance.get_runs(dg.RunsFilter(statuses=_IN_PROGRESS))
    return (
        {source_name(run.tags[PARTITION_TAG]) for run in runs if PARTITION_TAG in run.tags},
        any(RANGE_TAG in run.tags for run in runs),
    )


def canceled_runs(instance: dg.DagsterInstance, runs: Iterable[str | None]) -> set[str]:
    """Return those of the runs that a person canceled."""
    run_ids = [run for run in runs if run]
    if not run_ids:
        return set()
    canceled = dg.RunsFilter(run_ids=run_ids, statuses=[dg.DagsterRunStatus.CANCELED])
    return {run.run_id for run in instance.get_runs(canceled)}


def sync_requests(source_name: str, shards: int) -> list[dg.RunRequest]:
    """Return the request that syncs the source, or one per shard, with a common sync id."""
    tags = {SYNC_TAG: str(uuid.uuid4())} if shards > 1 else {}
    return [dg.RunRequest(partition_key=key, tags=tags) for key in sync_keys(source_name, shards)]


@dataclass
class RequestCursor:
    """A sensor's cursor: per requested partition its state, the number of requests for that state, and the last time.

    Entries that a tick does not ask about are dropped from `current`, the next tick's cursor.
    """

    previous: dict[str, tuple[str, int, float]]
    current: dict[str, tuple[str, int, float]] = field(default_factory=dict)

    @classmethod
    def parse(cls, cursor: str | None) -> RequestCursor:
        return cls({key: tuple(entry) for key, entry in json.loads(cursor or "{}").items()})

    def serialize(self) -> str:
        return json.dumps(self.current)

    def is_due(self, key: str, state: str) -> bool:
        """Return whether to request a run now: at once for a new state, else after the interval has passed."""
        last_state, requests, at = self._keep(key)
        if last_state != state or requests == 0:
            return True
        return time.time() - at >= min(FIRST_RETRY * 2 ** (requests - 1), LAST_RETRY)

    def was_requested(self, key: str, state: str) -> bool:
        """Return whether the last request for this partition was made in the same state."""
        return self._keep(key)[0] == state

    def record_request(self, key: str, state: str) -> None:
        last_state, requests, _ = self._keep(key)
        self.current[key] = (state, requests + 1 if last_state == state else 1, time.time())

    def from_position(self, items: Sequence[T], key: Callable[[T], str]) -> Iterator[T]:
        """Yield all items in the order of their keys, beginning where the last tick stopped."""
        items = sorted(items, key=key)
        keys = [key(item) for item in items]
        start = bisect_left(keys, self.previous.get(_POSITION, ("", 0, 0.0))[0])
        yield from items[start:]
        yield from items[:start]

    def stop_at(self, key: str) -> None:
        """End the tick before this partition: the next one begins here, and all entries are kept."""
        self.current = {**self.previous, **self.current, _POSITION: (key, 0, 0.0)}

    def _keep(self, key: str) -> tuple[str, int, float]:
        """Keep the entry of a partition for the next tick. Returns it, or an empty one."""
        if key in self.previous:
            self.current[key] = self.previous[key]
        return self.previous.get(key, ("", 0, 0.0))
