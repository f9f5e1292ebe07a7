"""Source type `sql`: one document per row of a query, from any database that SQLAlchemy supports.

With `updated_at` a listing reads keys and times only, and a row whose time is as young as the listing is read again by
the next one, since it may change within the same tick; otherwise it reads whole rows and keeps a hash of each. Changed
rows are read by key, many at once. The query runs as a subquery; on PostgreSQL and MySQL, in a read-only transaction.
"""

from __future__ import annotations

import datetime
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from typing import Annotated, Any
from uuid import UUID

from pydantic import AfterValidator, Field

from rag_assets.pipeline.entries import Content, Entry
from rag_assets.pipeline.identity import content_hash
from resources.errors import ConfigError, SourceError, SourceUnavailable
from resources.sources.base import Source
from resources.sources.columns import (
    Column,
    ColumnsConfig,
    check_columns,
    document_of,
    json_value,
    raw_row,
)
from resources.sources.config import PlainUrl
from resources.sources.signs import YOUNG, is_young
from resources.urls import without_secrets

#: Rows in memory during a stream, and keys per query.
ROWS, KEYS = 500, 500

#: Module of a database driver -> its package. Other modules need not be in a package of their name.
DRIVER_PACKAGES = {
    "MySQLdb": "mysqlclient",
    "asyncpg": "asyncpg",
    "mariadb": "mariadb",
    "oracledb": "oracledb",
    "psycopg2": "psycopg2-binary",
    "pymysql": "pymysql",
    "pyodbc": "pyodbc",
}


def _driver_command(module: str) -> str:
    if package := DRIVER_PACKAGES.get(module):
        return f"pip install {package}"
    return f"install the package that contains the module {module}"


def _check_url(url: str) -> str:
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import SQLAlchemyError

    try:
        make_url(url).get_dialect()
    except (SQLAlchemyError, ImportError) as error:
        raise ValueError(
            f"expected dialect://user@host/database ({without_secrets(str(error))})"
        ) from None
    return url


def _check_query(query: str) -> str:
    statement = query.strip().rstrip(";").strip()
    if not re.match(r"(select|with)\b", statement, re.IGNORECASE):
        raise ValueError("expected a SELECT")
    return statement


class SqlConfig(ColumnsConfig):
    url: Annotated[PlainUrl, AfterValidator(_check_url)] = Field(
        description="the database, such as postgresql://user@host/database; the password is a credential"
    )
    key: Column = Field(description="column that identifies a row")  # pyright: ignore[reportIncompatibleVariableOverride, reportGeneralTypeIssues]
    query: Annotated[str, AfterValidator(_check_query)] = Field(
        description="a SELECT that returns one row per document"
    )
    updated_at: Column | None = Field(
        default=None, description="column that changes with the row; a hash of the row if not set"
    )


def expect_driver(url: str) -> None:
    """Raise ConfigError if the Python driver of the database is not installed."""
    from sqlalchemy.engine import make_url

    parts = _with_driver(make_url(url))
    try:
        parts.get_dialect().import_dbapi()
    except ImportError as error:
        raise ConfigError(_missing_driver(parts.drivername, error)) from None


def _with_driver(url: Any) -> Any:
    """Return the URL with psycopg for PostgreSQL: the default of SQLAlchemy is another driver, which is older."""
    if url.drivername in ("postgresql", "postgres"):
        return url.set(drivername="postgresql+psycopg")
    return url


def _missing_driver(name: str, error: ImportError) -> str:
    return f"{name} needs a driver: {_driver_command(error.name or '')}"


