"""A deployment for each file of the sweep, and how often its work passes each point."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.deployed import Deployed, deployed
from tests.faults.points import POINTS


@pytest.fixture(scope="module")
def crashed() -> Iterator[Deployed]:
    with deployed() as made:
        for _ in range(2):  # until what is reverted has been embedded both ways
            made.change()
            assert made.run("sync").said == "done"
        yield made


@pytest.fixture(scope="module")
def times(crashed: Deployed) -> dict[str, int]:
    """How often a sync of a generation, or a repair, passes each point."""
    passed: dict[str, int] = {}
    for work in ("sync", "repair", "rebuild", "forget"):
        crashed.change()
        ended = crashed.run(work, "count:0")
        assert ended.said == "done", ended.result
        names = [point.name for point in POINTS if point.by == work]
        passed.update({name: ended.passages.get(name, 0) for name in names})
        assert crashed.run("sync").said == "done"
    return passed
