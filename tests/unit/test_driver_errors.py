"""Errors of PostgreSQL's drivers: each reason names the setting, and only what may pass is tried again."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import psycopg2
import pytest
import sqlalchemy.exc

from rag_assets.cli.exit_codes import exit_code
from resources.driver_errors import connection_error, driver_error
from resources.errors import ConfigError, RagError, StoreUnavailable

URL = "postgresql://rag:hush@db.example.com/rag"
AT = 'connection failed: connection to server at "10.0.0.1", port 5432 failed: '


@pytest.mark.parametrize(
    ("reason", "advice"),
    [
        ('FATAL:  password authentication failed for user "rag"', "write % as %25"),
        ("fe_sendauth: no password supplied", "user or the password in RAG_POSTGRES_URL"),
        ('FATAL:  role "rag" does not exist', "user or the password in RAG_POSTGRES_URL"),
        ('FATAL:  Peer authentication failed for user "rag"', "user or the password"),
        ('FATAL:  database "rag" does not exist', "CREATE DATABASE"),
        ('FATAL:  permission denied for database "rag"', "GRANT CREATE ON DATABASE"),
        (
            'FATAL:  no pg_hba.conf entry for host "10.0.0.2", user "rag", database "rag", no encryption',
            "pg_hba.conf",
        ),
        ("server does not support SSL, but SSL was required", "?sslmode=disable"),
        ('invalid sslmode value: "maybe"', "?sslmode=require"),
        ('root certificate file "/nope" does not exist', "sslrootcert=FILE"),
        ("SSL error: certificate verify failed", "sslrootcert=FILE"),
        ("received invalid response to SSL negotiation: H", "host and port"),
        ('invalid integer value "port" for connection option "port"', "user:password@host:port"),
    ],
)
def test_a_connection_that_no_retry_can_make_names_what_to_change(reason: str, advice: str) -> None:
    error = connection_error(psycopg.OperationalError(AT + reason), URL)
    assert isinstance(error, ConfigError) and exit_code(error) == 2 and not error.transient
    assert advice in str(error) and "RAG_POSTGRES_URL" in str(error)
    # As SQLAlchemy and Dagster raise it.
    wrapped = sqlalchemy.exc.OperationalError("SELECT 1", {}, psycopg2.OperationalError(reason))
    assert isinstance(driver_error(wrapped), ConfigError)


@pytest.mark.parametrize(
    ("asks", "message", "kind"),
    [
        (True, "Passwort-Authentifizierung für Benutzer »rag« fehlgeschlagen", ConfigError),
        (True, 'データベース"rag"は存在しません', ConfigError),
        (False, "tut mir leid, schon zu viele Verbindungen", StoreUnavailable),
        (False, "データベースシステムは起動しています", StoreUnavailable),
        (True, "remaining connection slots are reserved for roles", StoreUnavailable),
        (True, "", StoreUnavailable),
    ],
)
def test_a_server_in_another_language_rejects_a_password(
    asks: bool, message: str, kind: type[RagError]
) -> None:
    with server_with_one_error(message, asks=asks) as url:
        with pytest.raises(psycopg.OperationalError) as caught:
            psycopg.connect(url, connect_timeout=5)
        error = connection_error(caught.value, url)
    assert type(error) is kind and message in str(error) and "hush" not in str(error)
    assert exit_code(error) == (2 if kind is ConfigError else 4)


@contextmanager
def server_with_one_error(message: str, *, asks: bool) -> Iterator[str]:
    """Yield the URL of a PostgreSQL that asks for a password if `asks`, and then sends the error, or closes without."""

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            while True:
                (length,) = struct.unpack("!I", connection.recv(4))
                startup = connection.recv(length - 4)
                # Requests for encryption have codes instead of a version.
                if startup[:2] != b"\x04\xd2":
                    break
                connection.sendall(b"N")
            if asks:
                connection.sendall(b"R" + struct.pack("!II", 8, 3))
                connection.recv(1024)
            fields = b"".join(k + v.encode() + b"\0" for k, v in ((b"S", "FATAL"), (b"M", message)))
            if message:
                connection.sendall(b"E" + struct.pack("!I", len(fields) + 5) + fields + b"\0")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"postgresql://rag:hush@127.0.0.1:{listener.getsockname()[1]}/rag"
        thread.join(5)


@pytest.mark.parametrize(
    "reason",
    [
        "Connection refused\n\tIs the server running on that host and accepting TCP/IP connections?",
        "FATAL:  the database system is starting up",
        "FATAL:  sorry, too many clients already",
        "failed to resolve host 'db': [Errno -3] Temporary failure in name resolution",
        "server closed the connection unexpectedly",
    ],
)
def test_a_server_that_may_come_back_is_tried_again(reason: str) -> None:
    error = connection_error(psycopg.OperationalError(AT + reason), URL)
    assert isinstance(error, StoreUnavailable) and exit_code(error) == 4 and error.transient
    assert "RAG_POSTGRES_URL" in str(error) and "\n" not in str(error)


@pytest.mark.parametrize("password", ["p@ss", "p@ss:w/rd", "pa/ss", "a@b@c"])
def test_a_password_that_is_not_encoded_is_named_without_any_part_of_it(password: str) -> None:
    url = f"postgresql://rag:{password}@db.example.com:5432/rag?application_name=a"
    # As psycopg takes the URL apart.
    raised = psycopg.OperationalError("failed to resolve host 'ss': Servname not supported")
    error = connection_error(raised, url)
    assert isinstance(error, ConfigError)
    assert "@ as %40, / as %2F" in str(error) and "'ss'" not in str(error)


def test_an_encoded_password_is_not_suspected() -> None:
    for url in (URL, "postgresql://rag:p%40ss@h/d?options=-c%20a@b", "host=h password=a@b"):
        error = connection_error(psycopg.OperationalError("failed to resolve host 'h'"), url)
        assert isinstance(error, StoreUnavailable), url


def test_a_statement_that_the_role_may_not_execute_names_the_grants() -> None:
    for raised in (
        psycopg.errors.InsufficientPrivilege("permission denied for table t\nLINE 1: SELECT x"),
        psycopg.errors.InvalidSchemaName(
            "no schema has been selected to create in\nLINE 2: CREATE"
        ),
    ):
        for error in (
            driver_error(raised),
            driver_error(sqlalchemy.exc.DBAPIError("x", {}, raised)),
        ):
            assert isinstance(error, ConfigError) and exit_code(error) == 2
            assert "GRANT USAGE, CREATE ON SCHEMA public" in str(error) and "LINE" not in str(error)


def test_a_bug_in_a_statement_stays_one() -> None:
    assert driver_error(psycopg.errors.UndefinedTable("no table")) is None
    assert driver_error(ValueError("x")) is None
    itself = sqlalchemy.exc.SQLAlchemyError("x")
    itself.__cause__ = itself
    assert driver_error(itself) is None