class SqlSource(Source):
    batched = True

    def __init__(self, config: SqlConfig, credentials: Mapping[str, str]) -> None:
        self.config = config
        self._credentials = credentials
        self._fetched: dict[str, Content | SourceError] = {}
        self._lock = threading.Lock()

    @cached_property
    def _engine(self) -> Any:
        import sqlalchemy as sa
        from sqlalchemy import event

        url = _with_driver(sa.make_url(self.config.url))
        if password := self._credentials.get("password"):
            url = url.set(password=password)
        if username := self._credentials.get("username"):
            url = url.set(username=username)
        postgres = url.drivername.startswith("postgresql")
        arguments = {"connect_timeout": 10, "application_name": "rag-assets"} if postgres else {}
        try:
            engine = sa.create_engine(
                url, connect_args=arguments, poolclass=sa.NullPool, hide_parameters=True
            )
        except ImportError as error:
            raise ConfigError(_missing_driver(url.drivername, error)) from None
        if engine.dialect.driver == "psycopg":
            event.listen(engine, "connect", _read_all_times)
        return engine

    @contextmanager
    def _connection(self) -> Iterator[Any]:
        """Yield a connection that streams. Database errors become SourceErrors, without the statement."""
        import sqlalchemy as sa
        from sqlalchemy import exc

        try:
            with self._engine.connect() as connection:
                if connection.dialect.name in ("postgresql", "mysql", "mariadb"):
                    connection.execute(sa.text("SET TRANSACTION READ ONLY"))
                yield connection.execution_options(stream_results=True, max_row_buffer=ROWS)
            return
        except (exc.OperationalError, exc.InterfaceError) as error:
            lost = error.connection_invalidated or "connect" in str(error.orig).lower()
            denied = any(
                w in str(error.orig).lower() for w in ("password", "authentication", "no such")
            )
            away = lost and not denied
            kind = SourceUnavailable if away else SourceError
            problem = kind(_database_message(error, "does not answer" if away else "reports"))
        except exc.SQLAlchemyError as error:
            problem = SourceError(_database_message(error, "reports"))
        raise problem from None

    @cached_property
    def _query(self) -> Any:
        import sqlalchemy as sa

        # Escaped, since text() takes colons for parameters.
        return sa.text(f"({self.config.query.replace(':', chr(92) + ':')}) AS documents")

    def list(self) -> Iterator[Entry]:
        import sqlalchemy as sa

        config = self.config
        if config.updated_at is None:
            columns: list[Any] = [sa.text("*")]
        else:
            names = [config.key, config.updated_at]
            lengths = [sa.func.char_length(sa.column(name)) for name in config.text_columns]
            columns = [*map(sa.column, names), *lengths]
        with self._connection() as connection:
            self._check_columns(connection)
            now = datetime.datetime.now(datetime.UTC)
            for row in connection.execute(sa.select(*columns).select_from(self._query)):
                yield self._entry(row, now) if config.updated_at else self._hashed(row._mapping)

    def _check_columns(self, connection: Any) -> None:
        import sqlalchemy as sa

        query = sa.select(sa.text("*")).select_from(self._query).where(sa.false())
        names = list(connection.execute(query).keys())
        # SQLite numbers equal names: body, body:1.
        plain = [name.rpartition(":")[0] if re.search(r".:\d+$", name) else name for name in names]
        same = [p if p in names else name for p, name in zip(plain, names)]
        check_columns(self.config, same, "The query")

    def _entry(self, row: Any, now: datetime.datetime) -> Entry:
        value, updated_at, *lengths = row
        token = None if updated_at is None else str(json_value(updated_at))
        if token and is_young(updated_at, now):
            # With the time of this listing: a date stays young for a day, in which each listing reads the row.
            token = f"{token}{YOUNG}{now:%Y%m%d%H%M%S%f}"
        return Entry(self._key(value), "", token, sum(4 * (length or 0) for length in lengths))

    def _hashed(self, row: Mapping[str, Any]) -> Entry:
        key = self._key(row[self.config.key])
        raw = raw_row(self.config, key, row)
        return Entry(key, "", content_hash(raw), len(raw))

    def _key(self, value: Any) -> str:
        if value is None or value == "":
            raise SourceError(
                f"A row of the query has no {self.config.key}: without a key it cannot be distinguished from a deleted "
                "row. Nothing was changed."
            )
        return str(json_value(value)).replace("\0", "")

    def prefetch(self, entries: Sequence[Entry]) -> None:
        self._fetched = {}
        for start in range(0, len(entries), KEYS):
            self._read([entry.key for entry in entries[start : start + KEYS]])

    def _read(self, keys: Sequence[str]) -> None:
        import sqlalchemy as sa

        config = self.config
        key = sa.column(config.key)
        query = sa.select(sa.text("*")).select_from(self._query)
        requested = set(keys)
        with self._connection() as connection:
            if key_type := self._key_type(connection):
                # SQLite may have several types in one column: then all rows are scanned for the keys.
                with suppress(ValueError):
                    query = query.where(key.in_([key_type(value) for value in keys]))
            for row in connection.execute(query):
                row_key = self._key(row._mapping[config.key])
                if row_key in requested:
                    self._fetched[row_key] = self._content(row_key, row._mapping)
        for missing in requested - self._fetched.keys():
            self._fetched[missing] = SourceError("deleted since the listing")

    def _key_type(self, connection: Any) -> Any:
        """Return the type of the keys if each value has one notation, so that an index works; None to scan all rows."""
        import sqlalchemy as sa

        row = connection.execute(
            sa.select(sa.column(self.config.key)).select_from(self._query).limit(1)
        ).first()
        return type(row[0]) if row is not None and type(row[0]) in (int, str, UUID) else None

    def _content(self, key: str, row: Mapping[str, Any]) -> Content | SourceError:
        try:
            text, about = document_of(self.config, key, row)
        except SourceError as error:
            return error
        if len(text) > self.config.max_bytes:
            return SourceError(f"larger than {self.config.max_bytes:,} bytes: {len(text):,}")
        return Content(text, "", about)

    def fetch(self, entry: Entry, previous_token: str | None = None) -> Content:
        with self._lock:
            if entry.key not in self._fetched:
                self._read([entry.key])
            content = self._fetched[entry.key]
        if isinstance(content, SourceError):
            raise content
        return content

    def close(self) -> None:
        if "_engine" in self.__dict__:
            self._engine.dispose()


def _read_all_times(connection: Any, _: Any) -> None:
    """Let a psycopg connection return as text the times that Python has no value for: infinity, BC, the year 10000."""
    from psycopg import DataError
    from psycopg.types import datetime as times

    def or_text(loader: Any) -> Any:
        class OrText(loader):
            def load(self, data: Any) -> Any:
                try:
                    return super().load(data)
                except DataError:
                    return bytes(data).decode()

        return OrText

    for name, loader in (
        ("date", times.DateLoader),
        ("timestamp", times.TimestampLoader),
        ("timestamptz", times.TimestamptzLoader),
    ):
        connection.adapters.register_loader(name, or_text(loader))


def _database_message(error: Any, verb: str) -> str:
    """Return the message of the database itself; SQLAlchemy's contains the statement too."""
    message = str(getattr(error, "orig", None) or error).strip()
    return f"The database {verb}: " + without_secrets(" ".join(message.split())[:400])
