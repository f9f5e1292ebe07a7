"""Errors of PostgreSQL's drivers as errors of ours: the reason, the setting that is wrong, and the remedy.

What only the user can fix (a password, a right, a database) is a ConfigError, so that nothing tries it again.
Commands and the steps of Dagster's runs share them: the same fault has the same sentence and exit code in both.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from resources.errors import ConfigError, RagError, StoreUnavailable
from resources.urls import without_secrets

#: How to write a password in a URL; part of several messages.
ENCODING = "in a password, write % as %25, @ as %40, / as %2F, : as %3A, ? as %3F and # as %23"

_CREDENTIALS = (
    "PostgreSQL does not accept the user or the password in RAG_POSTGRES_URL: {reason}. Correct them there; "
    f"{ENCODING}."
)
_REJECTED = (
    "PostgreSQL rejects the user, the password or the database in RAG_POSTGRES_URL: {reason}. Correct them there; "
    f"{ENCODING}."
)
_RIGHTS = (
    "PostgreSQL denies this to the role in RAG_POSTGRES_URL: {reason}. The role needs CREATE on the database and on "
    "schema public, and owns the tables: GRANT CREATE ON DATABASE <database> TO <role>; GRANT USAGE, CREATE ON SCHEMA "
    "public TO <role>;"
)
_DATABASE = (
    "The database in RAG_POSTGRES_URL cannot be used: {reason}. Create it (CREATE DATABASE <database>) or name another "
    "one: postgresql://user:password@host:port/database."
)
_READ_ONLY = (
    "PostgreSQL accepts no changes: {reason}. Expected the primary server and a role that may write: RAG_POSTGRES_URL "
    "names a replica, or default_transaction_read_only is on for the role or the database."
)
_ENTRY = (
    "PostgreSQL accepts no such connection from this machine: {reason}. Let an entry of its pg_hba.conf allow it, or "
    "change the user, the database or sslmode in RAG_POSTGRES_URL."
)
_ENCRYPTION = (
    "PostgreSQL and RAG_POSTGRES_URL do not use the same encryption: {reason}. Change sslmode in the URL: "
    "?sslmode=disable for a server without TLS, ?sslmode=require for one with it."
)
_CERTIFICATE = (
    "The certificate of PostgreSQL cannot be verified: {reason}. Name the file of its authority in RAG_POSTGRES_URL "
    "(?sslmode=verify-full&sslrootcert=FILE) and the host by the certificate's name."
)
_PROTOCOL = "The port in RAG_POSTGRES_URL does not speak PostgreSQL's protocol: {reason}. Check its host and port."
_FORBIDDEN = (
    "PostgreSQL refused the change: {reason}. A constraint or a trigger that was added to the database forbids it: "
    "drop it, or change what it forbids."
)
_URL = (
    "RAG_POSTGRES_URL cannot be used: {reason}. Expected postgresql://user:password@host:port/database; "
    f"{ENCODING}."
)

#: Code of PostgreSQL (SQLSTATE) -> the message. Drivers know it for errors of statements.
_BY_CODE: dict[str, str] = {
    "28P01": _CREDENTIALS,
    "28000": _CREDENTIALS,
    "3D000": _DATABASE,
    "42501": _RIGHTS,
    # No schema of search_path can be used: the role has no USAGE on it.
    "3F000": _RIGHTS,
    "25006": _READ_ONLY,
    # A check, an exclusion, RAISE EXCEPTION. The tables have no such constraint that a document could break.
    "23514": _FORBIDDEN,
    "23P01": _FORBIDDEN,
    "P0001": _FORBIDDEN,
}
_DISK_FULL = "53100"

#: libpq reports no code for a connection that failed, only text, in the language of the server. In other languages than
#: English, an error that the server sent after it had asked for the password is one of the user, the password or the
#: database: it refuses before that while it starts, stops or is full. These English ones may come after it, too:
_MAY_PASS = re.compile("too many|connection slots|starting up|shutting down|recovery|not yet", re.I)
_STARTING = re.compile("is starting up|in recovery mode|not yet accepting connections", re.I)
#: An error of the server, behind its severity in any language, and not one of libpq.
_OF_SERVER = re.compile(r"failed: [^\s:]+: {2}")
_BY_TEXT: Sequence[tuple[re.Pattern[str], str]] = tuple(
    (re.compile(pattern, re.IGNORECASE), message)
    for pattern, message in (
        ("certificate verify failed|root certificate|does not match host name", _CERTIFICATE),
        (r"no pg_hba\.conf entry|pg_hba\.conf rejects", _ENTRY),
        ("server does not support SSL|SSL error|SSL is not enabled|sslmode", _ENCRYPTION),
        ("authentication failed|no password supplied", _CREDENTIALS),
        ('role ".*" does not exist|is not permitted to log in', _CREDENTIALS),
        ("permission denied for", _RIGHTS),
        ('database ".*" does not exist|is not currently accepting connections', _DATABASE),
        ("received invalid response to", _PROTOCOL),
        ("invalid (integer value|port number|connection option|URI|percent)|Servname", _URL),
    )
)


def is_starting(error: Exception) -> bool:
    """Return whether a server that was reached begins to serve soon: libpq tells it by text only, here in English."""
    return bool(_STARTING.search(str(error)))


def is_closed_at_once(error: Exception) -> bool:
    """Return whether the server accepted the connection and closed it: it ends all of them before it recovers."""
    return "server closed the connection unexpectedly" in str(error)


def connection_error(error: Exception, url: str) -> RagError:
    """Return the error of a connection that could not be made. Waiting may help unless it is a ConfigError."""
    if _has_unencoded_password(url) and not re.search("FATAL|server at", str(error)):
        # Without libpq's reason: it takes a part of the password for the host, and quotes it.
        return ConfigError(
            "RAG_POSTGRES_URL names no host that can be reached, and its password seems to contain @ or / as they are. "
            f"Expected postgresql://user:password@host:port/database; {ENCODING}."
        )
    if type(error).__name__ == "ProgrammingError":
        # Without libpq's reason: it quotes the URL, which may contain a password.
        return ConfigError(
            "The URL of PostgreSQL cannot be read; expected RAG_POSTGRES_URL=postgresql://user:password@host:port/"
            f"database; {ENCODING}."
        )
    reason = without_secrets(_sentence(str(error)).replace(url, without_secrets(url)))
    if getattr(getattr(error, "pgconn", None), "needs_password", False):
        return ConfigError(_CREDENTIALS.format(reason=f"it asks for a password ({reason})"))
    if (known := _by_text(reason)) is not None:
        return known
    asked = getattr(getattr(error, "pgconn", None), "used_password", False)
    if asked and _OF_SERVER.search(str(error)) and not _MAY_PASS.search(reason):
        return ConfigError(_REJECTED.format(reason=reason))
    return StoreUnavailable(
        f"PostgreSQL does not answer: {reason}. Check that it runs, and RAG_POSTGRES_URL if it is your own."
    )


def driver_error(error: BaseException) -> RagError | None:
    """Return the error of a statement, also one that SQLAlchemy or Dagster wrapped. None if it can only be a bug."""
    original = _of_driver(error)
    if original is None:
        return None
    # Without the statement that the server quotes below its message.
    reason = without_secrets(_sentence(str(original).partition("\nLINE ")[0]))
    code = getattr(original, "sqlstate", None) or getattr(original, "pgcode", None)
    if code == _DISK_FULL:
        return StoreUnavailable(
            f"PostgreSQL's disk is full: {reason}. Free some space and run the command again; "
            "committed work is kept."
        )
    if code in _BY_CODE:
        return ConfigError(_BY_CODE[code].format(reason=reason))
    names = {kind.__name__ for kind in type(original).__mro__}
    if not names & {"OperationalError", "InterfaceError"}:
        return None
    # Without a code, it may be a connection that SQLAlchemy or a pool could not make.
    known = _by_text(reason) if code is None else None
    return known or StoreUnavailable(f"PostgreSQL went away: {reason}. Committed work is kept.")


@contextmanager
def driver_errors() -> Iterator[None]:
    """Raise the errors of PostgreSQL's driver in the block as errors of ours, where they can happen without a bug."""
    try:
        yield
    except RagError:
        raise
    except Exception as error:
        # Broad, since the errors of drivers have no common base class.
        if (known := driver_error(error)) is None:
            raise
        raise known from error


