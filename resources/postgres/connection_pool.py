"""A pool of connections, opened at its first use. A new session costs 5 ms, the query of a search 0.5 ms."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from weakref import WeakKeyDictionary

import psycopg
from psycopg.rows import TupleRow
from psycopg_pool import ConnectionPool, PoolTimeout

from resources.driver_errors import driver_error
from resources.errors import StoreUnavailable
from resources.postgres.connection import Connection, Postgres, register_types

#: Seconds after an answer in which a connection is not checked again.
FRESH = 1.0


class Connections:
    """A pool of `smallest` to `size` connections in autocommit mode. Safe in threads.

    `timeout`: seconds to wait for a connection; then StoreUnavailable is raised. `statement_seconds`: the maximum of a
    statement, `lock_seconds` that of its wait for a lock; 0: no maximum.
    """

    def __init__(
        self,
        url: str,
        *,
        size: int = 8,
        timeout: float = 30.0,
        smallest: int = 1,
        statement_seconds: float = 0.0,
        lock_seconds: float = 0.0,
    ) -> None:
        self.url, self.size, self.timeout = url, size, timeout
        self.smallest = smallest
        self._timeouts = {"statement_timeout": statement_seconds, "lock_timeout": lock_seconds}
        self._lock = threading.Lock()
        self._pool: ConnectionPool[Connection] | None = None
        self._answered: WeakKeyDictionary[Connection, float] = WeakKeyDictionary()

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """Lend a connection. Raises StoreUnavailable if PostgreSQL does not answer, also in the block, and ConfigError
        if the URL must be changed or the role lacks a right."""
        try:
            with self._opened().connection() as connection:
                yield connection
                self._answered[connection] = time.monotonic()
        except PoolTimeout as error:
            raise StoreUnavailable(f"PostgreSQL does not answer: {error}".strip()) from error
        except psycopg.Error as error:
            if (known := driver_error(error)) is None:
                raise
            raise known from error

    def close(self) -> None:
        """Close the pool; a later search opens a new one."""
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.close()

    def _opened(self) -> ConnectionPool[Connection]:
        with self._lock:
            if self._pool is None:
                # 5 ms, once: a pool tries a wrong password again and again until its timeout, and does not name it.
                with Postgres(self.url).connect():
                    pass
                self._pool = ConnectionPool(
                    self.url,
                    connection_class=psycopg.Connection[TupleRow],
                    min_size=self.smallest,
                    max_size=self.size,
                    timeout=self.timeout,
                    kwargs={"autocommit": True, "application_name": "rag-assets service"},
                    configure=self._configure,
                    check=self._check,
                    open=True,
                )
            return self._pool

    def _configure(self, connection: Connection) -> None:
        register_types(connection)
        for name, seconds in self._timeouts.items():
            if seconds:
                milliseconds = str(int(seconds * 1000))
                connection.execute("SELECT set_config(%s, %s, false)", [name, milliseconds])

    def _check(self, connection: Connection) -> None:
        # A check costs 0.16 ms.
        if time.monotonic() - self._answered.get(connection, 0.0) > FRESH:
            ConnectionPool.check_connection(connection)
