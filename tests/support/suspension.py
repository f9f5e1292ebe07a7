"""Processes that are stopped for a while, like servers that hang."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil


def suspend(pid: int) -> None:
    """Stop the process. Return when all threads have stopped: on a busy machine one may continue for a while."""
    os.kill(pid, signal.SIGSTOP)
    for thread in psutil.Process(pid).threads():
        status = Path(f"/proc/{pid}/task/{thread.id}/stat")
        while status.read_text().rsplit(")", 1)[1].split()[0] != "T":
            time.sleep(0.01)


@contextmanager
def suspended(pid: int) -> Iterator[None]:
    """Stop the process, and continue it at the end."""
    suspend(pid)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)
