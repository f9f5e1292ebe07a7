"""Seconds from a kill in the middle of a sync of edits until all is whole again: `python -m tests.benchmarks.recovery`.

One source of 100,000 chunks, dense vectors of the free embedder; 1 % of the documents edited before each kill. Measured
is the next `rag ingest` as a process, imports and servers' starts included, and within it the sum of its stages.
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
    """A `rag ingest` in which the victim is killed so many seconds after it began to write; whether it still ran."""
    argv, environment = command(home, "ingest", str(folder))
    process = subprocess.Popen(argv, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)  # fmt: skip
    time.sleep(seconds)
    ran = process.poll() is None
    hit: list[psutil.Process] = []
    milvus, postgres = find_milvus(home), postmaster(home / "postgres")
    if victim in ("step", "all") and ran:
        hit.append(psutil.Process(process.pid))
    if victim in ("milvus", "all") and milvus:
        hit.append(milvus.process)
    if victim in ("postgres", "all") and postgres:
        hit += [postgres.process, *postgres.process.children()]
    for each in hit:
        with suppress(psutil.NoSuchProcess):  # a connection's process that has just ended by itself
            each.kill()
    process.kill()  # the command as well: what it would do by itself is not the recovery that is measured
    process.wait()
    assert all(ended(each, 10) for each in hit)
    return ran


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=8_400, help="12 chunks each")
    parser.add_argument("--kills", type=int, default=16)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    chance = random.Random(options.seed)
    rounds = []
    with fresh_home() as home:
        folder = home / "corpus"
        write_corpus(folder, options.documents)
        rag(home, "up")
        loaded = rag(home, "ingest", str(folder), "--json")
        chunks = loaded.json()["plan"]["dense_vectors"]["inserted"]
        print(f"{chunks:,} chunks loaded in {loaded.seconds:.0f} s", flush=True)
        until_quiet(900)  # Milvus Lite builds its index of all rows for minutes on after the load
        edit_one_percent(folder)
        whole = rag(home, "ingest", str(folder)).seconds
        print(f"1 % edited, nothing killed: {whole:.1f} s", flush=True)
        for number in range(options.kills):
            edit_one_percent(folder)
            victim = VICTIMS[number % len(VICTIMS)]
            ran = interrupted(home, folder, victim, chance.uniform(0.3, 1) * whole)
            healed = rag(home, "ingest", str(folder), "--json")
            urls = running(home)
            wrong = disagreements(urls["postgres"], urls["milvus"], ("dense",))
            if wrong:
                raise SystemExit(f"kill {number}: {wrong[:5]}")
            stages = healed.json()["seconds"]
            rounds.append(healed.seconds)
            found = {
                "victim": victim,
                "still ran": ran,
                "seconds": round(healed.seconds, 2),
                "in stages": round(sum(stages.values()), 2),
                "load": round(os.getloadavg()[0], 1),
                **{name: round(value, 2) for name, value in stages.items()},
            }
            print(json.dumps(found), flush=True)
    p95 = quantiles(rounds, n=100)[94]
    print(f"{len(rounds)} kills: p50 {median(rounds):.1f} s, p95 {p95:.1f}, max {max(rounds):.1f}")


if __name__ == "__main__":
    main()
