"""Waits: those that a person should know of, and how long one may be while other work waits for it.

A wait for a store or another writer is reported to a listener after three seconds. Nobody listens unless the command
line does.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

#: Seconds after which a wait is reported.
NOTICE = 3.0

#: Called with (what is waited for, maximum seconds), from another thread.
Listener = Callable[[str, float], None]

_listener: Listener | None = None
_others_wait: ContextVar[bool] = ContextVar("others_wait", default=False)


@contextmanager
def while_others_wait(value: bool) -> Iterator[None]:
    """Say whether other work, such as that of other sources, waits for the work of this thread."""
    token = _others_wait.set(value)
    try:
        yield
    finally:
        _others_wait.reset(token)


def others_wait() -> bool:
    """Return whether other work waits for this thread, so that a server that gave no answer yet gets little time."""
    return _others_wait.get()


def listen(listener: Listener | None) -> None:
    """Set the listener of this process: waits happen in several threads, so it belongs to none of them."""
    global _listener
    _listener = listener


def report(awaited: str, seconds: float) -> None:
    """Report a wait that begins now."""
    if _listener is not None:
        _listener(awaited, seconds)


@contextmanager
def waiting(awaited: str, seconds: float) -> Iterator[None]:
    """Report that the block waits for something, up to so many seconds."""
    if _listener is None or seconds <= NOTICE:
        yield
        return
    timer = threading.Timer(NOTICE, _listener, (awaited, seconds))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
