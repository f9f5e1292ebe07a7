"""The cells of the sweep in which Milvus or PostgreSQL dies (see sweep.py)."""

from __future__ import annotations

import pytest

from tests.faults.deployed import Deployed
from tests.faults.sweep import Cell, assert_recovery_from_a_crash, cells_of


@pytest.mark.parametrize("cell", [*cells_of("milvus"), *cells_of("postgres")])
def test_the_next_sync_recovers_from_a_crash(
    deployment: Deployed, passages: dict[str, int], cell: Cell
) -> None:
    assert_recovery_from_a_crash(deployment, passages, cell)
