"""What processes and folders use: processor time, memory, bytes on disk. Needs only psutil."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

#: Share of one processor below which processes are idle.
IDLE = 0.1


def tree(process: psutil.Process) -> list[psutil.Process]:
    """Return the process and its descendants."""
    with suppress(psutil.NoSuchProcess):
        return [process, *process.children(recursive=True)]
    return []


def processor_seconds(*roots: psutil.Process) -> float:
    """Seconds in user and system mode of the processes and their descendants, those that ended too."""
    total = 0.0
    for process in (each for root in roots for each in tree(root)):
        with suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system
            # Of children that ended. macOS does not report them.
            total += getattr(times, "children_user", 0.0) + getattr(times, "children_system", 0.0)
    return total


def memory(*roots: psutil.Process) -> int:
    """Bytes of memory of the processes and their descendants; each shared page counts once (where PSS exists)."""
    total = 0
    for process in (each for root in roots for each in tree(root)):
        with suppress(psutil.NoSuchProcess):
            try:
                sizes: Any = process.memory_full_info()
            except psutil.AccessDenied:
                sizes = process.memory_info()
            total += getattr(sizes, "pss", sizes.rss)
    return total


class Peaks:
    """The highest memory of groups of processes while its block runs, looked at once a second.

    `groups`: name -> function that returns its processes, which may start and end meanwhile.
    """

    def __init__(self, groups: Mapping[str, Callable[[], Iterable[psutil.Process]]]) -> None:
        self.bytes = dict.fromkeys(groups, 0)
        self._groups = groups
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Peaks:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._ended.wait(1.0):
            for name, processes in self._groups.items():
                self.bytes[name] = max(self.bytes[name], memory(*processes()))


def until_idle(processes: Iterable[psutil.Process], limit: float) -> bool:
    """Wait until the processes are idle for three seconds. Returns False if they are not within `limit` seconds.

    Unlike a quiet machine, this does not depend on other programs.
    """
    roots, deadline, idle = list(processes), time.monotonic() + limit, 0
    while idle < 3:
        before, started = processor_seconds(*roots), time.monotonic()
        time.sleep(1)
        used = processor_seconds(*roots) - before
        idle = idle + 1 if used <= IDLE * (time.monotonic() - started) else 0
        if time.monotonic() > deadline:
            return False
    return True


def disk_bytes(folder: Path) -> int:
    """Bytes of the disk that the files of a folder take."""
    total = 0
    for path in folder.rglob("*"):
        # A server may delete a file meanwhile.
        with suppress(OSError):
            total += path.lstat().st_blocks * 512
    return total
