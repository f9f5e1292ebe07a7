"""The part of `rag status` about Dagster's runs: what is in progress, what waits, and for what."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rag_assets.cli.output import table
from rag_assets.consistency.remediation import age
from resources.partition_keys import source_name
from resources.postgres.connection import Connection
from resources.postgres.run_queue import QueuedRun, queued_runs

#: The job that Dagster makes for a materialization without one.
_UNNAMED = "__ASSET_JOB"


def run_activity(connection: Connection) -> list[dict[str, Any]]:
    """Return the runs that have not ended, and those that ended but still hold a pool."""
    runs = queued_runs(connection)
    return [
        {
            "run": run.run_id,
            "job": "assets" if run.job == _UNNAMED else run.job,
            "source": _source(run),
            "status": run.status.lower(),
            "since": run.since,
            "ended": not run.is_active,
            "holds": list(run.holds),
            "waits_for": _awaited(run, runs),
        }
        for run in runs
    ]


def _source(run: QueuedRun) -> str:
    """Return the partition of a run, or the ends of its range."""
    return " to ".join(run.partitions)


def _awaited(run: QueuedRun, runs: Sequence[QueuedRun]) -> str:
    """Return what a run waits for, and who has it; empty: nothing."""
    others = [other for other in runs if other.run_id != run.run_id]
    if run.awaits:
        pool = run.awaits[0]
        holders = ", ".join(_named(other) for other in others if pool in other.holds)
        return f"pool {pool}" + (f", held by {holders}" if holders else "")
    if run.status != "QUEUED":
        return ""
    active = [other for other in others if other.is_active and other.status != "QUEUED"]
    names = set(map(source_name, run.partitions))
    if same := [other for other in active if names & set(map(source_name, other.partitions))]:
        return _named(same[0])
    return f"its turn; {len(active)} in progress" if active else "Dagster's daemon: rag ui"


def _named(run: QueuedRun) -> str:
    """Return how a person finds a run: the first part of its id, as Dagster's UI shows it, and its source."""
    ended = (
        "" if run.is_active else f", which has ended ({run.status.lower()}): freed within a minute"
    )
    return f"run {run.run_id[:8]}" + (f" of {_source(run)}" if run.partitions else "") + ended


def _held(run: dict[str, Any]) -> str:
    pools = ", ".join(f"pool {pool}" for pool in run["holds"])
    return f"{pools}, freed within a minute" if pools and run["ended"] else pools


def show_runs(runs: Sequence[dict[str, Any]]) -> None:
    table(
        "Runs",
        ("run", "job", "source", "state", "holds or waits for"),
        [
            (
                run["run"][:8],
                run["job"],
                run["source"],
                f"{run['status']}, {age(run['since'])}",
                run["waits_for"] or _held(run),
            )
            for run in runs
        ],
    )
