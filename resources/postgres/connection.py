"""Connections to PostgreSQL, and the right to write a partition.

Each partition has one writer: a session advisory lock, held by the very connection that writes, and an epoch that every
transaction checks. A writer whose session is gone cannot commit; one that was taken over fails the epoch check.
A part of a partition ("name/part") has its own writer, beside those of other parts, never beside one of the whole.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import LiteralString, NamedTuple

import psycopg
from psycopg.abc import Buffer
from psycopg.pq import TransactionStatus
from psycopg.rows import TupleRow
from psycopg.types.datetime import TimestamptzLoader

from resources.driver_errors import (
    connection_error,
    driver_errors,
    is_closed_at_once,
    is_starting,
)
from resources.errors import Fenced, StoreUnavailable
from resources.postgres import idle_sessions
from resources.postgres.queries import fetch_first, fetch_one, scalar
from resources.waiting import waiting

Connection = psycopg.Connection[TupleRow]

#: Seconds that the server has to accept a connection.
CONNECT_SECONDS = 10
#: Seconds in which a server may close connections at once. One that is no PostgreSQL does so for ever.
CLOSING_SECONDS = 2


class _UtcLoader(TimestamptzLoader):
    """Returns times in UTC, not in the zone of the session, which PostgreSQL's `timezone` sets.

    In a zone whose clocks change, Python's sums and differences of times are an hour off on two days of the year.
    """

    def load(self, data: Buffer) -> datetime:
        try:
            # A quarter of the time that the loader of psycopg in Python takes.
            return datetime.fromisoformat(str(data, "ascii")).astimezone(UTC)
        except ValueError:
            # Infinity, years before 1 or after 9999: psycopg's error.
            return super().load(data).astimezone(UTC)


def register_types(connection: Connection) -> None:
    """Let a new session return times in UTC."""
    connection.adapters.register_loader("timestamptz", _UtcLoader)


def is_written(partition: LiteralString) -> LiteralString:
    """SQL: whether another live session has the right to write a partition. A statement reads the locks once."""
    # pg_locks shows a 64-bit key in two halves.
    return f"""hashtextextended('rag-assets partition ' || {partition}, 0) IN (
      SELECT classid::bigint << 32 | objid::bigint FROM pg_locks WHERE locktype = 'advisory' AND granted
      AND objsubid = 1 AND pid <> pg_backend_pid()
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))"""


@dataclass(frozen=True)
class Postgres:
    """Opens connections. `lock_timeout`: seconds to wait for another writer of the same partition."""

    url: str
    lock_timeout: float = 60.0

    @contextmanager
    def connect(self, *, autocommit: bool = False) -> Iterator[Connection]:
        """A session until the block ends; its transaction is committed, or rolled back after an error.

        Raises StoreUnavailable if the server does not answer, ConfigError if the URL must be changed.
        """
        connection = idle_sessions.take(self.url) or self._open()
        with ExitStack() as closing:
            closing.enter_context(connection)
            connection.autocommit = autocommit
            yield connection
            if not connection.closed:
                connection.commit()
                if idle_sessions.keep(self.url, connection):
                    closing.pop_all()

    def _open(self) -> Connection:
        """Open a session. Waits while the server starts or recovers from a crash of one of its processes."""
        started = time.monotonic()
        with waiting("PostgreSQL", CONNECT_SECONDS):
            while True:
                try:
                    connection = psycopg.connect(
                        self.url,
                        connect_timeout=CONNECT_SECONDS,
                        application_name="rag-assets",
                    )
                    break
                except psycopg.Error as error:
                    waited = time.monotonic() - started
                    if not (
                        (is_starting(error) and waited < CONNECT_SECONDS)
                        or (is_closed_at_once(error) and waited < CLOSING_SECONDS)
                    ):
                        # `from None`: logs print the whole chain of errors, and libpq may quote the URL with its
                        # password.
                        raise connection_error(error, self.url) from None
                    time.sleep(0.1)
        register_types(connection)
        return connection

    @contextmanager
    def writer(self, partition: str, *, run: str = "") -> Iterator[Writer]:
        """The right to write a partition, until the block ends or the session dies. `run`: see `set_run`.

        Raises StoreUnavailable if another writer keeps the partition for longer than `lock_timeout`, or if PostgreSQL
        goes away inside the block; ConfigError if the role lacks a right.
        """
        with self.writers([partition], run=run) as (writer,):
            yield writer

    @contextmanager
    def writers(
        self, partitions: Sequence[str], *, patience: float | None = None, run: str = ""
    ) -> Iterator[list[Writer]]:
        """The right to write several partitions at once, in one session.

        While another writer has one of them, this session locks none: it blocks no writer while it waits. `patience`:
        seconds to wait for all of them; by default `lock_timeout`.
        """
        patience = self.lock_timeout if patience is None else patience
        with self.connect(autocommit=True) as connection, driver_errors():
            with waiting(f"another writer of {', '.join(partitions[:3])}", patience):
                _lock(connection, sorted(partitions), patience)
            # The epoch of the whole rises with that of a part, and those of all parts with that of the whole: the new
            # writer takes over from each of these writers.
            rows = connection.execute(
                """INSERT INTO partition_writers (partition, epoch, holder)
                   SELECT name, 1, %(holder)s FROM (
                     SELECT unnest(%(taken)s::text[]) UNION SELECT split_part(unnest(%(taken)s::text[]), '/', 1)
                     UNION SELECT p.partition FROM partition_writers p
                       WHERE split_part(p.partition, '/', 1) = ANY(%(taken)s)) AS names(name) ORDER BY name
                   ON CONFLICT (partition) DO UPDATE
                   SET epoch = partition_writers.epoch + 1, holder = excluded.holder, taken_at = now()
                   RETURNING partition, epoch, set_config('rag.run', %(run)s, false)""",
                {
                    "holder": f"{socket.gethostname()}:{os.getpid()}",
                    "taken": list(partitions),
                    "run": run,
                },
            ).fetchall()
            epochs = {partition: epoch for partition, epoch, _ in rows}
            with _freed_locks(connection), ExitStack() as opened:
                second = cache(lambda: opened.enter_context(self.connect(autocommit=True)))
                yield [Writer(connection, name, epochs[name], second, self) for name in partitions]


@dataclass(frozen=True)
class Writer:
    """The writer of a partition. It makes all of its changes in `transaction()`."""

    connection: Connection
    partition: str
    epoch: int
    #: Opens a second session at the first call: `confirm` must not wait for the current statement of the first one.
    second_session: Callable[[], Connection]
    database: Postgres

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """One transaction that commits only while this writer's epoch is the current one. Raises Fenced otherwise."""
        with self.connection.transaction():
            self._check_epoch(self.connection, "FOR SHARE")
            yield self.connection

    def confirm(self) -> None:
        """Raises Fenced if the partition was taken over. Called right before each request that writes to Milvus.

        It does not catch a process that is halted (SIGSTOP, a frozen virtual machine) after the check and before the
        request is sent: Milvus knows no epochs. The check finds what such a process then writes, and a repair fixes it.
        """
        self._check_epoch(self.second_session(), "")

    def _check_epoch(self, connection: Connection, locking: LiteralString) -> None:
        epoch = scalar(
            connection,
            "SELECT epoch FROM partition_writers WHERE partition = %s " + locking,
            [self.partition],
        )
        if epoch != self.epoch:
            raise Fenced(
                f"Partition {self.partition} was taken over by another writer: expected epoch {self.epoch}, "
                f"found {epoch}. The other writer continues with everything that was not acknowledged."
            )


