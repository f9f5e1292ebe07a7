"""Signals that end a command: it cleans up and then ends, however it is stopped."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

#: A supervisor or `timeout` sends SIGTERM, a closed terminal SIGHUP. A script that starts a command in its background
#: makes it ignore SIGINT.
ENDING = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)


@contextmanager
def interruptible() -> Iterator[None]:
    """Raise KeyboardInterrupt in the block for each signal that ends a command, so that it cleans up."""
    previous = {number: signal.signal(number, _interrupt) for number in ENDING}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
