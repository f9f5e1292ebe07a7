"""Points 17 and 18: Milvus Lite kills itself at a step of a flush, a compaction or an index build."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from resources.embedded.milvus import stop_milvus
from resources.embedded.process import ended
from resources.embedded.stack import start_milvus
from tests.faults.deployed import Deployed, deployed
from tests.support.extent import only_in_soak

#: Maximum flushes: a compaction is due after four files of one size, so this is more than enough.
ROUNDS = 12

FAULTS = [
    "flush:after write_data_file",
    "maintenance:before save",
    *only_in_soak(
        "maintenance:after _build_or_load_segment_index",
        "flush:after close_and_delete",
        "maintenance:after remove",
        "flush:before write_data_file",
        "flush:before save",
        "flush:after save",
        "maintenance:before write_data_file",
        "maintenance:after write_data_file",
        "maintenance:after save",
        "maintenance:before _build_or_load_segment_index",
    ),
]


@pytest.fixture(scope="module")
def deployment() -> Iterator[Deployed]:
    with deployed() as deployment:
        yield deployment


@pytest.mark.parametrize("fault", FAULTS)
def test_milvus_dies_at_a_step_of_its_own_work(
    deployment: Deployed, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    # A regular stop: a killed server flushes at its next start and would die before it serves.
    deployment.up()
    stop_milvus(deployment.home, 30)
    with monkeypatch.context() as environment:
        environment.setenv("PYTHONPATH", str(Path(__file__).parent / "milvus_steps"))
        environment.setenv("RAG_SERVER_FAULT", fault)
        start_milvus(deployment.home)
    server = deployment.server("milvus")
    for _ in range(ROUNDS):
        deployment.change()
        deployment.run("sync", milvus_timeout=3.0)
        if not ended(server, 0):
            # An idle server would flush automatically.
            deployment.run("flush")
            time.sleep(0.05)
        if ended(server, 0.2 if fault.startswith("maintenance") else 0):
            break
    assert ended(server, 1), f"Milvus never reached {fault}"
    deployment.assert_no_lies()
    deployment.assert_recovers()
