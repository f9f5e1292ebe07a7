"""Each fault point × first, middle and last passage × who dies: the step, Milvus, PostgreSQL. See points.py.

The cells of the step and those of the servers are a test file each, so that they run side by side.

A cell is a crash at one place. Each must prove that its victim died there; then nothing may have been claimed that is
not so, the next sync must heal everything by itself, and one more must find nothing to do.
"""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass

from resources.embedded.process import ended
from resources.embedded.stack import start_milvus
from tests.faults.deployed import SIGNALS, Deployed, Ended, finish, wait_for_end
from tests.faults.points import POINTS, Point

VICTIMS = ("step", "milvus", "postgres")
PASSAGES = {"once": ("first",), "twice": ("first", "last"), "many": ("first", "middle", "last")}

#: Cells that cannot be, and why.
LEFT_OUT = {
    ("upsert-sent", "step"): "the point is that the client lives",
    ("upsert-sent", "postgres"): "PostgreSQL takes no part; upsert-answered is the same moment",
}

#: Not in the sweep: inside Milvus's own process (test_milvus_steps.py), and beside the syncs (test_other_faults.py).
ELSEWHERE = ("milvus", "compact")

#: With RAG_SWEEP=whole (as `make soak` has it) each passage has its cell. Else not so: in the steps before the vectors,
#: where Milvus takes no part, its death at a later passage than the first, and no death at a middle one; PostgreSQL's
#: at a middle passage nowhere. Each transaction of theirs is like the first and the last.
WHOLE = os.environ.get("RAG_SWEEP") == "whole"
BEFORE_VECTORS = range(1, 11)

#: Milliseconds after an upsert was sent.
INSIDE_AN_UPSERT = 2


@dataclass(frozen=True)
class Cell:
    point: Point
    passage: str
    victim: str

    def __str__(self) -> str:
        return f"{self.point.number}-{self.point.name}-{self.passage}-{self.victim}"


def _adds(point: Point, passage: str, victim: str) -> bool:
    """Whether a passage after the first is unlike those that are tried anyway."""
    if point.number in BEFORE_VECTORS:
        return passage == "last" and victim != "milvus"
    return passage == "last" or victim != "postgres"


CELLS = [
    Cell(point, passage, victim)
    for point in POINTS
    if point.by not in ELSEWHERE
    for passage in PASSAGES[point.passed]
    for victim in VICTIMS
    if (point.name, victim) not in LEFT_OUT
    if WHOLE or passage == "first" or _adds(point, passage, victim)
]


def cells_of(victim: str) -> list[Cell]:
    return [cell for cell in CELLS if cell.victim == victim]


def assert_a_crash_leaves_work_never_a_lie(
    crashed: Deployed, times: dict[str, int], cell: Cell
) -> None:
    crashed.change()
    last = times[cell.point.name]
    nth = {"first": 1, "middle": (last + 1) // 2, "last": last}[cell.passage]
    end = crash(crashed, cell, nth)
    assert end.said in ("killed", "failed", "done"), end.result
    crashed.assert_no_lies()
    crashed.assert_heals()
    if cell.point.by == "forget":
        crashed.assert_forgets()


def crash(made: Deployed, cell: Cell, nth: int) -> Ended:
    work = cell.point.by
    if cell.victim == "step":
        end = made.run(work, f"{cell.point.name}:{nth}")
        assert end.exit_code == -signal.SIGKILL, f"the step was not killed: {end}"
        return end
    victim = made.server(cell.victim)  # pyright: ignore[reportArgumentType]
    fault = f"{cell.point.name}:{nth}:{victim.pid}"
    if cell.point.name == "upsert-sent":
        fault += f":{INSIDE_AN_UPSERT}"
    # In the middle Milvus stays away until the step gave up; else it is back at once, as under a supervisor.
    alone = cell.victim == "milvus" and cell.passage == "middle"
    changes = {"milvus_timeout": 2.0} if alone else {}
    process, receiver = made.start(work, fault, SIGNALS[cell.victim], **changes)
    if cell.victim == "milvus" and not alone and wait_for_end(victim, process):
        start_milvus(made.home)
    end = finish(process, receiver)
    assert ended(victim, 1), f"{cell.victim} was not killed: {end}"
    assert end.passages[cell.point.name] >= nth
    return end
