"""Kills random victims at random moments and checks every invariant after each: `python -m tests.faults.soak`.

`--rounds 1000 --minutes 60 --seed 1`: ends after the rounds or the minutes. Seed and number determine a round. A failed
round is printed with its error, and the soak continues in a new deployment. Exit code 1 if any round failed.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
import traceback
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from statistics import median, quantiles

import psutil

from resources.embedded.process import ended
from tests.faults.deployed import Deployed, deployed, finish

#: Victim -> weight. `all`: the step and both servers at once.
VICTIMS = {"step": 50, "milvus": 20, "postgres": 15, "all": 15}
WORK = {"sync": 85, "repair": 15}


@dataclass
class Soak:
    seed: int
    kills: Counter[str] = field(default_factory=Counter)
    missed: int = 0
    recoveries: list[float] = field(default_factory=list)
    failed: list[int] = field(default_factory=list)

    def round(self, deployment: Deployed, number: int, duration: float) -> None:
        random_state = random.Random(f"{self.seed}/{number}")
        (work,) = random_state.choices(list(WORK), list(WORK.values()))
        (victim,) = random_state.choices(list(VICTIMS), list(VICTIMS.values()))
        moment = random_state.uniform(0, duration)
        # The round's number is also its generation, so that a single round can be repeated.
        deployment.generation = number
        deployment.change()
        process, receiver = deployment.start(work, milvus_timeout=3.0)
        time.sleep(moment)
        processes = victims(deployment, victim, process.pid)
        alive = process.is_alive()
        for target in processes:
            target.kill()
        assert all(ended(target, 10) for target in processes)
        end = finish(process, receiver)
        assert end.outcome != "broke", end.result
        self.kills[f"{work} {victim}"] += alive
        self.missed += not alive
        started = time.monotonic()
        deployment.up()
        up = time.monotonic() - started
        deployment.assert_no_lies()
        self.recoveries.append(up + deployment.assert_recovers())

    def report(self) -> dict[str, object]:
        ranks = quantiles(self.recoveries, n=100) if len(self.recoveries) > 1 else [0.0] * 99
        return {
            "seed": self.seed,
            "kills": sum(self.kills.values()),
            "by": dict(sorted(self.kills.items())),
            "after the end of the work": self.missed,
            "failed rounds": self.failed,
            "recovery p50": round(median(self.recoveries or [0]), 2),
            "recovery p95": round(ranks[94], 2),
            "recovery max": round(max(self.recoveries, default=0), 2),
        }


def victims(deployment: Deployed, name: str, pid: int) -> list[psutil.Process]:
    processes: list[psutil.Process] = []
    if name in ("step", "all") and psutil.pid_exists(pid):
        processes.append(psutil.Process(pid))
    if name in ("milvus", "all"):
        processes.append(deployment.server("milvus"))
    if name in ("postgres", "all"):
        postmaster = deployment.server("postgres")
        processes += [postmaster, *postmaster.children()]
    return processes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=1000)
    parser.add_argument(
        "--first", type=int, default=0, help="number of the first round, to repeat a round"
    )
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    options = parser.parse_args()
    soak, until = Soak(options.seed), time.monotonic() + options.minutes * 60
    number, last = options.first, options.first + options.rounds
    while number < last and time.monotonic() < until:
        with ExitStack() as stack:
            deployment = stack.enter_context(deployed())
            deployment.generation = number
            deployment.change()
            started = time.monotonic()
            deployment.run("sync")
            duration = time.monotonic() - started
            while number < last and time.monotonic() < until:
                try:
                    soak.round(deployment, number, duration)
                except AssertionError:
                    soak.failed.append(number)
                    print(
                        f"seed {soak.seed}, round {number}:\n{traceback.format_exc()}", flush=True
                    )
                    break
                finally:
                    number += 1
                if number % 50 == 0:
                    print(json.dumps(soak.report()), flush=True)
    print(json.dumps(soak.report()))
    sys.exit(bool(soak.failed))


if __name__ == "__main__":
    main()
