"""Everything that uses private parts of Dagster, so that an upgrade of Dagster is the work of one file.

`tests/automation/test_dagster_internals.py` fails where such a part changed. Importing this module starts nothing.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

import dagster as dg
import psycopg
from dagster._core.definitions.partitions.subset import DefaultPartitionsSubset
from dagster._core.errors import DagsterExecutionInterruptedError
from dagster._core.events import DagsterEvent
from dagster._core.storage.event_log.schema import (
    AssetCheckExecutionsTable,
    SqlEventLogStorageTable,
)
from dagster._core.storage.tags import BACKFILL_ID_TAG
from dagster._serdes import ConfigurableClassData
from dagster._utils.schedules import get_smallest_cron_interval
from dagster_postgres import DagsterPostgresStorage
from dagster_postgres.event_log import PostgresEventLogStorage
from dagster_postgres.run_storage import PostgresRunStorage
from dagster_shared.error import SerializableErrorInfo
from sqlalchemy import create_engine, func, select

from rag_assets.partitions import MAX_RETRIES_TAG, PARTITION_TAG
from rag_assets.settings.load import load_settings
from resources.embedded.stack import start_postgres
from resources.errors import ConfigError

__all__ = [
    "BACKFILL_ID_TAG",
    "DagsterExecutionInterruptedError",
    "RunInterrupted",
    "StackPostgresStorage",
    "add_partition_metadata",
    "dagster_url",
    "default_freshness_policy",
    "failed_checks_of_others",
    "last_assets",
    "materialize_only",
    "syncs",
    "trim_run_logs",
]

#: Old events per DELETE.
TRIM_BATCH = 20_000
#: Events per INSERT. There is one event per partition and asset; each takes 14 ms if it is stored alone.
BATCH_SIZE = 250


_RUN_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class RunInterrupted(DagsterExecutionInterruptedError, dg.DagsterError):
    """The end of a run that a person or its process ended: no other step begins.

    Dagster's own interruption is retried by a step with a retry policy. An error of Dagster is not, and the run then
    ends as an interrupted one: canceled if a person ended it.
    """


def add_partition_metadata(
    context: dg.AssetExecutionContext, metadata_by_partition: Mapping[str, Mapping[str, Any]]
) -> None:
    """Add metadata to the materialization of each partition.

    `context.add_asset_metadata` does the same, and queries Dagster's database three times (5 ms) per partition.
    """
    step = context.get_step_execution_context()
    for key, metadata in metadata_by_partition.items():
        step._metadata_accumulator = step._metadata_accumulator.with_additional_asset_metadata(
            asset_key=context.asset_key, partition_key=key, metadata=metadata
        )


def materialize_only(context: dg.AssetExecutionContext, partitions: Sequence[str]) -> None:
    """Make the output of this step materialize only these partitions of its run.

    Dagster's backfills understand a run that materialized some partitions of its range and failed for the others, but
    nothing public lets a step yield that.
    """
    step = context.get_step_execution_context()
    make, subset = step.get_output_context, DefaultPartitionsSubset(set(partitions))

    def get_output_context(*args: Any, **options: Any) -> Any:
        output = make(*args, **options)
        output._asset_partitions_subset = subset
        return output

    step.get_output_context = get_output_context


def trim_run_logs(instance: dg.DagsterInstance, before: datetime) -> dict[str, int]:
    """Delete the details of old runs, which Dagster keeps for ever: events of steps, and captured output.

    Returns how many events, and how many folders of output.
    """
    log = instance.event_log_storage
    events = log.trim(before) if isinstance(log, BatchedEventLog) else 0
    base, folders = getattr(instance.compute_log_manager, "_base_dir", None), 0
    for entry in os.scandir(base) if base and os.path.isdir(base) else ():
        # Each run has a folder of its own, named for its id.
        if _RUN_ID.fullmatch(entry.name) and entry.stat().st_mtime < before.timestamp():
            shutil.rmtree(entry.path, ignore_errors=True)
            folders += 1
    return {"events": events, "folders": folders}


def failed_checks_of_others(
    instance: dg.DagsterInstance, checks: Sequence[dg.AssetCheckKey], partitions: Collection[str]
) -> dict[dg.AssetCheckKey, str]:
    """Return the checks whose last execution failed for a partition that is not one of these, and that partition.

    The UI shows the last execution of a check, so it stays red after its partition is gone.
    """
    failed = ("FAILED", "EXECUTION_FAILED")
    latest = instance.event_log_storage.get_latest_asset_check_execution_by_key(list(checks))
    red = {key: record for key, record in latest.items() if record.status.value in failed}
    runs = {run_id: instance.get_run_by_id(run_id) for run_id in {r.run_id for r in red.values()}}
    found = {}
    for key, record in red.items():
        run = runs[record.run_id]
        partition = record.partition or (run.tags.get(PARTITION_TAG) if run else None)
        if partition is not None and partition not in partitions:
            found[key] = partition
    return found


def syncs(context: dg.AssetCheckExecutionContext) -> bool:
    """Return whether the run of a check also materializes assets."""
    step = context.op_execution_context.get_step_execution_context()
    assets = {key.to_user_string() for key in step.job_def.asset_layer.executable_asset_keys}
    return not assets.isdisjoint(step.execution_plan.step_keys_to_execute)


def last_assets(context: dg.AssetExecutionContext) -> set[str]:
    """Return the assets with this one's partitions that have no other such asset of this run downstream."""
    step = context.get_step_execution_context()
    layer, partitions = step.job_def.asset_layer, context.assets_def.partitions_def
    assets = {
        key.to_user_string()
        for key in layer.executable_asset_keys
        if layer.get(key).partitions_def == partitions
    }
    # Steps of assets are named for them. A check between two assets connects them.
    needs = step.execution_plan.get_executable_step_deps()
    upstream: set[str] = set()
    found = {needed for key in assets & needs.keys() for needed in needs[key]}
    while found:
        upstream |= found
        found = {needed for key in found for needed in needs[key]} - upstream
    return (assets & needs.keys()) - upstream


