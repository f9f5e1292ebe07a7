"""Errors of libraries and of the system that are no bugs, as errors of ours; and the file for those that are."""

from __future__ import annotations

import errno
import sys
import tempfile
import traceback
from datetime import UTC, datetime
from pathlib import Path

from resources.errors import ConfigError, RagError, StoreUnavailable
from resources.extras import missing_extra
from resources.urls import without_secrets

_FULL = (errno.ENOSPC, errno.EDQUOT)
_REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS)
#: Codes of PostgreSQL.
_DISK_FULL, _NO_PRIVILEGE, _READ_ONLY = "53100", "42501", "25006"


class InternalError(Exception):
    """A bug: an error that nobody expected. The message says where its traceback is."""


def as_rag_error(error: Exception) -> RagError | None:
    """Return the error as one sentence, if it can happen without a bug; else None."""
    if isinstance(error, ModuleNotFoundError):
        return missing_extra(error, "This command")
    if isinstance(error, OSError):
        return _of_system(error)
    original = _of_driver(error)
    if original is None:
        return None
    message = without_secrets(" ".join(str(original).split()))
    code = getattr(original, "sqlstate", None) or getattr(original, "pgcode", None)
    if code == _DISK_FULL:
        return StoreUnavailable(
            f"PostgreSQL's disk is full: {message}. Free some space and run the command again; "
            "committed work is kept."
        )
    if code == _NO_PRIVILEGE:
        # Without the statement below it.
        denied = message.partition(" LINE ")[0]
        return ConfigError(
            f"PostgreSQL denies this to the role in RAG_POSTGRES_URL: {denied}. The role needs CREATE on the database "
            "and on schema public, and owns the tables: GRANT CREATE ON DATABASE <database> TO <role>; "
            "GRANT USAGE, CREATE ON SCHEMA public TO <role>;"
        )
    if code == _READ_ONLY:
        return ConfigError(
            f"PostgreSQL accepts no changes: {message}. Expected the primary server and a role that may write: "
            "RAG_POSTGRES_URL names a replica, or default_transaction_read_only is on for the role or the database."
        )
    names = {kind.__name__ for kind in type(original).__mro__}
    if names & {"OperationalError", "InterfaceError"}:
        return StoreUnavailable(f"PostgreSQL went away: {message}. Committed work is kept.")
    return None


def _of_driver(error: BaseException) -> BaseException | None:
    """Return the error of PostgreSQL's driver that the error is, or that SQLAlchemy or Dagster wrapped in it."""
    package = type(error).__module__.partition(".")[0]
    if package in ("psycopg", "psycopg2"):
        return error
    if package not in ("sqlalchemy", "dagster", "dagster_postgres"):
        return None
    # SQLAlchemy keeps the driver's error in `orig`.
    inner = getattr(error, "orig", None) or error.__cause__
    return _of_driver(inner) if inner is not None else None


def _of_system(error: OSError) -> RagError | None:
    place = error.filename or "A file"
    if error.errno in _FULL:
        return StoreUnavailable(
            f"The disk is full: {place}: {error.strerror}. Free some space and run the command again; "
            "committed work is kept."
        )
    if error.errno in _REFUSED:
        return ConfigError(
            f"{place} cannot be read or written: {error.strerror}. Change its permissions, or set RAG_HOME to a folder "
            "that you may write to."
        )
    return None


def internal_error(error: Exception, home: Path) -> InternalError:
    """Write the traceback to a file and return the error that names the file."""
    text = "".join(traceback.format_exception(error))
    command = " ".join(Path(part).name if n == 0 else part for n, part in enumerate(sys.argv[:2]))
    lines = f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} {command}\n{text}\n"
    file = home / "logs" / "errors.log"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("a", encoding="utf-8") as log:
            log.write(lines)
    except OSError:
        # The home folder itself may be the problem.
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", prefix="rag-error-", suffix=".log", delete=False
        ) as log:
            log.write(lines)
        file = Path(log.name)
    reason = " ".join(str(error).split())[:300]
    return InternalError(
        f"unexpected {type(error).__name__}: {reason}. This is a bug. Its traceback is in {file}; "
        "please report it with the output of: rag --version"
    )
