"""One writer a partition: the lock, its end with the process, and the epoch that fences a writer after a takeover."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from datetime import UTC
from pathlib import Path

import psycopg
import pytest

from resources.errors import Fenced, StoreUnavailable
from resources.postgres.connection import Connection, Postgres, Writer, writer_state
from resources.postgres.vectors.collections import register_collection
from tests.support.rows import chunks_of, collection_of, new_document, new_source

REPOSITORY = Path(__file__).parents[2]


def test_a_second_writer_waits_and_names_the_first(
    connection: Connection, postgres_url: str
) -> None:
    postgres = Postgres(postgres_url, lock_timeout=0.3)
    with postgres.writer("docs") as first:
        started = time.monotonic()
        with pytest.raises(StoreUnavailable, match=rf"docs.*:{os.getpid()} since") as caught:
            with postgres.writer("docs"):
                pass
        assert 0.3 <= time.monotonic() - started < 3
        assert caught.value.transient
        # Another partition is free.
        with postgres.writer("other") as other:
            assert (first.epoch, other.epoch) == (1, 1)
    with postgres.writer("docs") as second:
        assert second.epoch == 2


def test_times_are_in_utc_whatever_the_zone_of_the_session(postgres_url: str) -> None:
    """In the hour that occurs twice, sums and differences of times in the zone of the session are an hour off."""
    joint = "&" if "?" in postgres_url else "?"
    url = f"{postgres_url}{joint}options=-ctimezone%3DEurope/Berlin"
    with Postgres(url).connect() as connection:
        assert connection.info.parameter_status("TimeZone") == "Europe/Berlin"
        row = connection.execute(
            "SELECT moment, ARRAY[moment], NULL::timestamptz FROM (VALUES ('2026-10-25 02:40+01'::timestamptz)) "
            "AS moments(moment)"
        ).fetchone()
    assert row is not None
    moment, moments, missing = row
    assert (moments, missing) == ([moment], None)
    assert moment.tzinfo is UTC and moment.isoformat() == "2026-10-25T01:40:00+00:00"


def test_parts_have_writers_side_by_side_but_not_beside_a_writer_of_the_whole(
    connection: Connection, postgres_url: str
) -> None:
    postgres = Postgres(postgres_url, lock_timeout=0)
    with postgres.writer("docs/01-of-02"), postgres.writer("docs/02-of-02"):
        for locked in ("docs", "docs/01-of-02"):
            with pytest.raises(
                StoreUnavailable, match=f"{locked} is being written by .*:{os.getpid()}"
            ):
                with postgres.writer(locked):
                    pass
        assert writer_state(connection, "docs") == (2, True)
    # Writers that lose their locks while their processes run on.
    with postgres.writer("docs/02-of-02") as part:
        part.connection.execute("SELECT pg_advisory_unlock_all()")
        with postgres.writer("docs") as whole:
            with pytest.raises(Fenced), part.transaction():
                pass
            with pytest.raises(StoreUnavailable, match="docs/02-of-02"):
                with postgres.writer("docs/02-of-02"):
                    pass
            whole.connection.execute("SELECT pg_advisory_unlock_all()")
            with postgres.writer("docs/02-of-02"), pytest.raises(Fenced), whole.transaction():
                pass


def test_the_lock_ends_with_an_error_in_the_block(
    connection: Connection, postgres_url: str
) -> None:
    postgres = Postgres(postgres_url, lock_timeout=0)
    # A session that is only closed drops its temporary tables before it frees its locks.
    with pytest.raises(ZeroDivisionError), postgres.writer("docs") as writer:
        writer.connection.execute(
            "DO $$ BEGIN FOR n IN 1..200 LOOP"
            " EXECUTE format('CREATE TEMP TABLE kept_%s (n int PRIMARY KEY)', n); END LOOP; END $$"
        )
        raise ZeroDivisionError
    with postgres.writer("docs"):
        pass


def test_a_killed_writer_frees_its_partition_and_commits_nothing(
    connection: Connection, postgres_url: str
) -> None:
    code = """