# Dagster looks at the next thousand ticks: 0.1 s, at each assembly of the definitions.
@cache
def default_freshness_policy(cron: str, timezone: str) -> dg.FreshnessPolicy:
    """Return the policy of an asset of which some partition is to be materialized at each tick.

    Dagster judges the asset as a whole: it is fresh if any partition was materialized since the tick before last.
    """
    return dg.FreshnessPolicy.cron(
        deadline_cron=cron,
        lower_bound_delta=get_smallest_cron_interval(cron, timezone),
        timezone=timezone,
    )


# Storage -----------------------------------------------------------------------------------------------------------


class BatchedEventLog(PostgresEventLogStorage):
    """Also stores the planned materializations of a new run in batches: there is one per partition and asset.

    A run that could not be started because of a setting is not started again by the daemon, which knows no reasons.
    """

    #: Set once, by the storage that has both.
    runs: PostgresRunStorage

    def store_event(self, event: dg.EventLogEntry) -> None:
        super().store_event(event)
        if event.dagster_event_type == dg.DagsterEventType.ENGINE_EVENT:
            error = getattr(event.get_dagster_event().event_specific_data, "error", None)
            if error is not None and _is_wrong_setting(error):
                self.runs.add_run_tags(event.run_id, {MAX_RETRIES_TAG: "0"})

    def store_event_batch(self, events: Sequence[dg.EventLogEntry]) -> None:
        kind = dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED
        planned = [event for event in events if event.dagster_event_type == kind]
        if planned:
            with self._connect() as connection:
                connection.execute(self.prepare_insert_event_batch(planned))
            last = {event.get_dagster_event().asset_key: event for event in planned}
            with self.index_transaction() as connection:
                for event in last.values():
                    # The event id is not stored.
                    self._store_asset_event(connection, event, 0)
        super().store_event_batch([event for event in events if event.dagster_event_type != kind])

    def trim(self, before: datetime) -> int:
        """Delete the events of steps and the log lines that are older. Returns their number.

        The starts and ends of runs stay, and all that is known of assets and checks.
        """
        events, last, total = SqlEventLogStorageTable, 0, 0
        kind = func.coalesce(events.c.dagster_event_type, "")
        while True:
            old = (
                select(events.c.id)
                .where(
                    events.c.id > last,
                    events.c.timestamp < before.astimezone(UTC).replace(tzinfo=None),
                    events.c.asset_key.is_(None),
                    kind.not_like("ASSET%"),
                    kind.not_like("PIPELINE%"),
                )
                .order_by(events.c.id)
                .limit(TRIM_BATCH)
            )
            with self.index_connection() as connection:
                query = events.delete().where(events.c.id.in_(old)).returning(events.c.id)
                deleted = connection.execute(query).scalars().all()
            if not deleted:
                return total
            last, total = max(deleted), total + len(deleted)

    def _store_runless_asset_check_evaluation(
        self, event: dg.EventLogEntry, event_id: int | None
    ) -> None:
        """Replace the last evaluation of the same check and partition that no run made.

        Dagster only inserts, into a table where each run, here none, has one evaluation of a check and partition: the
        second one that a sensor reports fails, and so does each later tick of this sensor.
        """
        evaluation = event.get_dagster_event().asset_check_evaluation_data
        columns = AssetCheckExecutionsTable.c
        with self.index_connection() as connection:
            connection.execute(
                AssetCheckExecutionsTable.delete().where(
                    columns.asset_key == evaluation.asset_key.to_string(),
                    columns.check_name == evaluation.check_name,
                    columns.run_id == event.run_id,
                    columns.partition.is_not_distinct_from(evaluation.partition),
                )
            )
        super()._store_runless_asset_check_evaluation(event, event_id)


