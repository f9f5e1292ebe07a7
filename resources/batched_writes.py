"""Items that a background thread writes in batches: counts, which may be lost with their process."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import psycopg

from resources.errors import RagError

T = TypeVar("T")

#: Seconds between two writes, and the maximum of items that wait for one; further items are dropped.
INTERVAL = 5.0
WAITING = 100_000

log = logging.getLogger(__name__)


class BatchedWrites(Generic[T]):
    """Takes items from any thread; a background thread, started at the first ones, passes them to `write`.

    `name`: what is written, in the plural, for the warning about a failed write.
    """

    def __init__(self, name: str, write: Callable[[list[T]], None]) -> None:
        self._name, self._write = name, write
        self._items: list[T] = []
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def add(self, items: Sequence[T]) -> None:
        with self._lock:
            if self._thread is None and not self._closing.is_set():
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()
            self._items += items[: WAITING - len(self._items)]

    def close(self) -> None:
        """Write the remaining items, and end the thread."""
        with self._lock:
            self._closing.set()
            thread = self._thread
        if thread is not None:
            thread.join()

    def _run(self) -> None:
        while not self._closing.wait(INTERVAL):
            self._flush()
        self._flush()

    def _flush(self) -> None:
        with self._lock:
            items, self._items = self._items, []
        if not items:
            return
        try:
            self._write(items)
        except (RagError, psycopg.Error) as error:
            # The next write may find PostgreSQL again.
            reason = str(error).partition("\n")[0]
            log.warning("%s were not written: %s", self._name.capitalize(), reason)