def _by_text(reason: str) -> RagError | None:
    messages = (message for pattern, message in _BY_TEXT if pattern.search(reason))
    message = next(messages, None)
    return ConfigError(message.format(reason=reason)) if message else None


def _of_driver(error: BaseException) -> BaseException | None:
    """Return the error of PostgreSQL's driver that the error is, or that SQLAlchemy or Dagster wrapped in it."""
    package = type(error).__module__.partition(".")[0]
    if package in ("psycopg", "psycopg2"):
        return error
    if package not in ("sqlalchemy", "dagster", "dagster_postgres"):
        return None
    # SQLAlchemy keeps the driver's error in `orig`.
    inner = getattr(error, "orig", None) or error.__cause__
    return _of_driver(inner) if inner is not None and inner is not error else None


def _sentence(text: str) -> str:
    """Return the text in one line, without its last point or question mark and without an empty prefix."""
    return " ".join(text.split()).removeprefix("connection failed: ").rstrip(".?")


def _has_unencoded_password(url: str) -> bool:
    """Return whether libpq takes a part of the password for the host."""
    without_query = re.sub(r"\?\w+=.*$", "", url)
    match = re.match(r"\w+://[^:@/]*:(.*)@[^@]*$", without_query)
    return match is not None and bool(re.search("[@/]", match[1]))
