"""Dagster's storage in PostgreSQL: one session a process, batches, and fewer questions about its own schema.

dagster.yaml, and the copies of it in users' home folders, name this module. It uses private parts of Dagster, as
`dagster_internals` does; `tests/stores/test_dagster_storage.py` fails where such a part changed.
"""

from __future__ import annotations

import logging
import math
import os
import re
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from select import select
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

import dagster as dg
from dagster._core.events import DagsterEvent
from dagster._core.storage.event_log.schema import (
    AssetCheckExecutionsTable,
    SqlEventLogStorageTable,
)
from dagster._serdes import ConfigurableClassData
from dagster_postgres import DagsterPostgresStorage
from dagster_postgres.event_log import PostgresEventLogStorage
from dagster_postgres.run_storage import PostgresRunStorage
from dagster_shared.error import SerializableErrorInfo
from sqlalchemy import Connection, NullPool, create_engine, func, text
from sqlalchemy import event as engine_events
from sqlalchemy import select as select_rows
from sqlalchemy.exc import DisconnectionError

from rag_assets.partitions import MAX_RETRIES_TAG
from rag_assets.settings.load import load_settings
from resources.embedded.stack import start_postgres
from resources.errors import ConfigError

#: Old events per DELETE.
TRIM_BATCH = 20_000
#: Events per INSERT. There is one event per partition and asset; each takes 14 ms if it is stored alone.
BATCH_SIZE = 250
#: Seconds after which an idle session is replaced: its server or a firewall may have forgotten it.
IDLE_SECONDS = 30.0
#: Seconds between two warnings that PostgreSQL does not answer.
WARNING_SECONDS = 10.0


_RUN_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class ShortWarnings(logging.Filter):
    """Makes Dagster's warning about a failed connection one line, and lets it through once in WARNING_SECONDS.

    Dagster logs it with the root logger, in four lines, before each of five attempts of each statement.
    """

    last = -WARNING_SECONDS

    def filter(self, record: logging.LogRecord) -> bool:
        if not str(record.msg).startswith("Retrying failed database connection"):
            return True
        reason = record.getMessage().partition(": ")[2].split("\n")[0]
        record.msg = "Dagster tries again to reach PostgreSQL: %s"
        record.args = (re.sub(r"^\(\S+\) ", "", reason),)
        now = time.monotonic()
        if now - self.last < WARNING_SECONDS:
            return False
        self.last = now
        return True


logging.getLogger().addFilter(ShortWarnings())


class BatchedEventLog(PostgresEventLogStorage):
    """Also stores the planned materializations of a new run in batches: there is one per partition and asset.

    A run that could not be started because of a setting is not started again by the daemon, which knows no reasons.
    """

    def __init__(self, url: str, runs: PostgresRunStorage) -> None:
        super().__init__(url, should_autocreate_tables=False)
        self.runs = runs
        # Dagster asks these before most of its statements: 56 times in a sync that has nothing to do.
        self.has_table = once_true(self.has_table)
        self._asset_key_columns: set[str] = set()

    def _has_asset_key_col_on_connection(self, conn: Connection, column_name: str) -> bool:
        if column_name not in self._asset_key_columns and super()._has_asset_key_col_on_connection(
            conn, column_name
        ):
            self._asset_key_columns.add(column_name)
        return column_name in self._asset_key_columns

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
                select_rows(events.c.id)
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

    def __init__(self, url: str) -> None:
        super().__init__(url, should_autocreate_tables=False)
        self.has_run_stats_index_cols = once_true(self.has_run_stats_index_cols)
        self.has_backfill_id_column = once_true(self.has_backfill_id_column)

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

    def __init__(self, postgres_url: str, inst_data: ConfigurableClassData | None = None) -> None:
        super().__init__(postgres_url, not _has_tables(postgres_url), inst_data)
        self._run_storage = EndedRunStorage(postgres_url)
        self._event_log_storage = BatchedEventLog(postgres_url, self._run_storage)
        os.environ.setdefault("DAGSTER_EVENT_BATCH_SIZE", str(BATCH_SIZE))
        # Dagster opens a connection per statement: 273 in a sync that has nothing to do, 1 s of its 2.3 s. This engine
        # keeps one per process, and replaces it before the next use if the server was restarted.
        engine = create_engine(
            postgres_url, isolation_level="AUTOCOMMIT", pool_size=1, max_overflow=-1
        )
        engine_events.listen(engine, "connect", _note_process)
        engine_events.listen(engine, "checkin", _note_use)
        engine_events.listen(engine, "checkout", _refuse_ended)
        for storage in (self._event_log_storage, self._run_storage, self._schedule_storage):
            storage._engine = engine

    @classmethod
    def config_type(cls) -> Any:
        return {}

    @classmethod
    def from_config_value(  # pyright: ignore[reportIncompatibleMethodOverride]
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]
    ) -> StackPostgresStorage:
        settings = load_settings()
        url = settings.postgres_url or start_postgres(settings.home).url
        return cls(dagster_url(url), inst_data)


def dagster_url(url: str) -> str:
    """Return the SQLAlchemy URL for a libpq URL. It uses psycopg2: Dagster's NOTIFY fails with psycopg 3."""
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query))
    query["options"] = (query.get("options", "") + " -csearch_path=dagster").strip()
    return urlunsplit(
        ("postgresql+psycopg2", parts.netloc, parts.path, urlencode(query, quote_via=quote), "")
    )


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


def once_true(asks: Callable[..., bool]) -> Callable[..., bool]:
    """Ask until the answer is yes. Tables and columns of Dagster are added, never dropped."""
    known: set[tuple[Any, ...]] = set()

    def ask(*args: Any) -> bool:
        if args not in known and asks(*args):
            known.add(args)
        return args in known

    return ask


def _has_tables(url: str) -> bool:
    """Return whether each storage of Dagster has its tables. Creates the schema."""
    engine = create_engine(url, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    with engine.connect() as connection:
        found = connection.execute(text(_TABLES)).scalar_one()
        if found is None:
            connection.execute(text("CREATE SCHEMA IF NOT EXISTS dagster"))
    return bool(found)


#: NULL without the schema. The tables are those whose absence makes each storage create its own.
_TABLES = """SELECT CASE WHEN to_regnamespace('dagster') IS NOT NULL THEN num_nulls(
  to_regclass('dagster.runs'), to_regclass('dagster.instance_info'), to_regclass('dagster.event_logs'),
  to_regclass('dagster.jobs')) = 0 END"""


def _note_process(session: Any, record: Any) -> None:
    record.info["process"] = os.getpid()


def _note_use(session: Any, record: Any) -> None:
    record.info["used"] = time.monotonic()


def _refuse_ended(session: Any, record: Any, fairy: Any) -> None:
    """Let the engine open a session in place of one that its server ended, or that a parent process uses.

    SQLAlchemy's own test is one more statement for each. An idle server sends nothing but its farewell.
    """
    if record.info["process"] != os.getpid():
        record.dbapi_connection = fairy.dbapi_connection = None
        raise DisconnectionError("The session belongs to another process.")
    if time.monotonic() - record.info.get("used", math.inf) > IDLE_SECONDS:
        raise DisconnectionError("The session was idle for long.")
    if select([session.fileno()], [], [], 0)[0]:
        raise DisconnectionError("The server ended the session.")
