"""The end of Dagster runs whose process died.

Dagster's own monitoring asks the code server that started a run's process; when that server died too, Dagster never
learns of it.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence

import dagster as dg

from resources.run_processes import HOST_TAG, PID_TAG, is_alive

#: (host, process): the tags of today, and those of runs that earlier versions started.
_TAGS = ((HOST_TAG, PID_TAG), ("rag/host", "rag/pid"))


def fail_dead_runs(instance: dg.DagsterInstance) -> Sequence[str]:
    """Fail the runs whose process was on this machine and is no longer alive. Returns their ids."""
    dead = [
        run
        for host_tag, pid_tag in _TAGS
        for run in _unfinished(instance, {host_tag: socket.gethostname()})
        # A retry inherits the tags of its dead run, and has no process yet.
        if run.tags.get(pid_tag, "").endswith(run.run_id) and not is_alive(run.tags[pid_tag])
    ]
    for run in dead:
        instance.report_run_failed(
            run, "The process that executed this run is gone; the next sync continues from there."
        )
        instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
    return [run.run_id for run in dead]


def _unfinished(instance: dg.DagsterInstance, tags: dict[str, str]) -> Sequence[dg.DagsterRun]:
    return instance.get_runs(
        dg.RunsFilter(
            statuses=[
                dg.DagsterRunStatus.STARTED,
                dg.DagsterRunStatus.STARTING,
                dg.DagsterRunStatus.NOT_STARTED,
            ],
            tags=tags,
        )
    )
