"""The cells of the sweep (see sweep.py), on one deployment."""

from __future__ import annotations

import pytest

from tests.faults.deployed import Deployed
from tests.faults.points import POINTS
from tests.faults.sweep import (
    ELSEWHERE,
    SELECTED,
    SELECTION,
    SWEPT,
    VICTIMS,
    WHOLE_SWEEP,
    Cell,
    assert_recovery_from_a_crash,
    cells_of,
)

#: Victim -> number of its cells at the first, middle and last passage.
NUMBER_OF_CELLS = {"step": (27, 17, 20), "milvus": (28, 18, 21), "postgres": (27, 17, 20)}


def test_each_point_is_passed_as_often_as_listed(passages: dict[str, int]) -> None:
    listed = {point.name: point.passages for point in POINTS if point.work not in ELSEWHERE}
    words = {0: "never", 1: "once", 2: "twice"}
    assert {name: words.get(count, "many") for name, count in passages.items()} == listed


def test_the_whole_sweep_has_all_its_cells() -> None:
    assert len(set(map(str, WHOLE_SWEEP))) == len(WHOLE_SWEEP)
    numbers = {
        victim: tuple(
            sum((cell.victim, cell.passage) == (victim, passage) for cell in WHOLE_SWEEP)
            for passage in ("first", "middle", "last")
        )
        for victim in VICTIMS
    }
    assert numbers == NUMBER_OF_CELLS


def test_the_selection_has_every_point_and_only_cells_of_the_whole_sweep() -> None:
    assert list(SELECTED) == [point.name for point in SWEPT]
    assert set(SELECTION) <= set(WHOLE_SWEEP)


@pytest.mark.parametrize("cell", [cell for victim in VICTIMS for cell in cells_of(victim)])
def test_the_next_sync_recovers_from_a_crash(
    deployment: Deployed, passages: dict[str, int], cell: Cell
) -> None:
    assert_recovery_from_a_crash(deployment, passages, cell)
