"""The cells of the sweep in which the step dies. See sweep.py."""

from __future__ import annotations

import pytest

from tests.faults.deployed import Deployed
from tests.faults.points import POINTS
from tests.faults.sweep import (
    BEFORE_VECTORS,
    CELLS,
    ELSEWHERE,
    WHOLE,
    Cell,
    assert_a_crash_leaves_work_never_a_lie,
    cells_of,
)


def test_every_point_is_passed_as_often_as_listed(times: dict[str, int]) -> None:
    listed = {point.name: point.passed for point in POINTS if point.by not in ELSEWHERE}
    words = {1: "once", 2: "twice"}
    assert {
        name: words.get(count, "many" if count else "never") for name, count in times.items()
    } == listed
    assert (
        len(CELLS)
        == len(set(map(str, CELLS)))
        == (3 * (3 * 17 + 2 * 3 + 1 + 6) + 3 - (0 if WHOLE else 4 * len(BEFORE_VECTORS) + 7))
    )


@pytest.mark.parametrize("cell", cells_of("step"), ids=str)
def test_a_crash_leaves_work_never_a_lie(
    crashed: Deployed, times: dict[str, int], cell: Cell
) -> None:
    assert_a_crash_leaves_work_never_a_lie(crashed, times, cell)
