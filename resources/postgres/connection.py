"""Connections to PostgreSQL, and the right to write a partition.

One writer a partition: a session advisory lock, held by the very connection that writes, and an epoch that is checked
in every transaction. A writer whose session is gone cannot commit; one that was taken over is refused by the epoch.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from typing import LiteralString

import psycopg
from psycopg.rows import TupleRow

from resources.errors import ConfigError, Fenced, StoreUnavailable

Connection = psycopg.Connection[TupleRow]


@dataclass(frozen=True)
class Postgres:
    """Hands out connections. `lock_timeout`: seconds to wait for another writer of the same partition."""

    url: str
    lock_timeout: float = 60.0

    def connect(self, *, autocommit: bool = False) -> Connection:
        try:
            return psycopg.connect(
                self.url, autocommit=autocommit, connect_timeout=10, application_name="rag-assets"
            )
        except psycopg.OperationalError as error:
            raise StoreUnavailable(f"PostgreSQL does not answer: {error}".strip()) from error
        except psycopg.ProgrammingError as error:
            # Without what was found: libpq quotes it, with a password that may be in it.
            raise ConfigError(
                "The URL of PostgreSQL cannot be read; expected postgresql://user:password@host:port/database."
            ) from error

    @contextmanager
    def writer(self, partition: str) -> Iterator[Writer]:
        """The right to write a partition, until the block ends or the session dies.

        Raises StoreUnavailable when another writer keeps it for longer than `lock_timeout`, and where PostgreSQL goes
        away in the block.
        """
        with self.connect(autocommit=True) as connection, _went_away():
            _lock(connection, partition, self.lock_timeout)
            row = connection.execute(
                """INSERT INTO partition_writers (partition, epoch, holder) VALUES (%s, 1, %s)
                   ON CONFLICT (partition) DO UPDATE
                   SET epoch = partition_writers.epoch + 1, holder = excluded.holder, taken_at = now()
                   RETURNING epoch""",
                [partition, f"{socket.gethostname()}:{os.getpid()}"],
            ).fetchone()
            assert row is not None
            with ExitStack() as opened:
                yield Writer(
                    connection,
                    partition,
                    row[0],
                    cache(lambda: opened.enter_context(self.connect(autocommit=True))),
                )


@dataclass(frozen=True)
class Writer:
    """The writer of a partition. All that it writes goes through `transaction()`."""

    connection: Connection
    partition: str
    epoch: int
    #: A second session, opened at the first use: a question must not wait for what the first one is doing.
    second: Callable[[], Connection]

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """One transaction that commits only while this writer's epoch is the current one; else raises Fenced."""
        with self.connection.transaction():
            self._check_epoch(self.connection, "FOR SHARE")
            yield self.connection

    def confirm(self) -> None:
        """Raises Fenced when the partition was taken over: asked right before each request that writes to Milvus.

        A process that is halted (SIGSTOP, a frozen virtual machine) between this answer and the sending of the request
        is not caught: Milvus knows no epochs. What it then writes is found by the check and mended by a repair.
        """
        self._check_epoch(self.second(), "")

    def _check_epoch(self, connection: Connection, locking: LiteralString) -> None:
        row = connection.execute(
            "SELECT epoch FROM partition_writers WHERE partition = %s " + locking, [self.partition]
        ).fetchone()
        if row is None or row[0] != self.epoch:
            raise Fenced(
                f"Partition {self.partition} was taken over by another writer: expected epoch {self.epoch}, "
                f"found {row[0] if row else None}. What was not acknowledged is left to it."
            )


@contextmanager
def _went_away() -> Iterator[None]:
    try:
        yield
    except (psycopg.OperationalError, psycopg.InterfaceError) as error:
        raise StoreUnavailable(f"PostgreSQL went away: {error}".strip()) from error


def writing(connection: Connection, partition: str) -> tuple[int, bool]:
    """(epoch of the latest writer, whether a session other than this one holds the partition now)."""
    row = connection.execute(
        """SELECT coalesce((SELECT epoch FROM partition_writers WHERE partition = %(partition)s), 0),
             EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND granted AND pid <> pg_backend_pid()
               AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
               AND (classid::bigint << 32) | objid::bigint
                 = hashtextextended('rag-assets partition ' || %(partition)s, 0))""",
        {"partition": partition},
    ).fetchone()
    assert row is not None
    return row[0], row[1]


def _lock(connection: Connection, partition: str, timeout: float) -> None:
    deadline = time.monotonic() + timeout
    while True:
        row = connection.execute(
            "SELECT pg_try_advisory_lock(hashtextextended('rag-assets partition ' || %s, 0))",
            [partition],
        ).fetchone()
        if row is not None and row[0]:
            return
        if time.monotonic() >= deadline:
            held = connection.execute(
                "SELECT holder, taken_at FROM partition_writers WHERE partition = %s", [partition]
            ).fetchone()
            by = f"{held[0]} since {held[1]:%Y-%m-%d %H:%M:%S%z}" if held else "another process"
            raise StoreUnavailable(
                f"Partition {partition} is being written by {by}; waited {timeout:.0f} s. Try again when it is done."
            )
        time.sleep(0.1)
