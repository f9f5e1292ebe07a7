"""Points 17 and 18: Milvus Lite dies at a step of a flush, of a compaction or of an index build, from within."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from resources.embedded.milvus import stop_milvus
from resources.embedded.process import ended
from resources.embedded.stack import start_milvus
from tests.faults.deployed import Deployed, deployed

#: Flushes until a compaction is due (four files of a size), and some more.
ROUNDS = 12

FAULTS = [
    *(f"flush:{when} write_data_file" for when in ("before", "after")),
    *(f"flush:{when} save" for when in ("before", "after")),
    "flush:after close_and_delete",
    *(f"maintenance:{when} write_data_file" for when in ("before", "after")),
    *(f"maintenance:{when} save" for when in ("before", "after")),
    "maintenance:after remove",
    *(f"maintenance:{when} _build_or_load_segment_index" for when in ("before", "after")),
]


@pytest.fixture(scope="module")
def crashed() -> Iterator[Deployed]:
    with deployed() as made:
        yield made


@pytest.mark.parametrize("fault", FAULTS)
def test_milvus_dies_at_a_step_of_its_own_work(
    crashed: Deployed, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    # Stopped in order: a server that was killed flushes as it starts, and would die before it serves.
    crashed.up()
    stop_milvus(crashed.home, 30)
    with monkeypatch.context() as environment:
        environment.setenv("PYTHONPATH", str(Path(__file__).parent / "milvus_steps"))
        environment.setenv("RAG_SERVER_FAULT", fault)
        start_milvus(crashed.home)
    server = crashed.server("milvus")
    for _ in range(ROUNDS):
        crashed.change()
        crashed.run("sync", milvus_timeout=3.0)
        if not ended(server, 0):
            crashed.run("flush")  # as the server does by itself once it has been idle
            time.sleep(0.05)
        if ended(server, 0.2 if fault.startswith("maintenance") else 0):
            break
    assert ended(server, 1), "it never came to that step"
    crashed.assert_no_lies()
    crashed.assert_heals()
