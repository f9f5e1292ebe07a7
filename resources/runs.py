"""Which process executes a Dagster run, as tags of the run; and the end of runs whose process is gone.

Dagster's own monitoring asks the code server that started a run's process; of one that died with it, it never hears.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence

import dagster as dg
import psutil

HOST_TAG, PID_TAG = "rag/host", "rag/pid"


def own_run_tags(run_id: str) -> dict[str, str]:
    """With the run's id: a retry is given the tags of the run that died, and says no more until it runs itself."""
    return {
        HOST_TAG: socket.gethostname(),
        PID_TAG: f"{os.getpid()}:{psutil.Process().create_time():.0f}:{run_id}",
    }


def fail_dead_runs(instance: dg.DagsterInstance) -> Sequence[str]:
    """Fails the runs whose process was on this machine and no longer lives."""
    running = instance.get_runs(
        dg.RunsFilter(
            statuses=[
                dg.DagsterRunStatus.STARTED,
                dg.DagsterRunStatus.STARTING,
                dg.DagsterRunStatus.NOT_STARTED,
            ],
            tags={HOST_TAG: socket.gethostname()},
        )
    )
    dead = [
        run
        for run in running
        if run.tags.get(PID_TAG, "").endswith(run.run_id) and not _alive(run.tags[PID_TAG])
    ]
    for run in dead:
        instance.report_run_failed(
            run, "The process that executed this run is gone; the next sync goes on from there."
        )
        instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
    return [run.run_id for run in dead]


def _alive(tag: str) -> bool:
    pid, created, _ = tag.split(":")
    try:
        process = psutil.Process(int(pid))
        return (
            abs(process.create_time() - float(created)) < 2
            and process.status() != psutil.STATUS_ZOMBIE
        )
    except psutil.NoSuchProcess:
        return False
