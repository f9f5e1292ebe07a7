"""The tags of a run that name the process executing it, and whether that process is still alive. Without Dagster."""

from __future__ import annotations

import os
import socket

import psutil

HOST_TAG, PID_TAG = "rag/host", "rag/pid"


def own_run_tags(run_id: str) -> dict[str, str]:
    """Return the tags of a run that this process executes.

    They contain the run's id: a retry inherits the tags of the dead run, and gets its own when it starts.
    """
    return {
        HOST_TAG: socket.gethostname(),
        PID_TAG: f"{os.getpid()}:{psutil.Process().create_time():.0f}:{run_id}",
    }


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
