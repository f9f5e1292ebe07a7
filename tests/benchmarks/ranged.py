"""Unchanged sources, synced in one run over their range of partitions or in one run each.

`python -m tests.benchmarks.ranged [--sources 100] [--singles 10] [--rounds 5] [--json FILE]`. Each run is a process, as
Dagster launches it; the seconds of the run itself are shown separately. Single runs are all alike, so only some are
made and the total is extrapolated. Dagster's own tags select range and partition, as in a backfill.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.benchmarks.claims import Measured
from tests.benchmarks.rag_command import ROOT, command, fresh_home, rag
from tests.benchmarks.report import finish, parser, say
from tests.benchmarks.unchanged import write
from tests.benchmarks.workload import until_quiet

JOB = "sync_source"


def execute(tags: Mapping[str, str]) -> dict[str, Any]:
    """Execute one run in this process. Returns seconds, changed rows, and the numbers of plans and sources."""
    from rag_assets.deployment import Deployment

    deployment = Deployment.from_environment()
    deployment.start(dagster=True)
    keys, job = deployment.sync_partitions(), deployment.definitions.resolve_job_def(JOB)
    started = time.perf_counter()
    result = job.execute_in_process(
        instance=deployment.instance,
        tags=dict(tags),
        run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
    )
    seconds = time.perf_counter() - started
    plans = [
        event.step_materialization_data.materialization.metadata["plan"].value
        for event in result.all_events
        if event.is_step_materialization
    ]
    changed = sum(n for plan in plans for name, n in plan.items() if name != "kept")  # pyright: ignore
    return {"seconds": seconds, "changed": changed, "plans": len(plans), "sources": len(keys)}


def launch(
    home: Path, tags: Mapping[str, str], sources: int, *, idle: bool = True
) -> tuple[float, float]:
    """(seconds of the process, seconds of the run in it). Ends the benchmark unless the run materialized each asset of
    each source and, with `idle`, changed nothing."""
    _, environment = command(home)
    argv = [sys.executable, "-m", "tests.benchmarks.ranged", "--execute", json.dumps(tags)]
    started = time.perf_counter()
    process = subprocess.run(argv, env=environment, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    seconds = time.perf_counter() - started
    if process.returncode:
        raise SystemExit(f"{tags}: exit code {process.returncode}")
    figures = json.loads(process.stdout.splitlines()[-1])
    if (idle and figures["changed"]) or figures["plans"] != 7 * sources:
        raise SystemExit(f"invalid measurement, unexpected work: {tags}: {figures}")
    return seconds, figures["seconds"]


def prepare(home: Path, sources: int) -> tuple[list[str], dict[str, str]]:
    """Ingest sources of one file each. Returns their names in partition order, and the tags of the whole range."""
    names = [f"s{number:04d}" for number in range(sources)]
    for number, name in enumerate(names):
        write(home / "files" / name, 1, number)
    specs = [
        {"name": name, "type": "folder", "config": {"path": str(home / "files" / name)}}
        for name in names
    ]
    (home / "sources.yaml").write_text(json.dumps({"sources": specs}), encoding="utf-8")
    rag(home, "up")
    rag(home, "sources", "apply", str(home / "sources.yaml"))
    whole = {
        "dagster/asset_partition_range_start": names[0],
        "dagster/asset_partition_range_end": names[-1],
    }
    launch(home, whole, sources, idle=False)
    until_quiet()
    return names, whole


def measure(home: Path, sources: int, singles: int, rounds: int) -> Measured:
    measured, (names, whole) = Measured(), prepare(home, sources)
    for _ in range(rounds):
        single = [launch(home, {"dagster/partition": name}, 1) for name in names[:singles]]
        process, run = (sum(seconds) * sources / len(single) for seconds in zip(*single))
        one_process, one_run = launch(home, whole, sources)
        measured.add("13", process, one_process)
        measured.add("13 steps", run, one_run)
        say(f"{sources} runs: {process:.1f} s, {run:.1f} s of it in the steps")
        say(f"one run: {one_process:.1f} s, {one_run:.1f} s of it in the steps")
    measured.conditions["runs"] = (
        f"{singles} of {sources} single runs made, the others extrapolated"
    )
    return measured


def main() -> None:
    arguments = parser("ranged", __doc__)
    arguments.add_argument("--sources", type=int, default=100)
    arguments.add_argument("--singles", type=int, default=10, help="number of single runs to make")
    arguments.add_argument("--execute", type=json.loads, help=argparse.SUPPRESS)
    options = arguments.parse_args()
    if options.execute:
        print(json.dumps(execute(options.execute)))
        return
    with fresh_home() as home:
        finish(options, measure(home, options.sources, options.singles, options.rounds))


if __name__ == "__main__":
    main()
