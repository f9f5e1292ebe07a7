"""Dagster's processes of a deployment on this machine: those that a killed `rag ui` left, and those of another one."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import psutil

from resources.embedded.process import ended
from resources.errors import ConfigError
from resources.run_processes import is_alive, process_tag

#: Names the `rag ui` that started a process. Not RAG_…: that would be a setting.
_OWNER = "_RAG_UI"
_DAEMONS = ("dagster dev", "dagster-daemon")


def owner_variable() -> Mapping[str, str]:
    """Return the environment variable by which a later `rag ui` tells whether this one is alive."""
    return {_OWNER: process_tag("ui")}


def end_orphans(dagster_home: Path, seconds: float) -> Sequence[int]:
    """End the processes of a `rag ui` that was killed. Returns their ids. They launch runs, and keep the port."""
    orphans = [process for process in dagster_processes(dagster_home) if _is_orphan(process)]
    # With their code servers and runs: each `rag ui` starts them in one group.
    groups = set()
    for process in orphans:
        with suppress(ProcessLookupError):
            groups.add(os.getpgid(process.pid))
    groups -= {os.getpgrp()}
    for number in (signal.SIGINT, signal.SIGKILL):
        for group in groups:
            with suppress(ProcessLookupError):
                os.killpg(group, number)
        if all(ended(process, seconds / len(orphans)) for process in orphans):
            break
    return [process.pid for process in orphans]


def expect_no_daemon(dagster_home: Path) -> None:
    """Raise ConfigError if a daemon runs on this deployment: a second one would start as many runs again."""
    processes = dagster_processes(dagster_home)
    if not any(program(process.cmdline()) in _DAEMONS for process in processes):
        return
    shown = "; ".join(
        f"{program(process.cmdline())}, process {process.pid}, since "
        f"{datetime.fromtimestamp(process.create_time(), UTC):%Y-%m-%d %H:%M:%S} UTC"
        for process in processes
    )
    pids = " ".join(str(process.pid) for process in processes)
    raise ConfigError(
        f"Dagster runs on this deployment already ({shown}). A second daemon would start as many runs again. "
        f"Use the UI of the first one, or end it, with Ctrl-C or: kill -INT {pids}"
    )


def dagster_processes(dagster_home: Path) -> list[psutil.Process]:
    """Return the live daemons and UIs of a deployment, of this user on this machine."""
    return list(_dagster_processes(os.path.realpath(dagster_home)))


def _dagster_processes(dagster_home: str) -> Iterator[psutil.Process]:
    for process in psutil.process_iter():
        # Of other users, or ended meanwhile.
        with suppress(psutil.Error, OSError):
            if program(process.cmdline()) and process.status() != psutil.STATUS_ZOMBIE:
                home = process.environ().get("DAGSTER_HOME")
                if home and os.path.realpath(home) == dagster_home:
                    yield process


def _is_orphan(process: psutil.Process) -> bool:
    with suppress(psutil.Error, OSError):
        owner = process.environ().get(_OWNER)
        return owner is not None and not is_alive(owner)
    return False


def program(command: Sequence[str]) -> str:
    """Return the program of Dagster that a command line starts; empty: none that launches runs or shows the UI."""
    words = [Path(word).name for word in command[:5]]
    if "dagster" in words and "dev" in words:
        return "dagster dev"
    if {"dagster-daemon", "dagster._daemon"} & {*words}:
        return "dagster-daemon"
    return "dagster-webserver" if {"dagster-webserver", "dagster_webserver"} & {*words} else ""
