"""Connections to PostgreSQL, and the right to write a partition.

One writer a partition: a session advisory lock, held by the very connection that writes, and an epoch that is checked
in every transaction. A writer whose session is gone cannot commit; one that was taken over is refused by the epoch.
A part of a partition ("name/part") has a writer of its own beside those of other parts, never beside one of the whole.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from typing import LiteralString

import psycopg
from psycopg.rows import TupleRow

from resources.errors import ConfigError, Fenced, StoreUnavailable

Connection = psycopg.Connection[TupleRow]


def is_written(partition: LiteralString) -> LiteralString:
    """Whether another live session holds the right to write a partition, in SQL. Locks are read once a statement."""
    # pg_locks shows a 64-bit key in two halves.
    return f"""hashtextextended('rag-assets partition ' || {partition}, 0) IN (
      SELECT classid::bigint << 32 | objid::bigint FROM pg_locks WHERE locktype = 'advisory' AND granted
      AND objsubid = 1 AND pid <> pg_backend_pid()
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))"""


IS_WRITTEN = is_written("%(partition)s")


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
    def writer(self, partition: str, *, run: str = "") -> Iterator[Writer]:
        """The right to write a partition, until the block ends or the session dies. `run`: see `rag_run()`.

        Raises StoreUnavailable when another writer keeps it for longer than `lock_timeout`, and where PostgreSQL goes
        away in the block.
        """
        with self.writers([partition], run=run) as (writer,):
            yield writer

    @contextmanager
    def writers(
        self, partitions: Sequence[str], *, patience: float | None = None, run: str = ""
    ) -> Iterator[list[Writer]]:
        """The right to write several partitions at once, on one session. While one is taken, none is kept from others.

        `patience`: seconds to wait for all of them; by default `lock_timeout`.
        """
        with self.connect(autocommit=True) as connection, _went_away():
            _lock(
                connection, sorted(partitions), self.lock_timeout if patience is None else patience
            )
            rows = connection.execute(
                # Whoever takes a part takes over from a writer of the whole, and who takes the whole from all parts'.
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
            with ExitStack() as opened:
                aside = cache(lambda: opened.enter_context(self.connect(autocommit=True)))
                yield [Writer(connection, name, epochs[name], aside, self) for name in partitions]


@dataclass(frozen=True)
class Writer:
    """The writer of a partition. All that it writes goes through `transaction()`."""

    connection: Connection
    partition: str
    epoch: int
    #: A second session, opened at the first use: a question must not wait for what the first one is doing.
    second: Callable[[], Connection]
    database: Postgres

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
        f"""SELECT coalesce((SELECT epoch FROM partition_writers WHERE partition = %(partition)s), 0),
              {IS_WRITTEN}""",
        {"partition": partition},
    ).fetchone()
    assert row is not None
    return row[0], row[1]


def others_write(connection: Connection) -> bool:
    """Whether any partition is being written by a session other than this one."""
    row = connection.execute(
        f"SELECT EXISTS (SELECT FROM partition_writers AS p WHERE {is_written('p.partition')})"
    ).fetchone()
    return row is not None and row[0]


@contextmanager
def if_idle(connection: Connection, partition: str) -> Iterator[bool]:
    """Whether nobody writes the partition; if so, nobody begins to until the block ends."""
    if not _try_lock(connection, partition):
        yield False
        return
    try:
        yield True
    finally:
        _unlock(connection, partition)


@contextmanager
def turn(connection: Connection, partition: str, timeout: float) -> Iterator[None]:
    """Nobody else writes the partition until the block ends. Raises StoreUnavailable as `Postgres.writer` does."""
    _lock(connection, [partition], timeout)
    try:
        yield
    finally:
        _unlock(connection, partition)


def _lock(connection: Connection, partitions: Sequence[str], timeout: float) -> None:
    deadline = time.monotonic() + timeout
    while True:
        taken: list[str] = []
        for partition in partitions:
            if not _try_lock(connection, partition):
                break
            taken.append(partition)
        else:
            return
        for partition in taken:
            _unlock(connection, partition)
        if time.monotonic() >= deadline:
            missing = partitions[len(taken)]
            held = connection.execute(
                """SELECT holder, taken_at FROM partition_writers
                   WHERE partition IN (%(partition)s, split_part(%(partition)s, '/', 1))
                   ORDER BY taken_at DESC LIMIT 1""",
                {"partition": missing},
            ).fetchone()
            by = f"{held[0]} since {held[1]:%Y-%m-%d %H:%M:%S%z}" if held else "another process"
            raise StoreUnavailable(
                f"Partition {missing} is being written by {by}; waited {timeout:.0f} s. Try again when it is done."
            )
        time.sleep(0.1)


_LOCK = "hashtextextended('rag-assets partition ' || %s, 0)"


def _try_lock(connection: Connection, partition: str) -> bool:
    whole, _, part = partition.partition("/")
    if part and not _ask(connection, f"SELECT pg_try_advisory_lock_shared({_LOCK})", whole):
        return False
    if _ask(connection, f"SELECT pg_try_advisory_lock({_LOCK})", partition):
        return True
    if part:
        _ask(connection, f"SELECT pg_advisory_unlock_shared({_LOCK})", whole)
    return False


def _unlock(connection: Connection, partition: str) -> None:
    whole, _, part = partition.partition("/")
    _ask(connection, f"SELECT pg_advisory_unlock({_LOCK})", partition)
    if part:
        _ask(connection, f"SELECT pg_advisory_unlock_shared({_LOCK})", whole)


def _ask(connection: Connection, question: LiteralString, partition: str) -> bool:
    row = connection.execute(question, [partition]).fetchone()
    return row is not None and row[0]
