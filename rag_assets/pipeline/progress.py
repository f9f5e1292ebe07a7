"""Progress of a stage, reported to a listener: the command line's progress bars or the run's log."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

#: Called with (asset, partition, rows done, total rows).
Listener = Callable[[str, str, int, int], None]

_listener: ContextVar[Listener | None] = ContextVar("progress_listener", default=None)


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def report(asset: str, partition: str, done: int, total: int) -> None:
    listener = _listener.get()
    if listener is not None:
        listener(asset, partition, done, total)
