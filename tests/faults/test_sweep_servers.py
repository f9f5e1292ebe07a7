"""The cells of the sweep in which Milvus or PostgreSQL dies. See sweep.py."""

from __future__ import annotations

import pytest

from tests.faults.deployed import Deployed
from tests.faults.sweep import Cell, assert_a_crash_leaves_work_never_a_lie, cells_of


@pytest.mark.parametrize("cell", [*cells_of("milvus"), *cells_of("postgres")], ids=str)
def test_a_crash_leaves_work_never_a_lie(
    crashed: Deployed, times: dict[str, int], cell: Cell
) -> None:
    assert_a_crash_leaves_work_never_a_lie(crashed, times, cell)