def _is_wrong_setting(error: SerializableErrorInfo) -> bool:
    """Return whether an error, or one that led to it, is a ConfigError: Dagster keeps the names of their classes."""
    causes = [cause for cause in (error.cause, error.context) if cause is not None]
    return error.cls_name == ConfigError.__name__ or any(map(_is_wrong_setting, causes))


class EndedRunStorage(PostgresRunStorage):
    """Keeps a canceled run canceled: a process that learns of it late would record its own end over it."""

    def handle_run_event(
        self, run_id: str, event: DagsterEvent, update_timestamp: datetime | None = None
    ) -> None:
        if event.is_job_event:
            run = self._get_run_by_id(run_id)
            if run is not None and run.status == dg.DagsterRunStatus.CANCELED:
                return
        super().handle_run_event(run_id, event, update_timestamp)


class StackPostgresStorage(DagsterPostgresStorage):
    """dagster-postgres in the schema `dagster` of the project's database. It has no configuration.

    dagster.yaml can name a URL only by an environment variable, but the URL of the embedded server is known to its home
    folder. This class takes RAG_POSTGRES_URL, or starts the embedded server under RAG_HOME, so `dagster dev` works in
    the project's folder without any variable set.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._event_log_storage = BatchedEventLog(self.postgres_url, False)
        self._run_storage = self._event_log_storage.runs = EndedRunStorage(self.postgres_url, False)
        os.environ.setdefault("DAGSTER_EVENT_BATCH_SIZE", str(BATCH_SIZE))
        # Dagster opens a connection per statement: 273 in a sync that has nothing to do, 1 s of its 2.3 s. This engine
        # keeps one per process, and replaces it before the next use if the server was restarted.
        engine = create_engine(
            self.postgres_url,
            isolation_level="AUTOCOMMIT",
            pool_size=1,
            max_overflow=-1,
            pool_pre_ping=True,
        )
        for storage in (self.event_log_storage, self.run_storage, self.schedule_storage):
            storage._engine = engine  # pyright: ignore[reportAttributeAccessIssue]

    @classmethod
    def config_type(cls) -> Any:
        return {}

    @classmethod
    def from_config_value(  # pyright: ignore[reportIncompatibleMethodOverride]
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]
    ) -> StackPostgresStorage:
        settings = load_settings()
        url = settings.postgres_url or start_postgres(settings.home).url
        with psycopg.connect(url, autocommit=True) as connection:
            if connection.execute("SELECT to_regnamespace('dagster')").fetchone() == (None,):
                connection.execute("CREATE SCHEMA IF NOT EXISTS dagster")
        return cls(postgres_url=dagster_url(url), inst_data=inst_data)


def dagster_url(url: str) -> str:
    """Return the SQLAlchemy URL for a libpq URL. It uses psycopg2: Dagster's NOTIFY fails with psycopg 3."""
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query))
    query["options"] = (query.get("options", "") + " -csearch_path=dagster").strip()
    return urlunsplit(
        ("postgresql+psycopg2", parts.netloc, parts.path, urlencode(query, quote_via=quote), "")
    )