class WriterState(NamedTuple):
    """The epoch of a partition's latest writer (0: none yet), and whether another session writes it now."""

    epoch: int
    is_written: bool


def writer_state(connection: Connection, partition: str) -> WriterState:
    return fetch_one(
        connection,
        WriterState,
        f"""SELECT coalesce((SELECT epoch FROM partition_writers WHERE partition = %(partition)s), 0) AS epoch,
              {is_written("%(partition)s")} AS is_written""",
        {"partition": partition},
    )


def others_write(connection: Connection) -> bool:
    """Return whether another session writes any partition."""
    return scalar(
        connection,
        f"SELECT EXISTS (SELECT FROM partition_writers AS p WHERE {is_written('p.partition')})",
    )


@contextmanager
def try_partition_lock(connection: Connection, partition: str) -> Iterator[bool]:
    """Lock a partition until the block ends, if no session writes it. Yields whether it is locked."""
    if not _try_lock(connection, partition):
        yield False
        return
    try:
        yield True
    finally:
        _unlock(connection, partition)


@contextmanager
def partition_lock(connection: Connection, partition: str, timeout: float) -> Iterator[None]:
    """Lock a partition until the block ends: no other session writes it. Raises StoreUnavailable after `timeout` s."""
    _lock(connection, [partition], timeout)
    try:
        yield
    finally:
        _unlock(connection, partition)


