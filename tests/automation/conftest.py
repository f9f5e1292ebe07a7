"""The world of sensors and schedules."""

from __future__ import annotations

from collections.abc import Iterator

import dagster as dg
import pytest

from tests.support.daemon import DaemonWorld
from tests.support.folders import servers_folder
from tests.support.world import World


@pytest.fixture
def daemon(world: World) -> Iterator[DaemonWorld]:
    world = world.configured(vectors=("dense",))
    quiet = {"telemetry": {"enabled": False}}
    with (
        servers_folder("rag-dagster-") as folder,
        dg.DagsterInstance.local_temp(str(folder), quiet) as instance,
    ):
        yield DaemonWorld(world.settings, world.folder, instance, world.connection)
