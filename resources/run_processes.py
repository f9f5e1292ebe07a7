"""The tags of a run that name the process executing it and its command, and whether that process is still alive.

Without Dagster.
"""

from __future__ import annotations

import os
import shlex
import socket
import sys
from pathlib import Path

import psutil

from resources.urls import without_secrets

#: Dagster's UI does not show tags with this prefix: nobody filters runs by a process.
_HIDDEN = ".dagster/"
HOST_TAG, PID_TAG = f"{_HIDDEN}rag_host", f"{_HIDDEN}rag_pid"
#: The command of `rag` that a run belongs to, such as `repair --dry-run`.
COMMAND_TAG = "rag/command"
#: Characters. A command may name any number of files.
_MAX_COMMAND = 200


def own_run_tags(run_id: str) -> dict[str, str]:
    """Return the tags of a run that this process executes.

    They contain the run's id: a retry inherits the tags of the dead run, and gets its own when it starts.
    """
    return {
        HOST_TAG: socket.gethostname(),
        PID_TAG: f"{os.getpid()}:{psutil.Process().create_time():.0f}:{run_id}",
    }


def own_command_tags() -> dict[str, str]:
    """Return the tag of the command that this process executes; empty outside `rag`."""
    program, *arguments = sys.argv or [""]
    if Path(program).stem != "rag" or not arguments:
        return {}
    command = shlex.join(map(without_secrets, arguments))
    return {COMMAND_TAG: f"{command[:_MAX_COMMAND]}…" if command[_MAX_COMMAND:] else command}


def is_alive(tag: str) -> bool:
    """Return whether the process of a PID_TAG runs on this machine."""
    pid, created, _ = tag.split(":")
    try:
        process = psutil.Process(int(pid))
        return (
            abs(process.create_time() - float(created)) < 2
            and process.status() != psutil.STATUS_ZOMBIE
        )
    except psutil.NoSuchProcess:
        return False
