"""Waits that a person should know of: a store that does not answer, another writer. Reported to a listener.

A wait is reported after three seconds. Nobody listens unless the command line does.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

#: Seconds after which a wait is reported.
NOTICE = 3.0

#: Called with (what is waited for, maximum seconds), from another thread.
Listener = Callable[[str, float], None]

_listener: Listener | None = None


def listen(listener: Listener | None) -> None:
    """Set the listener of this process: waits happen in several threads, so it belongs to none of them."""
    global _listener
    _listener = listener


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
