"""Server processes: started detached, found again later, stopped.

The common needs of all embedded servers: locks, spawning, pids, logs. A recorded pid is never trusted: `find` compares
the command line, which contains the data folder of exactly one server.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from resources.errors import StackError
from resources.home_folder import create_home

#: Bytes. The next start renames a larger log; one older log is kept.
LOG_LIMIT = 10 << 20

#: Seconds between two polls: far below any start-up time, and no load.
POLL = 0.02


def prepare(home: Path) -> Path:
    """Create the home folder with its `run/` and `logs/`. Return its real path, which command lines contain."""
    home = create_home(home.expanduser().resolve())
    for folder in (home / "run", home / "logs"):
        folder.mkdir(parents=True, exist_ok=True)
    return home


@contextmanager
def locked(home: Path, name: str, timeout: float) -> Iterator[float]:
    """Lock one server against other processes and threads. Yield the `time.monotonic()` deadline.

    The lock belongs to the open file: the kernel frees it however its process ends, and servers do not inherit it.
    """
    deadline = time.monotonic() + timeout
    with (home / "run" / f"{name}.lock").open("a") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise StackError(
                        f"{name}: another process has been starting or stopping it for {timeout:g} s "
                        f"(lock {file.name}); wait for it, or end it, and try again"
                    ) from None
                time.sleep(POLL)
        yield deadline


def spawn(
    argv: Sequence[str], log: Path, *, env: Mapping[str, str] | None = None, **credentials: Any
) -> int:
    """Start a server that outlives this process and return its pid; its output goes to `log`.

    A shell forks the server and ends, so the server is no child of this process and never its zombie, which looks like
    a live server in a stale pid file. `credentials`: user, group, extra_groups, umask of `subprocess`.
    """
    if log.exists() and log.stat().st_size > LOG_LIMIT:
        log.replace(log.with_name(log.name + ".1"))
    log.touch()
    if "user" in credentials:
        os.chown(log, credentials["user"], credentials["group"])
    script = '"$@" </dev/null >>"$0" 2>&1 & echo $!'
    shell = subprocess.run(
        ["/bin/sh", "-c", script, str(log), *argv],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        start_new_session=True,
        # The server's user may not enter the caller's folder.
        cwd="/",
        env=env,
        check=True,
        **credentials,
    )
    return int(shell.stdout)


def find(pid: int | None, *arguments: str) -> psutil.Process | None:
    """Return the live process `pid` if its command line has all `arguments`; None for a zombie or a reused pid."""
    if not pid:
        return None
    try:
        process = psutil.Process(pid)
        if process.status() != psutil.STATUS_ZOMBIE and set(arguments) <= set(process.cmdline()):
            return process
    except psutil.Error:
        pass
    return None


def ended(process: psutil.Process, timeout: float) -> bool:
    """Wait for the end of the process (or for a zombie that another process must reap). Return False on timeout."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        if time.monotonic() >= deadline:
            return False
        time.sleep(POLL)


def tail(log: Path, lines: int = 12) -> str:
    """Return the last lines of a log, indented, for an error message."""
    try:
        text = log.read_text(errors="replace")
    except OSError as error:
        text = f"(log not readable: {error})"
    return "\n".join(f"  {line}" for line in text.splitlines()[-lines:])
