"""Dagster's own storage: dagster-postgres, in the schema `dagster` of the database that the project uses.

dagster.yaml can name a URL only by an environment variable; the embedded server's URL is known to its home folder. This
class asks there, so that `dagster dev` works from the project root without any variable set. It keeps one connection a
process, and stores what is said of each partition in batches.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

import psycopg
from dagster import DagsterEventType, EventLogEntry
from dagster._serdes import ConfigurableClassData
from dagster_postgres import DagsterPostgresStorage
from dagster_postgres.event_log import PostgresEventLogStorage
from sqlalchemy import create_engine

from rag_assets.settings.load import load_settings
from resources.embedded.stack import start_postgres

#: Events stored at a time, of which there is one a partition and asset: one by one each takes 14 ms.
BATCH = 250


class BatchedEventLog(PostgresEventLogStorage):
    """Also stores in batches which materializations a run plans: one a partition and asset when it is made."""

    def store_event_batch(self, events: Sequence[EventLogEntry]) -> None:
        kind = DagsterEventType.ASSET_MATERIALIZATION_PLANNED
        planned = [event for event in events if event.dagster_event_type == kind]
        if planned:
            with self._connect() as connection:
                connection.execute(self.prepare_insert_event_batch(planned))
            last = {event.get_dagster_event().asset_key: event for event in planned}
            with self.index_transaction() as connection:
                for event in last.values():
                    self._store_asset_event(connection, event, 0)  # its id is not kept
        super().store_event_batch([event for event in events if event.dagster_event_type != kind])


class StackPostgresStorage(DagsterPostgresStorage):
    """Takes no configuration: RAG_POSTGRES_URL, or else the embedded server under RAG_HOME, which it starts."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._event_log_storage = BatchedEventLog(self.postgres_url, False)
        os.environ.setdefault("DAGSTER_EVENT_BATCH_SIZE", str(BATCH))
        # Dagster connects anew for every statement: 273 times in a sync that has nothing to do, 1 s of its 2.3 s. A
        # connection that a restart of the server has ended is noticed before its next use.
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
    """The SQLAlchemy URL for a libpq URL. psycopg2: Dagster's NOTIFY fails under psycopg 3."""
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query))
    query["options"] = (query.get("options", "") + " -csearch_path=dagster").strip()
    return urlunsplit(
        ("postgresql+psycopg2", parts.netloc, parts.path, urlencode(query, quote_via=quote), "")
    )
