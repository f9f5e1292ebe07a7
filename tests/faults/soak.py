"""Kills at random moments of random victims, with every invariant after each: `python -m tests.faults.soak`.

`--rounds 1000 --minutes 60 --seed 1`: ends with whichever comes first. A round is made of seed and number alone; one
that fails is printed with what was wrong, and the soak goes on in a new deployment. Exit code 1 if any failed.
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

#: Victims by weight. `all`: the step and both servers in one moment.
VICTIMS = {"step": 50, "milvus": 20, "postgres": 15, "all": 15}
WORK = {"sync": 85, "repair": 15}


@dataclass
class Soak:
    seed: int
    kills: Counter[str] = field(default_factory=Counter)
    missed: int = 0
    recoveries: list[float] = field(default_factory=list)
    failed: list[int] = field(default_factory=list)

    def round(self, made: Deployed, number: int, duration: float) -> None:
        chance = random.Random(f"{self.seed}/{number}")
        (work,) = chance.choices(list(WORK), list(WORK.values()))
        (victim,) = chance.choices(list(VICTIMS), list(VICTIMS.values()))
        moment = chance.uniform(0, duration)
        # The generations are the round's too, so that a round can be run again alone.
        made.generation = number
        made.change()
        process, receiver = made.start(work, milvus_timeout=3.0)
        time.sleep(moment)
        hit = victims(made, victim, process.pid)
        alive = process.is_alive()
        for each in hit:
            each.kill()
        assert all(ended(each, 10) for each in hit)
        end = finish(process, receiver)
        assert end.said != "broke", end.result
        self.kills[f"{work} {victim}"] += alive
        self.missed += not alive
        started = time.monotonic()
        made.up()
        up = time.monotonic() - started
        made.assert_no_lies()
        self.recoveries.append(up + made.assert_heals())

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


def victims(made: Deployed, name: str, pid: int) -> list[psutil.Process]:
    found: list[psutil.Process] = []
    if name in ("step", "all") and psutil.pid_exists(pid):
        found.append(psutil.Process(pid))
    if name in ("milvus", "all"):
        found.append(made.server("milvus"))
    if name in ("postgres", "all"):
        postmaster = made.server("postgres")
        found += [postmaster, *postmaster.children()]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0, help="the first round: to run one again")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    options = parser.parse_args()
    soak, until = Soak(options.seed), time.monotonic() + options.minutes * 60
    number, last = options.first, options.first + options.rounds
    while number < last and time.monotonic() < until:
        with ExitStack() as stack:
            made = stack.enter_context(deployed())
            made.generation = number
            made.change()
            started = time.monotonic()
            made.run("sync")
            duration = time.monotonic() - started
            while number < last and time.monotonic() < until:
                try:
                    soak.round(made, number, duration)
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