class _Holder(NamedTuple):
    holder: str
    taken_at: datetime


def _lock(connection: Connection, partitions: Sequence[str], timeout: float) -> None:
    deadline = time.monotonic() + timeout
    while True:
        locked: list[str] = []
        for partition in partitions:
            if not _try_lock(connection, partition):
                break
            locked.append(partition)
        else:
            return
        for partition in locked:
            _unlock(connection, partition)
        if time.monotonic() >= deadline:
            missing = partitions[len(locked)]
            other = fetch_first(
                connection,
                _Holder,
                """SELECT holder, taken_at FROM partition_writers
                   WHERE partition IN (%(partition)s, split_part(%(partition)s, '/', 1))
                   ORDER BY taken_at DESC LIMIT 1""",
                {"partition": missing},
            )
            by = (
                f"{other.holder} since {other.taken_at:%Y-%m-%d %H:%M:%S%z}"
                if other
                else "another process"
            )
            raise StoreUnavailable(
                f"Partition {missing} is being written by {by}; waited {timeout:.0f} s. Try again when it is done."
            )
        time.sleep(0.1)


@contextmanager
def _freed_locks(connection: Connection) -> Iterator[None]:
    """Frees the locks of a session at the end of the block: a server notices only later that a session was closed."""
    try:
        yield
    finally:
        if connection.info.transaction_status == TransactionStatus.IDLE:
            with suppress(psycopg.Error):
                connection.execute("SELECT pg_advisory_unlock_all()")


_LOCK_KEY = "hashtextextended('rag-assets partition ' || %s, 0)"


def _try_lock(connection: Connection, partition: str) -> bool:
    whole, _, part = partition.partition("/")
    if part and not scalar(connection, f"SELECT pg_try_advisory_lock_shared({_LOCK_KEY})", [whole]):
        return False
    if scalar(connection, f"SELECT pg_try_advisory_lock({_LOCK_KEY})", [partition]):
        return True
    if part:
        scalar(connection, f"SELECT pg_advisory_unlock_shared({_LOCK_KEY})", [whole])
    return False


def _unlock(connection: Connection, partition: str) -> None:
    whole, _, part = partition.partition("/")
    scalar(connection, f"SELECT pg_advisory_unlock({_LOCK_KEY})", [partition])
    if part:
        scalar(connection, f"SELECT pg_advisory_unlock_shared({_LOCK_KEY})", [whole])


def try_session_lock(connection: Connection, name: str) -> bool:
    """Lock a name until the session ends. Returns False if another session has locked it."""
    return scalar(
        connection,
        "SELECT pg_try_advisory_lock(hashtextextended('rag-assets ' || %s, 0))",
        [name],
    )


def set_run(connection: Connection, run: str) -> None:
    """Attribute what this session writes to a Dagster run: the SQL function `rag_run()` returns it."""
    connection.execute("SELECT set_config('rag.run', %s, false)", [run])


def set_sync(connection: Connection, sync: str) -> None:
    """Count this session's run as a part of a sync of several runs: the SQL function `rag_sync()` returns the sync."""
    connection.execute("SELECT set_config('rag.sync', %s, false)", [sync])


def server_time(connection: Connection) -> datetime:
    """Return the time of PostgreSQL's clock, which it also uses for acknowledgements."""
    return scalar(connection, "SELECT clock_timestamp()")