import sys, time
from resources.postgres.connection import Postgres
with Postgres(sys.argv[1]).writer("docs") as writer, writer.transaction() as connection:
    connection.execute("INSERT INTO sources (source_type, name, connection_config) VALUES ('folder', 'half', '{}')")
    print("held", flush=True)
    time.sleep(60)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code, postgres_url], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True
    )  # fmt: skip
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    with pytest.raises(StoreUnavailable, match=f":{process.pid} "):
        with Postgres(postgres_url, lock_timeout=0).writer("docs"):
            pass
    process.kill()
    process.wait(5)
    with Postgres(postgres_url, lock_timeout=10).writer("docs") as writer:
        assert writer.epoch == 2
    assert connection.execute("SELECT name FROM sources").fetchall() == []


def take_over(connection: Connection) -> None:
    connection.execute("UPDATE partition_writers SET epoch = epoch + 1, holder = 'another'")


def test_a_writer_that_was_taken_over_commits_nothing(
    connection: Connection, postgres_url: str
) -> None:
    with Postgres(postgres_url).writer("docs") as writer:
        with writer.transaction() as own:
            new_source(own, "before")
        writer.confirm()
        take_over(connection)
        with pytest.raises(Fenced, match="expected epoch 1, found 2"):
            writer.confirm()
        with pytest.raises(Fenced, match="docs"):
            with writer.transaction() as own:
                new_source(own, "after")
        connection.execute("DELETE FROM partition_writers")
        with pytest.raises(Fenced, match="found None"):
            writer.confirm()
    assert connection.execute("SELECT name FROM sources").fetchall() == [("before",)]


def test_a_writer_whose_session_is_gone_acknowledges_nothing(
    connection: Connection, postgres_url: str
) -> None:
    source = new_source(connection)
    (chunk,) = chunks_of(connection, new_document(connection, source, "a", ["a"]))
    register_collection(connection, collection_of("dense"))
    name, postgres = collection_of("dense").name, Postgres(postgres_url, lock_timeout=5)

    def record(writer: Writer) -> None:
        with writer.transaction() as own:
            own.execute(
                """INSERT INTO vector_rows (collection, chunk_id, row_fingerprint, epoch) VALUES (%s, %s, %s, %s)
                   ON CONFLICT (collection, chunk_id) DO UPDATE SET epoch = excluded.epoch""",
                [name, chunk, "f" * 32, writer.epoch],
            )

    with pytest.raises(Fenced, match="expected epoch 1, found 2"):
        with postgres.writer("docs") as zombie:
            record(zombie)
            connection.execute(
                "SELECT pg_terminate_backend(%s)", [zombie.connection.info.backend_pid]
            )
            # The lock is free.
            with postgres.writer("docs") as successor:
                record(successor)
                with pytest.raises((psycopg.OperationalError, Fenced)):
                    record(zombie)
                assert connection.execute("SELECT epoch FROM vector_rows").fetchall() == [(2,)]
            zombie.confirm()


def test_a_takeover_waits_for_the_open_transaction(
    connection: Connection, postgres_url: str
) -> None:
    connection.execute("SET lock_timeout = '100ms'")
    with Postgres(postgres_url).writer("docs") as writer:
        with writer.transaction():
            with pytest.raises(psycopg.errors.LockNotAvailable):
                take_over(connection)
        take_over(connection)


def test_an_error_rolls_the_transaction_back(connection: Connection, postgres_url: str) -> None:
    with Postgres(postgres_url).writer("docs") as writer:
        with pytest.raises(ZeroDivisionError):
            with writer.transaction() as own:
                new_source(own, "x")
                raise ZeroDivisionError
        with writer.transaction() as own:
            new_source(own, "y")
    assert connection.execute("SELECT name FROM sources").fetchall() == [("y",)]
