"""Micro-batches: requests that differ in one item only, made at the same time, share one call. No Milvus here.

A request without another one in flight is sent at once. While one is in flight, the first of the others waits for at
most WAIT, or for the end of that one, and sends all that joined it. So a single client never waits.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

#: Seconds that a request waits for others, at most.
WAIT = 0.003
#: Items of a call. Beyond, a larger call is no cheaper for each of them.
LARGEST = 32

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass
class _Batch(Generic[Item, Result]):
    """`full`: the batch must not wait any longer. `results` is None if the call failed."""

    items: list[Item] = field(default_factory=list)
    full: threading.Event = field(default_factory=threading.Event)
    done: threading.Event = field(default_factory=threading.Event)
    results: Sequence[Result] | None = None


class Batches(Generic[Item, Result]):
    """Joins calls with equal keys. Safe in threads."""

    def __init__(self, wait: float = WAIT, largest: int = LARGEST) -> None:
        self._wait, self._largest = wait, largest
        self._lock = threading.Lock()
        self._in_flight: Counter[Hashable] = Counter()
        self._waiting: dict[Hashable, _Batch[Item, Result]] = {}

    def call(
        self, key: Hashable, item: Item, send: Callable[[list[Item]], Sequence[Result]]
    ) -> Result:
        """Return the result of `send` for the item, possibly of a call with items of other threads.

        `send` takes items and returns a result for each; it must do the same for equal keys.
        """
        with self._lock:
            batch = self._waiting.get(key)
            leads = batch is None and self._in_flight[key] > 0
            if leads:
                batch = self._waiting[key] = _Batch()
            if batch is not None:
                place = len(batch.items)
                batch.items.append(item)
                if len(batch.items) == self._largest:
                    self._waiting.pop(key)
                    batch.full.set()
            else:
                place = 0
                self._in_flight[key] += 1
        if batch is None:
            return self._counted(key, [item], send)[0]
        if leads:
            batch.full.wait(self._wait)
            self._send(key, batch, send)
        else:
            batch.done.wait()
        if batch.results is None:
            # Perhaps because of the item of another thread: its error must not be this one's.
            return send([item])[0]
        return batch.results[place]

    def _send(
        self,
        key: Hashable,
        batch: _Batch[Item, Result],
        send: Callable[[list[Item]], Sequence[Result]],
    ) -> None:
        with self._lock:
            if self._waiting.get(key) is batch:
                self._waiting.pop(key)
            self._in_flight[key] += 1
        try:
            batch.results = self._counted(key, batch.items, send)
        # Any error: each thread makes its own call, and raises its own.
        except Exception:
            batch.results = None
        finally:
            batch.done.set()

    def _counted(
        self, key: Hashable, items: list[Item], send: Callable[[list[Item]], Sequence[Result]]
    ) -> Sequence[Result]:
        """Send the items of a call that is counted as in flight."""
        try:
            return send(items)
        finally:
            with self._lock:
                self._in_flight[key] -= 1
                if not self._in_flight[key]:
                    del self._in_flight[key]
                    if (batch := self._waiting.get(key)) is not None:
                        batch.full.set()
