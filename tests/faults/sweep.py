"""The sweep: each fault point × first, middle and last passage × victim (the step, Milvus, PostgreSQL). See points.py.

A cell is one crash. It must prove that its victim died at its point. Then no acknowledged row may be missing, the next
sync must repair everything automatically, and one more sync must find nothing to do.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass
from typing import Any

from resources.embedded.process import ended
from resources.embedded.stack import start_milvus
from tests.faults.deployed import SIGNALS, Deployed, Ended, finish, wait_for_end
from tests.faults.points import POINTS, Point
from tests.support.extent import selected

VICTIMS = ("step", "milvus", "postgres")
PASSAGES = {"once": ("first",), "twice": ("first", "last"), "many": ("first", "middle", "last")}

#: Impossible cells, with the reason.
LEFT_OUT = {
    ("upsert-sent", "step"): "the client must live at this point",
    ("upsert-sent", "postgres"): "PostgreSQL takes no part; upsert-answered covers the same moment",
}

#: Work outside the sweep: inside the process of Milvus (test_milvus_steps.py), and compaction (test_other_faults.py).
ELSEWHERE = ("milvus", "compact")

#: Point -> the passages at which the step, Milvus and PostgreSQL die in `make test`; other cells have the mark `soak`.
#: The step dies in each kind of work, before and after what makes it durable. Milvus dies in each kind of work that it
#: takes part in: it restarts at once (first) or stays down (middle). PostgreSQL dies between two statements of a stage.
SELECTED = {
    "entry-read": ("last", "", ""),
    "documents-written": ("last", "", "last"),
    "chunks-written": ("last", "", ""),
    "chunks-committed": ("last", "", ""),
    "texts-embedded": ("last", "", ""),
    "file-written": ("last", "", ""),
    "file-synced": ("", "", ""),
    "file-renamed": ("", "", ""),
    "file-in-place": ("last", "", ""),
    "file-recorded": ("last", "", "last"),
    "deletions-claimed": ("last", "", ""),
    "upsert-answered": ("last", "middle", ""),
    "batch-upserted": ("last", "", ""),
    "upsert-sent": ("", "first", ""),
    "batch-recorded": ("last", "", "last"),
    "deletions-done": ("last", "", ""),
    "collection-loaded": ("first", "", ""),
    "alias-moved": ("first", "first", "last"),
    "collection-dropping": ("last", "", ""),
    "rebuild-batch": ("last", "middle", ""),
    "forget-vectors": ("first", "first", ""),
    "forget-drained": ("", "", "first"),
    "forget-rewritten": ("last", "", ""),
    "forget-parquet": ("first", "", ""),
    "deletions-allowed": ("first", "", ""),
    "repair-planned": ("", "", ""),
    "repair-half-done": ("first", "first", ""),
    "repair-done": ("", "", ""),
}

#: Milliseconds from sending an upsert to the death of the server.
INSIDE_AN_UPSERT = 2


@dataclass(frozen=True)
class Cell:
    point: Point
    passage: str
    victim: str

    def __str__(self) -> str:
        return f"{self.point.number}-{self.point.name}-{self.passage}-{self.victim}"


SWEPT = [point for point in POINTS if point.work not in ELSEWHERE]
WHOLE_SWEEP = [
    Cell(point, passage, victim)
    for point in SWEPT
    for passage in PASSAGES[point.passages]
    for victim in VICTIMS
    if (point.name, victim) not in LEFT_OUT
]
SELECTION = [
    Cell(point, passage, victim)
    for point in SWEPT
    for victim, passages in zip(VICTIMS, SELECTED[point.name])
    for passage in passages.split()
]


def cells_of(victim: str) -> list[Any]:
    """Return the cells of a victim as parameters; those outside the selection have the mark `soak`."""
    return selected([cell for cell in WHOLE_SWEEP if cell.victim == victim], SELECTION)


def assert_recovery_from_a_crash(
    deployment: Deployed, passages: dict[str, int], cell: Cell
) -> None:
    deployment.change()
    last = passages[cell.point.name]
    nth = {"first": 1, "middle": (last + 1) // 2, "last": last}[cell.passage]
    end = crash(deployment, cell, nth)
    assert end.outcome in ("killed", "failed", "done"), end.result
    deployment.assert_no_lies()
    deployment.assert_recovers()
    if cell.point.work == "forget":
        deployment.assert_forgets()


def crash(deployment: Deployed, cell: Cell, nth: int) -> Ended:
    work = cell.point.work
    if cell.victim == "step":
        end = deployment.run(work, f"{cell.point.name}:{nth}")
        assert end.exit_code == -signal.SIGKILL, f"the step was not killed: {end}"
        return end
    victim = deployment.server(cell.victim)  # pyright: ignore[reportArgumentType]
    fault = f"{cell.point.name}:{nth}:{victim.pid}"
    if cell.point.name == "upsert-sent":
        fault += f":{INSIDE_AN_UPSERT}"
    # At the middle passage Milvus stays down until the step fails; else it restarts at once, as under a supervisor.
    stays_down = cell.victim == "milvus" and cell.passage == "middle"
    changes = {"milvus_timeout": 2.0} if stays_down else {}
    process, receiver = deployment.start(work, fault, SIGNALS[cell.victim], **changes)
    if cell.victim == "milvus" and not stays_down and wait_for_end(victim, process):
        start_milvus(deployment.home)
    end = finish(process, receiver)
    assert ended(victim, 1), f"{cell.victim} was not killed: {end}"
    assert end.passages[cell.point.name] >= nth
    return end
