"""How far a stage is, for whoever watches: the command line's bars, or the run's log."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

#: Called with (asset, partition, rows done, rows in all).
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
