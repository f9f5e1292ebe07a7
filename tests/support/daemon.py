"""A world whose Dagster instance is on disk: sensors and schedules are evaluated as the daemon does it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

import dagster as dg
from dagster import DagsterRun, DagsterRunStatus
from dagster._core.definitions.dynamic_partitions_request import AddDynamicPartitionsRequest
from dagster._core.definitions.schedule_definition import ScheduleExecutionData
from dagster._core.definitions.sensor_definition import SensorExecutionData
from dagster._core.remote_origin import RegisteredCodeLocationOrigin
from dagster._core.utils import make_new_run_id
from dagster._grpc.impl import get_external_schedule_execution, get_external_sensor_execution

from rag_assets.definitions import build_definitions
from rag_assets.partitions import PARTITION_TAG, SOURCES
from resources.sources.signs import FINE_TICK
from tests.support.world import Dagster, World

TEXT = (
    "# Hours\n\nThe observatory opens at nine in the morning and closes when the stars come out.\n"
)

_ORIGIN = RegisteredCodeLocationOrigin("rag-assets")


@dataclass
class DaemonWorld(World):
    """A world in which tests act as the daemon."""

    @cached_property
    def repository(self) -> dg.RepositoryDefinition:
        return build_definitions(self.resources).get_repository_def()

    def tick(self, sensor: str, cursor: str | None = None) -> SensorExecutionData:
        """Evaluate a sensor as the daemon's code server does, and change the partitions as it requests."""
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
        """Evaluate a schedule as the daemon's code server does."""
        data = get_external_schedule_execution(
            self.repository, self.instance.get_ref(), schedule, at.timestamp(), "UTC", None
        )
        assert isinstance(data, ScheduleExecutionData), data.error
        return data

    def sync(
        self, source: str = "docs", tags: dict[str, str] | None = None
    ) -> dict[str, dict[str, int]]:
        with self._elsewhere(source) as world:
            return world.sync(source, tags)

    def fill(self, source: str = "docs") -> dict[str, dict[str, int]]:
        # A file as young as its listing looks changed to the next one.
        time.sleep(2 * FINE_TICK)
        return super().fill(source)

    def launch_elsewhere(self, job: str, tags: dict[str, str]) -> dg.ExecuteInProcessResult:
        """Execute a request by its tags alone, in half the time of `launch`. The sensors do not see the run."""
        with self._elsewhere(tags[PARTITION_TAG]) as world:
            return world.run(job, None, tags=tags, raise_on_error=False)

    @contextmanager
    def _elsewhere(self, source: str) -> Iterator[World]:
        """Yield a world on the same stores with an instance in memory, as this one shows runs to the sensors."""
        with dg.DagsterInstance.ephemeral() as instance:
            instance.add_dynamic_partitions(SOURCES.name or "", [source])
            yield World(self.settings, self.folder, Dagster(instance=instance), self.connection)

    def launch(self, job: str, tags: dict[str, str]) -> dg.ExecuteInProcessResult:
        """Execute a request as the daemon launches it: by its tags alone."""
        return self.run(job, None, tags=tags, raise_on_error=False)

    def partitions(self) -> set[str]:
        return set(self.instance.get_dynamic_partitions(SOURCES.name or ""))


def in_progress(daemon: DaemonWorld, job: str, tags: dict[str, str]) -> DagsterRun:
    """Record a run that has started and never ends. Returns it."""
    return daemon.instance.add_run(
        DagsterRun(
            job_name=job, run_id=make_new_run_id(), status=DagsterRunStatus.STARTED, tags=tags
        )
    )


def older(cursor: str | None, key: str, seconds: float) -> str:
    """The cursor as if the last request for `key` had been made so many seconds earlier."""
    requests = json.loads(cursor or "{}")
    requests[key][2] -= seconds
    return json.dumps(requests)


def two_synced_sources(daemon: DaemonWorld) -> None:
    for name in ("a", "b"):
        daemon.write({f"{name}.md": TEXT + name}, name)
        daemon.add(name)
        daemon.fill(name)
