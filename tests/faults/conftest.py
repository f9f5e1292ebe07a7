"""A deployment for each module of the sweep, and the number of passages of each point."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.deployed import Deployed, deployed
from tests.faults.points import POINTS


@pytest.fixture(scope="module")
def deployment() -> Iterator[Deployed]:
    with deployed() as deployment:
        # After two generations both texts of the reverted files are embedded.
        for _ in range(2):
            deployment.change()
            assert deployment.run("sync").outcome == "done"
        yield deployment


@pytest.fixture(scope="module")
def passages(deployment: Deployed) -> dict[str, int]:
    """point -> number of its passages in one sync, repair, rebuild or erasure of a generation."""
    passages: dict[str, int] = {}
    for work in ("sync", "repair", "rebuild", "forget"):
        deployment.change()
        end = deployment.run(work, "count:0")
        assert end.outcome == "done", end.result
        names = [point.name for point in POINTS if point.work == work]
        passages.update({name: end.passages.get(name, 0) for name in names})
        assert deployment.run("sync").outcome == "done"
    return passages
