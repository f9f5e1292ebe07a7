"""The end of Dagster runs whose process died.

Dagster's own monitoring asks the code server that started a run's process; when that server died too, Dagster never
learns of it.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence

import dagster as dg

from resources.run_processes import HOST_TAG, PID_TAG, is_alive


def fail_dead_runs(instance: dg.DagsterInstance) -> Sequence[str]:
    """Fail the runs whose process was on this machine and is no longer alive. Returns their ids."""
    unfinished = instance.get_runs(
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
        for run in unfinished
        if run.tags.get(PID_TAG, "").endswith(run.run_id) and not is_alive(run.tags[PID_TAG])
    ]
    for run in dead:
        instance.report_run_failed(
            run, "The process that executed this run is gone; the next sync continues from there."
        )
        instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
    return [run.run_id for run in dead]
