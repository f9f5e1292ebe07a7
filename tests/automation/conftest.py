"""The world of sensors and schedules."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from tests.support.daemon import DaemonWorld
from tests.support.folders import servers_folder
from tests.support.world import Dagster, World


def overrides(folder: Path) -> dict[str, Any]:
    """Events of all runs in one database, as in PostgreSQL. By default each run has its own, created in 2 s."""
    return {
        "telemetry": {"enabled": False},
        # Else each run starts four processes that copy its output.
        "compute_logs": {
            "module": "dagster._core.storage.noop_compute_log_manager",
            "class": "NoOpComputeLogManager",
        },
        "event_log_storage": {
            "module": "dagster._core.storage.event_log",
            "class": "ConsolidatedSqliteEventLogStorage",
            "config": {"base_dir": str(folder / "events")},
        },
    }


@pytest.fixture(scope="session")
def empty_instance() -> Iterator[Path]:
    """The folder of an instance with no event. Its tables take half a second, a copy of them nothing."""
    with servers_folder("rag-dagster-") as folder:
        with dg.DagsterInstance.local_temp(str(folder), overrides(folder)) as instance:
            instance.get_runs_count()
        yield folder


@pytest.fixture
def daemon(world: World, empty_instance: Path) -> Iterator[DaemonWorld]:
    world = world.configured(vectors=("dense",))
    with servers_folder("rag-dagster-") as folder:
        shutil.copytree(empty_instance, folder, dirs_exist_ok=True)
        with dg.DagsterInstance.local_temp(str(folder), overrides(folder)) as instance:
            dagster = Dagster(instance=instance)
            yield DaemonWorld(world.settings, world.folder, dagster, world.connection)
