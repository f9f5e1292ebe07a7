"""Seconds until a sync has recovered from a kill during a sync of edits: `python -m tests.benchmarks.recovery`.

One source of 100,000 chunks, dense vectors of the free embedder; 1 % of the documents are edited before each kill.
Measured: the next `rag ingest` as a process, including imports and starts of servers, and the sum of its stages.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from statistics import median, quantiles

import psutil

from resources.embedded.milvus import find_milvus
from resources.embedded.postgres import postmaster
from resources.embedded.process import ended
from resources.embedded.stack import running
from tests.benchmarks.memory import write_corpus
from tests.benchmarks.rag_command import command, fresh_home, rag
from tests.benchmarks.workload import edit_one_percent, until_quiet
from tests.support.oracle import disagreements

VICTIMS = ("step", "milvus", "postgres", "all")


def interrupted(home: Path, folder: Path, victim: str, seconds: float) -> bool:
    """Run `rag ingest` and kill the victim, and the command, after `seconds`. Returns whether the command still ran."""
    argv, environment = command(home, "ingest", str(folder))
    process = subprocess.Popen(
        argv, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT
    )
    time.sleep(seconds)
    ran = process.poll() is None
    targets: list[psutil.Process] = []
    milvus, postgres = find_milvus(home), postmaster(home / "postgres")
    if victim in ("step", "all") and ran:
        targets.append(psutil.Process(process.pid))
    if victim in ("milvus", "all") and milvus:
        targets.append(milvus.process)
    if victim in ("postgres", "all") and postgres:
        targets += [postgres.process, *postgres.process.children()]
    for target in targets:
        # The process of a connection may have just ended.
        with suppress(psutil.NoSuchProcess):
            target.kill()
    # The command too: its own attempts to recover are not what is measured.
    process.kill()
    process.wait()
    assert all(ended(target, 10) for target in targets)
    return ran


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=8_400, help="12 chunks each")
    parser.add_argument("--kills", type=int, default=16)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    random_source = random.Random(options.seed)
    rounds = []
    with fresh_home() as home:
        folder = home / "corpus"
        write_corpus(folder, options.documents)
        rag(home, "up")
        loaded = rag(home, "ingest", str(folder), "--json")
        chunks = loaded.report()["plan"]["dense_vectors"]["inserted"]
        print(f"{chunks:,} chunks loaded in {loaded.seconds:.0f} s", flush=True)
        # Milvus Lite builds its index of all rows for minutes after the load.
        until_quiet(900)
        edit_one_percent(folder)
        whole = rag(home, "ingest", str(folder)).seconds
        print(f"1 % edited, nothing killed: {whole:.1f} s", flush=True)
        for number in range(options.kills):
            edit_one_percent(folder)
            victim = VICTIMS[number % len(VICTIMS)]
            ran = interrupted(home, folder, victim, random_source.uniform(0.3, 1) * whole)
            recovery = rag(home, "ingest", str(folder), "--json")
            urls = running(home)
            differences = disagreements(urls["postgres"], urls["milvus"], ("dense",))
            if differences:
                raise SystemExit(f"kill {number}: {differences[:5]}")
            stages = recovery.report()["seconds"]
            rounds.append(recovery.seconds)
            figures = {
                "victim": victim,
                "still ran": ran,
                "seconds": round(recovery.seconds, 2),
                "in stages": round(sum(stages.values()), 2),
                "load": round(os.getloadavg()[0], 1),
                **{name: round(value, 2) for name, value in stages.items()},
            }
            print(json.dumps(figures), flush=True)
    p95 = quantiles(rounds, n=100)[94]
    print(f"{len(rounds)} kills: p50 {median(rounds):.1f} s, p95 {p95:.1f}, max {max(rounds):.1f}")


if __name__ == "__main__":
    main()
