"""Sessions that a process uses again (resources/postgres/idle_sessions.py)."""

from __future__ import annotations

import itertools
import multiprocessing

import psycopg
import pytest

from resources.postgres import idle_sessions
from resources.postgres.connection import Postgres
from resources.postgres.queries import scalar

NUMBERS = itertools.count()


@pytest.fixture
def postgres(postgres_url: str) -> Postgres:
    """The test database under an address of its own, of which no session is idle."""
    return Postgres(f"{postgres_url}&options=-c%20rag.test%3D{next(NUMBERS)}")


def pid(postgres: Postgres) -> int:
    with postgres.connect() as connection:
        return connection.info.backend_pid


def test_a_session_is_used_again_and_as_new(postgres: Postgres) -> None:
    with postgres.connect(autocommit=True) as connection:
        first = connection.info.backend_pid
        connection.execute("SET lock_timeout = 17")
        connection.execute("SET search_path = pg_catalog")
        connection.execute("SELECT pg_advisory_lock(17)")
        connection.execute("CREATE TEMPORARY TABLE remains (a int)")
        connection.execute("LISTEN remains")
    with postgres.connect() as connection:
        assert connection.info.backend_pid == first
        assert not connection.autocommit
        assert scalar(connection, "SELECT current_setting('lock_timeout')") == "0"
        assert "public" in scalar(connection, "SHOW search_path")
        assert scalar(connection, "SHOW application_name") == "rag-assets"
        assert scalar(connection, "SELECT to_regclass('pg_temp.remains') IS NULL")
        assert scalar(connection, "SELECT count(*) FROM pg_listening_channels()") == 0
        query = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = %s"
        assert scalar(connection, query, [first]) == 0


def test_sessions_in_use_are_never_shared_and_few_are_kept(postgres: Postgres) -> None:
    with postgres.connect() as one, postgres.connect() as two, postgres.connect() as three:
        pids = {session.info.backend_pid for session in (one, two, three)}
        assert len(pids) == 3
    assert [session.closed for session in (one, two, three)].count(False) == idle_sessions.KEPT


def test_work_is_committed_and_after_an_error_undone_and_the_session_ends(
    postgres: Postgres,
) -> None:
    with postgres.connect() as connection:
        connection.execute("CREATE TABLE test_idle (a int)")
    try:
        with pytest.raises(ZeroDivisionError), postgres.connect() as connection:
            connection.execute("INSERT INTO test_idle VALUES (1)")
            raise ZeroDivisionError
        assert connection.closed
        with postgres.connect() as connection:
            assert scalar(connection, "SELECT count(*) FROM test_idle") == 0
    finally:
        with postgres.connect() as connection:
            connection.execute("DROP TABLE test_idle")


def test_a_session_that_the_server_ended_is_replaced(postgres: Postgres, postgres_url: str) -> None:
    first = pid(postgres)
    with psycopg.connect(postgres_url) as other:
        other.execute("SELECT pg_terminate_backend(%s, 5000)", [first])
    assert pid(postgres) != first


def test_an_old_session_is_replaced(postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    first = pid(postgres)
    monkeypatch.setattr(idle_sessions, "SECONDS", 0.0)
    assert pid(postgres) != first


def test_a_forked_process_neither_uses_nor_ends_the_sessions_of_its_parent(
    postgres: Postgres,
) -> None:
    first = pid(postgres)
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=lambda: sender.send(pid(postgres)))
    process.start()
    assert receiver.recv() != first
    process.join(10)
    assert process.exitcode == 0
    assert pid(postgres) == first
