"""A world whose Dagster instance is on disk: sensors and schedules are evaluated as the daemon does it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

import dagster as dg
import pytest
from dagster._core.definitions.dynamic_partitions_request import AddDynamicPartitionsRequest
from dagster._core.definitions.schedule_definition import ScheduleExecutionData
from dagster._core.definitions.sensor_definition import SensorExecutionData
from dagster._core.remote_origin import RegisteredCodeLocationOrigin
from dagster._grpc.impl import get_external_schedule_execution, get_external_sensor_execution

from rag_assets.definitions import build_definitions
from rag_assets.partitions import SOURCES
from tests.conftest import World
from tests.support.folders import servers_folder

_ORIGIN = RegisteredCodeLocationOrigin("rag-assets")


@dataclass
class DaemonWorld(World):
    """What the daemon would do with this world's definitions."""

    @property
    def repository(self) -> dg.RepositoryDefinition:
        return build_definitions(self.resources).get_repository_def()

    def tick(self, sensor: str, cursor: str | None = None) -> SensorExecutionData:
        """Evaluates a sensor as the daemon has its code server do it, and changes the partitions as it asks."""
        data = get_external_sensor_execution(
            self.repository,
            _ORIGIN,
            self.instance.get_ref(),
            sensor,
            None,
            None,
            cursor,
            None,
            None,
        )
        assert isinstance(data, SensorExecutionData), data.error
        for change in data.dynamic_partitions_requests or []:
            if isinstance(change, AddDynamicPartitionsRequest):
                self.instance.add_dynamic_partitions(SOURCES.name or "", change.partition_keys)
            else:
                for key in change.partition_keys:
                    self.instance.delete_dynamic_partition(SOURCES.name or "", key)
        return data

    def fire(self, schedule: str, at: datetime) -> ScheduleExecutionData:
        """Evaluates a schedule as the daemon has its code server do it."""
        data = get_external_schedule_execution(
            self.repository, self.instance.get_ref(), schedule, at.timestamp(), "UTC", None
        )
        assert isinstance(data, ScheduleExecutionData), data.error
        return data

    def sync(self, source: str = "docs") -> dict[str, dict[str, int]]:
        """As everywhere, under an instance in memory: the one on disk takes 2 s a run."""
        with dg.DagsterInstance.ephemeral() as instance:
            instance.add_dynamic_partitions(SOURCES.name or "", [source])
            return World(self.settings, self.folder, instance, self.connection).sync(source)

    def launch(self, job: str, tags: dict[str, str]) -> dg.ExecuteInProcessResult:
        """Executes a request as the daemon would launch it: by its tags alone."""
        return (
            build_definitions(self.resources)
            .resolve_job_def(job)
            .execute_in_process(
                instance=self.instance,
                tags=tags,
                run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
                raise_on_error=False,
            )
        )

    def partitions(self) -> set[str]:
        return set(self.instance.get_dynamic_partitions(SOURCES.name or ""))


@pytest.fixture
def daemon(world: World) -> Iterator[DaemonWorld]:
    world = world.configured(vectors=("dense",))
    quiet = {"telemetry": {"enabled": False}}
    with (
        servers_folder("rag-dagster-") as folder,
        dg.DagsterInstance.local_temp(str(folder), quiet) as instance,
    ):
        yield DaemonWorld(world.settings, world.folder, instance, world.connection)
