"""The cells of the sweep in which the step dies (see sweep.py)."""

from __future__ import annotations

import pytest

from tests.faults.deployed import Deployed
from tests.faults.points import POINTS
from tests.faults.sweep import (
    CELLS,
    ELSEWHERE,
    VICTIMS,
    WHOLE,
    Cell,
    assert_recovery_from_a_crash,
    cells_of,
)

#: Victim -> number of its cells at the first, middle and last passage.
NUMBER_OF_CELLS = (
    {"step": (27, 17, 20), "milvus": (28, 18, 21), "postgres": (27, 17, 20)}
    if WHOLE
    else {"step": (27, 7, 20), "milvus": (28, 8, 11), "postgres": (27, 0, 20)}
)


def test_each_point_is_passed_as_often_as_listed(passages: dict[str, int]) -> None:
    listed = {point.name: point.passages for point in POINTS if point.work not in ELSEWHERE}
    words = {0: "never", 1: "once", 2: "twice"}
    assert {name: words.get(count, "many") for name, count in passages.items()} == listed


def test_the_sweep_has_all_its_cells() -> None:
    assert len(set(map(str, CELLS))) == len(CELLS)
    numbers = {
        victim: tuple(
            sum(cell.passage == passage for cell in cells_of(victim))
            for passage in ("first", "middle", "last")
        )
        for victim in VICTIMS
    }
    assert numbers == NUMBER_OF_CELLS


@pytest.mark.parametrize("cell", cells_of("step"), ids=str)
def test_the_next_sync_recovers_from_a_crash(
    deployment: Deployed, passages: dict[str, int], cell: Cell
) -> None:
    assert_recovery_from_a_crash(deployment, passages, cell)
