"""Source type `sql`: the rows of a query, a document each, from any database that SQLAlchemy speaks to.

With `updated_at` a listing reads keys and times only, else whole rows, of which it keeps a hash. Rows that changed are
read by key, many at once. The query is a subquery of ours, and PostgreSQL is told to refuse writes.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from typing import Annotated, Any
from uuid import UUID

from pydantic import AfterValidator, Field

from rag_assets.pipeline.identity import content_hash
from resources.errors import ConfigError, SourceError, SourceUnavailable
from resources.sources.base import Content, Entry, Source
from resources.sources.columns import Column, ColumnsConfig, document_of, plain, raw_row
from resources.sources.config import PlainUrl
from resources.urls import without_secrets

#: Rows in memory while they stream, and keys in one question.
ROWS, KEYS = 500, 500


def _database(url: str) -> str:
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import SQLAlchemyError

    try:
        make_url(url).get_dialect()
    except (SQLAlchemyError, ImportError) as error:
        raise ValueError(
            f"expected dialect://user@host/database ({without_secrets(str(error))})"
        ) from None
    return url


def _select(query: str) -> str:
    found = query.strip().rstrip(";").strip()
    if not re.match(r"(select|with)\b", found, re.IGNORECASE):
        raise ValueError("expected a SELECT")
    return found


class SqlConfig(ColumnsConfig):
    url: Annotated[PlainUrl, AfterValidator(_database)] = Field(
        description="the database, such as postgresql://user@host/database; the password is a credential"
    )
    key: Column = Field(description="column that names a row for ever")  # pyright: ignore[reportIncompatibleVariableOverride, reportGeneralTypeIssues]
    query: Annotated[str, AfterValidator(_select)] = Field(description="a SELECT, a row a document")
    updated_at: Column | None = Field(
        default=None, description="column that changes when the row does; else its hash"
    )


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

        url = sa.make_url(self.config.url)
        if url.drivername in ("postgresql", "postgres"):
            url = url.set(drivername="postgresql+psycopg")
        if password := self._credentials.get("password"):
            url = url.set(password=password)
        if username := self._credentials.get("username"):
            url = url.set(username=username)
        postgres = url.drivername.startswith("postgresql")
        arguments = {"connect_timeout": 10, "application_name": "rag-assets"} if postgres else {}
        try:
            return sa.create_engine(
                url, connect_args=arguments, poolclass=sa.NullPool, hide_parameters=True
            )
        except ImportError as error:
            raise ConfigError(
                f"{url.drivername} needs a driver: pip install {error.name}"
            ) from None

    @contextmanager
    def _connection(self) -> Iterator[Any]:
        """A connection that streams; errors become ours, without what was sent."""
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
            refused = any(
                w in str(error.orig).lower() for w in ("password", "authentication", "no such")
            )
            kind = SourceUnavailable if lost and not refused else SourceError
            problem = kind(_said(error))
        except exc.SQLAlchemyError as error:
            problem = SourceError(_said(error))
        raise problem from None

    @cached_property
    def _query(self) -> Any:
        import sqlalchemy as sa

        # Its colons are its own: text() would take them for parameters.
        return sa.text(f"({self.config.query.replace(':', chr(92) + ':')}) AS documents")

    def list(self) -> Iterator[Entry]:
        import sqlalchemy as sa

        config = self.config
        if config.updated_at is None:
            wanted: list[Any] = [sa.text("*")]
        else:
            names = [config.key, config.updated_at]
            lengths = [sa.func.char_length(sa.column(name)) for name in config.text_columns]
            wanted = [*map(sa.column, names), *lengths]
        with self._connection() as connection:
            for row in connection.execute(sa.select(*wanted).select_from(self._query)):
                yield self._entry(row) if config.updated_at else self._hashed(row._mapping)

    def _entry(self, row: Any) -> Entry:
        value, changed, *lengths = row
        token = None if changed is None else str(plain(changed))
        return Entry(self._key(value), "", token, sum(4 * (length or 0) for length in lengths))

    def _hashed(self, row: Mapping[str, Any]) -> Entry:
        if missing := sorted(self.config.columns - set(row)):
            raise SourceError(
                f"The query has no {', '.join(missing)}; its columns: {', '.join(row)}"
            )
        key = self._key(row[self.config.key])
        raw = raw_row(self.config, key, row)
        return Entry(key, "", content_hash(raw), len(raw))

    def _key(self, value: Any) -> str:
        if value is None or value == "":
            raise SourceError(
                f"A row of the query has no {self.config.key}: without its key it cannot be told from a deleted one. "
                "Nothing was changed."
            )
        return str(plain(value)).replace("\0", "")

    def prefetch(self, entries: Sequence[Entry]) -> None:
        self._fetched = {}
        for start in range(0, len(entries), KEYS):
            self._read([entry.key for entry in entries[start : start + KEYS]])

    def _read(self, keys: Sequence[str]) -> None:
        import sqlalchemy as sa

        config = self.config
        key = sa.column(config.key)
        query = sa.select(sa.text("*")).select_from(self._query)
        wanted = set(keys)
        with self._connection() as connection:
            if kind := self._key_type(connection):
                with suppress(
                    ValueError
                ):  # SQLite: one column, several types; then they are looked for
                    query = query.where(key.in_([kind(value) for value in keys]))
            for row in connection.execute(query):
                found = self._key(row._mapping[config.key])
                if found in wanted:
                    self._fetched[found] = self._content(found, row._mapping)
        for missing in set(keys) - self._fetched.keys():
            self._fetched[missing] = SourceError("gone since it was listed")

    def _key_type(self, connection: Any) -> Any:
        """The type of keys that are written in one way, so that an index serves; None: they are looked for."""
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

    def fetch(self, entry: Entry, known: str | None = None) -> Content:
        with self._lock:
            if entry.key not in self._fetched:
                self._read([entry.key])
            found = self._fetched[entry.key]
        if isinstance(found, SourceError):
            raise found
        return found

    def close(self) -> None:
        if "_engine" in self.__dict__:
            self._engine.dispose()


def _said(error: Any) -> str:
    """The database's own words; SQLAlchemy's add the statement."""
    said = str(getattr(error, "orig", None) or error).strip()
    return "The database answers: " + without_secrets(" ".join(said.split())[:400])
