"""The audit on a real PostgreSQL: one chain of many appenders, that the database refuses to change."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import psycopg
import pytest

from rag_assets.identity import audit_log
from rag_assets.identity.audit_anchors import Anchors, read_anchors
from rag_assets.identity.audit_log import NOTE_SECONDS, AuditLog
from rag_assets.identity.audit_verification import export_lines, verify_database, verify_file
from rag_assets.pipeline.audit_chain import ChainHead, chained, record_texts, time_text
from rag_assets.pipeline.audit_record import AuditRecord
from rag_assets.pipeline.audit_verification import VerificationResult
from resources.errors import ConfigError, Overloaded, StoreUnavailable
from resources.postgres.connection import Connection, Postgres
from resources.postgres.identity.audit_chain import append, chain_head
from resources.postgres.identity.audit_months import drop_months_before
from resources.postgres.identity.audit_queries import (
    EVERYTHING,
    AuditFilters,
    AuditReader,
    list_records,
)
from resources.postgres.schema import migrate
from tests.support.service import awaited

#: Filters that choose everything.
ANY = AuditFilters()


@pytest.fixture(scope="module")
def module_url(postgres_url: str) -> Iterator[str]:
    """A database of this module: its audit is emptied, which the audit of the others would show."""
    name = f"audit_{uuid.uuid4().hex}"
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")  # pyright: ignore[reportArgumentType, reportCallIssue]
        url = postgres_url.replace("/rag?", f"/{name}?")
        migrate(url)
        yield url
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")  # pyright: ignore[reportArgumentType, reportCallIssue]


@pytest.fixture
def url(module_url: str) -> str:
    with psycopg.connect(module_url, autocommit=True) as connection:
        # As only a superuser can.
        connection.execute("SET session_replication_role = replica")
        connection.execute("TRUNCATE audit_records")
    return module_url


@pytest.fixture
def chain(url: str) -> Iterator[Connection]:
    """A session of a superuser, in autocommit mode."""
    with Postgres(url).connect(autocommit=True) as connection:
        yield connection


@pytest.fixture
def anchors(tmp_path: Path) -> Anchors:
    return Anchors(tmp_path / "anchors.jsonl", seconds=0.1)


def record(action: str = "user.create", **fields: object) -> AuditRecord:
    return AuditRecord(action, "allowed", "owner", details=fields)


def appended(connection: Connection, *records: AuditRecord) -> ChainHead:
    with connection.transaction():
        return append(connection, records or [record()])


def verified(url: str, anchors: Sequence[ChainHead] = ()) -> VerificationResult:
    return verify_database(partial(Postgres(url).connect, autocommit=True), anchors)


def test_concurrent_appenders_make_one_chain(url: str) -> None:
    def appends(number: int) -> None:
        with Postgres(url).connect(autocommit=True) as connection:
            for n in range(10):
                appended(connection, *[record(appender=number)] * (n % 3 + 1))

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(appends, range(8)))
    result = verified(url)
    assert result.verified and result.records == result.head.sequence == 8 * 19


def test_a_rolled_back_or_killed_transaction_leaves_no_gap(url: str, chain: Connection) -> None:
    appended(chain)
    with closing(psycopg.connect(url)) as dying:
        append(dying, [record()] * 5)
        chain.execute("SELECT pg_terminate_backend(%s)", [dying.info.backend_pid])
        assert appended(chain).sequence == 2
    with pytest.raises(RuntimeError), chain.transaction():
        append(chain, [record()])
        raise RuntimeError
    assert appended(chain).sequence == 3
    assert verified(url).verified
    # A lock that ends with its statement, or a snapshot from before the lock, would fork the chain.
    with pytest.raises(RuntimeError, match="expected a transaction"):
        append(chain, [record()])
    with psycopg.connect(url) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        with pytest.raises(psycopg.errors.RaiseException, match="repeatable read"):
            append(connection, [record()])


def test_no_role_changes_a_record(chain: Connection, url: str) -> None:
    appended(chain)
    month = f"audit_records_{datetime.now(UTC):%Y_%m}"
    role = f"audit_{uuid.uuid4().hex}"
    chain.execute(f"CREATE ROLE {role}")  # pyright: ignore[reportArgumentType, reportCallIssue]
    try:
        chain.execute(f"GRANT ALL ON audit_records, {month} TO {role}")  # pyright: ignore[reportArgumentType, reportCallIssue]
        for who in ("postgres", role):
            chain.execute(f"SET ROLE {who}")  # pyright: ignore[reportArgumentType, reportCallIssue]
            for table in ("audit_records", month):
                for statement in (
                    "UPDATE {} SET outcome = 'denied'", "UPDATE {} SET outcome = 'denied' WHERE false",
                    "DELETE FROM {}", "TRUNCATE {}",
                ):  # fmt: skip
                    with pytest.raises(psycopg.errors.InsufficientPrivilege):
                        chain.execute(statement.format(table))  # pyright: ignore[reportArgumentType, reportCallIssue]
            # Such a role may append, also in a month that it may not make itself.
            chain.execute("RESET ROLE")
            chain.execute(f"DROP TABLE {month}")  # pyright: ignore[reportArgumentType, reportCallIssue]
            chain.execute(f"SET ROLE {who}")  # pyright: ignore[reportArgumentType, reportCallIssue]
            appended(chain)
            chain.execute("RESET ROLE")
            chain.execute(f"GRANT ALL ON {month} TO {role}")  # pyright: ignore[reportArgumentType, reportCallIssue]
    finally:
        chain.execute("RESET ROLE")
        chain.execute(f"DROP OWNED BY {role}")  # pyright: ignore[reportArgumentType, reportCallIssue]
        chain.execute(f"DROP ROLE {role}")  # pyright: ignore[reportArgumentType, reportCallIssue]


@pytest.mark.parametrize(
    ("statement", "problem"),
    [
        ("UPDATE audit_records SET principal = 'user:2' WHERE sequence = 3", ("edited", 3)),
        ("""UPDATE audit_records SET details = '{"n": 1}' WHERE sequence = 3""", ("edited", 3)),
        ("UPDATE audit_records SET occurred_at = 'infinity' WHERE sequence = 3", ("edited", 3)),
        ("UPDATE audit_records SET recorded_at = recorded_at + interval '1 month' WHERE sequence = 3", ("edited", 3)),
        ("UPDATE audit_records SET row_hash = sha256('') WHERE sequence = 3", ("edited", 3)),
        ("DELETE FROM audit_records WHERE sequence BETWEEN 3 AND 5", ("removed", 3)),
        ("DELETE FROM audit_records WHERE sequence = 1", ("removed", 1)),
        ("UPDATE audit_records SET sequence = sequence + 100 WHERE sequence = 3", ("removed", 3)),
        (
            """INSERT INTO audit_records
               SELECT sequence, recorded_at + interval '1 month', occurred_at, action, outcome, 'user:2', target,
                 request_id, address, details, prev_hash, row_hash
               FROM audit_records WHERE sequence = 3""",
            ("inserted", 3),
        ),
    ],
)  # fmt: skip
def test_what_a_superuser_changes_is_named(
    chain: Connection, url: str, statement: str, problem: tuple[str, int]
) -> None:
    head = appended(chain, *[record()] * 9)
    with chain.transaction(force_rollback=True):
        chain.execute("SET LOCAL session_replication_role = replica")
        assert chain.execute(statement).rowcount  # pyright: ignore[reportArgumentType, reportCallIssue]

        @contextmanager
        def here() -> Iterator[Connection]:
            yield chain

        first = verify_database(here, [head]).problems[0]
    assert (first.kind, first.first) == problem
    assert verified(url, [head]).verified


# Months ---------------------------------------------------------------------------------------------------------------


def test_old_months_are_dropped_and_the_rest_verifies(
    chain: Connection, url: str, tmp_path: Path
) -> None:
    now = datetime.now(UTC).replace(day=1)
    months = [(now - timedelta(days=days)).replace(day=9) for days in (40, 20)]
    head = chain_head(chain)
    for month in months:
        chain.execute("SELECT create_audit_month(%s)", [month])
        for row in chained(head, time_text(month), [record_texts(record())] * 3):
            chain.execute(
                "INSERT INTO audit_records VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)", row
            )  # fmt: skip
            head = row.head
    assert appended(chain).sequence == 7
    present = chain.execute("SELECT max(recorded_at) FROM audit_records").fetchone()
    assert present and present[0] >= now
    with pytest.raises(ConfigError, match="has begun"):
        drop_months_before(chain, datetime.now(UTC) + timedelta(days=40), "owner")

    with chain.transaction():
        dry = drop_months_before(chain, months[1], "owner", dry_run=True)
    with chain.transaction():
        dropped = drop_months_before(chain, months[1], "owner")
    assert dry == dropped and dropped is not None
    assert dropped.months == [f"{months[0]:%Y-%m}"] and dropped.last.sequence == 3
    result = verified(url)
    assert result.verified and (result.first, result.records) == (4, 5)
    assert result.dropped and (result.dropped.through, result.dropped.sealed_by) == (3, 8)

    # So does an export, elsewhere. A line that is lost or edited is named.
    export = tmp_path / "audit.jsonl"
    lines = list(export_lines(partial(Postgres(url).connect, autocommit=True)))
    export.write_bytes(b"".join(lines))
    assert verify_file(export, [result.head, ChainHead(99, bytes(32))]).verified
    for kept, kind in (
        (lines[:2] + lines[3:], "removed"),
        (lines[:-1], "removed"),
        (lines[:-2] + lines[-1:], "removed"),
        ([line.replace(b'"user.create"', b'"user.edit"') for line in lines], "edited"),
    ):
        export.write_bytes(b"".join(kept))
        assert verify_file(export, []).problems[0].kind == kind
    export.write_bytes(b"{}\n")
    with pytest.raises(ConfigError, match="line 1: expected the lines of an export"):
        verify_file(export, [])


def test_a_clock_that_is_set_back_makes_no_earlier_record(chain: Connection, url: str) -> None:
    later = datetime.now(UTC) + timedelta(days=40)
    chain.execute("SELECT create_audit_month(%s)", [later])
    (row,) = chained(chain_head(chain), time_text(later), [record_texts(record())])
    chain.execute("INSERT INTO audit_records VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)", row)  # fmt: skip
    appended(chain)
    times = chain.execute("SELECT recorded_at FROM audit_records ORDER BY sequence").fetchall()
    assert times[0] == times[1] and verified(url).verified


# The log of a process -------------------------------------------------------------------------------------------------


@contextmanager
def opened(url: str, anchors: Anchors, **options: int) -> Iterator[AuditLog]:
    log = AuditLog(url, anchors, **options)
    try:
        yield log
    finally:
        log.close()


def actions(chain: Connection) -> list[str]:
    return [row[0] for row in chain.execute("SELECT action FROM audit_records ORDER BY sequence")]


def test_a_write_is_durable_and_a_note_follows(
    chain: Connection, url: str, anchors: Anchors
) -> None:
    with opened(url, anchors) as log:
        assert log.write(record("auth.login")) == chain_head(chain)
        # It wakes up after a fraction of a second; how long the write takes then is up to the machine.
        assert NOTE_SECONDS < 1
        log.note(record("search"))
        awaited(lambda: actions(chain) == ["auth.login", "search"])
        # Changes that others append in their transactions are anchored too.
        head = appended(chain, record("key.create"))
        awaited(lambda: head in list(read_anchors(anchors.file)))
        log.note(record("search"))
    assert actions(chain)[3:] == ["search"]
    found = list(read_anchors(anchors.file))
    assert found[-1] == chain_head(chain)
    assert verified(url, found).verified
    assert anchors.file.stat().st_mode & 0o777 == 0o600
    with pytest.raises(StoreUnavailable, match="stopping"):
        log.note(record("search"))


def test_searches_are_refused_before_a_record_would_be_dropped(
    chain: Connection, url: str, anchors: Anchors
) -> None:
    with opened(url, anchors, waiting=3) as log:
        with chain.transaction():
            appended(chain, record("held"))
            for n in range(3):
                log.note(record(f"search{n}"))
            with pytest.raises(Overloaded) as refused:
                log.note(record("search3"))
            assert refused.value.retry_after > 0

        def accepted() -> bool:
            with suppress(Overloaded):
                log.note(record("search4"))
                return True
            return False

        awaited(accepted)
    assert actions(chain) == ["held", "search0", "search1", "search2", "search4"]


def test_while_postgresql_is_away_writes_fail_and_notes_wait(
    chain: Connection,
    url: str,
    postgres_url: str,
    anchors: Anchors,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(audit_log, "CONNECTION_SECONDS", 0.2)
    monkeypatch.setattr(audit_log, "RETRY_SECONDS", 0.05)
    monkeypatch.setattr(audit_log, "CLOSING_SECONDS", 0.1)
    name = chain.info.dbname

    def allow(connections: bool) -> None:
        with psycopg.connect(postgres_url, autocommit=True) as connection:
            connection.execute(f"ALTER DATABASE {name} WITH ALLOW_CONNECTIONS {connections}")  # pyright: ignore[reportArgumentType, reportCallIssue]
            if not connections:
                connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND pid <> %s",
                    [name, chain.info.backend_pid],
                )

    try:
        with opened(url, anchors) as log:
            log.write(record("before"))
            allow(False)
            with pytest.raises(StoreUnavailable, match="not acknowledged") as caught:
                log.write(record("lost"))
            assert name not in str(caught.value)
            log.note(record("search"))
            allow(True)
            awaited(lambda: actions(chain) == ["before", "search"])
            allow(False)
            log.note(record("unwritten"))
    finally:
        allow(True)
    # Not even at the end is a record dropped silently.
    assert '"action": "unwritten"' in caplog.text
    assert actions(chain) == ["before", "search"]


def test_an_anchor_is_posted_until_it_is_received(
    chain: Connection, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("rag_assets.identity.audit_anchors.RETRY_SECONDS", 0.02)
    bodies: list[bytes] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(204 if len(bodies) > 1 else 503)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    head = appended(chain)
    server = HTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    # A file that cannot be written stops nothing.
    posting = Anchors(tmp_path, f"http://127.0.0.1:{server.server_port}/", 0.1)
    posting.write(head)
    awaited(lambda: len(bodies) == 2)
    posting.close()
    server.shutdown()
    server.server_close()
    for body in bodies:
        values = json.loads(body)
        assert (values["sequence"], values["hash"]) == (1, head.hash.hex())


# Reads ----------------------------------------------------------------------------------------------------------------


def test_readers_see_their_own_records_and_those_of_users_within_their_accounts(
    chain: Connection,
) -> None:
    with chain.transaction(force_rollback=True):
        accounts = {
            name: chain.execute("INSERT INTO accounts (name) VALUES (%s) RETURNING id", [name]).fetchone()
            for name in ("a", "b")
        }  # fmt: skip
        ids: dict[str, uuid.UUID] = {}
        for user, role, granted in (
            ("reader", "admin", "a"), ("inside", "editor", "a"), ("outside", "editor", "b"),
            ("both", "editor", "ab"), ("none", "viewer", ""), ("super", "super_admin", "a"),
        ):  # fmt: skip
            row = chain.execute(
                "INSERT INTO users (email, username, role) VALUES (%s, %s, %s) RETURNING id",
                [f"{user}@x.example", user, role],
            ).fetchone()
            assert row
            ids[user] = row[0]
            for account in granted:
                chain.execute(
                    "INSERT INTO access_grants (user_id, account_id) VALUES (%s, %s)",
                    [row[0], *(accounts[account] or ())],
                )
        chain.execute(
            """INSERT INTO api_keys (user_id, key_hash, key_prefix, name, permissions)
               VALUES (%s, 'h', 'rag_api_INSIDEKEY123', 'n', '{}')""",
            [ids["inside"]],
        )
        append(
            chain,
            [
                *(AuditRecord(f"by.{user}", "allowed", f"user:{id}") for user, id in ids.items()),
                AuditRecord("by.key", "denied", "key:INSIDEKEY123"),
                AuditRecord("on.inside", "allowed", "owner", f"user:{ids['inside']}"),
                AuditRecord("on.outside", "allowed", "owner", f"user:{ids['outside']}"),
            ],
        )

        def seen(reader: AuditReader, filters: AuditFilters = ANY) -> list[str]:
            rows = list_records(chain, reader, filters, limit=100)
            return [row.action for row in rows]

        scoped = AuditReader(ids["reader"], frozenset({"a"}))
        assert seen(scoped) == ["on.inside", "by.key", "by.inside", "by.reader"]
        assert seen(scoped, AuditFilters(principal=f"user:{ids['outside']}")) == []
        assert seen(AuditReader(ids["none"], frozenset())) == ["by.none"]
        assert len(seen(EVERYTHING)) == 9
        # Filters and pages.
        assert seen(EVERYTHING, AuditFilters(action="on")) == ["on.outside", "on.inside"]
        assert seen(EVERYTHING, AuditFilters(action="by.key", outcome="denied")) == ["by.key"]
        assert seen(EVERYTHING, AuditFilters(target=f"user:{ids['inside']}")) == ["on.inside"]
        page = list_records(chain, EVERYTHING, AuditFilters(), before=3, limit=1)
        assert [row.action for row in page] == ["by.inside"]
        now = datetime.now(UTC)
        for filters, count in (
            (AuditFilters(since=now - timedelta(hours=1)), 9),
            (AuditFilters(until=now - timedelta(hours=1)), 0),
        ):
            assert len(list_records(chain, EVERYTHING, filters, limit=100)) == count
