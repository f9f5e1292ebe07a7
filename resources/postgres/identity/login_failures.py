"""Counts of attempts to log in, by account, by network and by the name of no user. They set the delay of the next one.

An attempt is counted, and the next one delayed, in one statement before the password is verified: of many attempts at
the same time only the free ones are admitted.
"""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import NamedTuple

from resources.postgres.connection import Connection
from resources.postgres.queries import fetch_first, scalar

#: After this time without an attempt the earlier ones are forgotten.
FORGOTTEN = timedelta(hours=6)


class Account(NamedTuple):
    """A user who may log in, or may not. `is_known_there`: it has logged in from the same network lately."""

    id: uuid.UUID
    version: int
    password_hash: str | None
    may_log_in: bool
    is_known_there: bool


# Of IPv6 a customer has a /64 at least.
_ACCOUNT = """SELECT id, version, password_hash, is_active AND is_verified AS may_log_in, EXISTS (
    SELECT FROM sessions s WHERE s.user_id = u.id AND family(s.address) = family(%(address)s::inet)
    AND network(set_masklen(s.address, CASE family(s.address) WHEN 4 THEN 32 ELSE 64 END))
      = network(set_masklen(%(address)s::inet, CASE family(%(address)s::inet) WHEN 4 THEN 32 ELSE 64 END))
  ) AS is_known_there FROM users u WHERE """


def find_account(connection: Connection, name: str, address: str | None) -> Account | None:
    """Return the user of an email address, in any case, or of a username."""
    return fetch_first(
        connection,
        Account,
        _ACCOUNT
        + """email = lower(%(name)s) OR username = %(name)s ORDER BY email <> lower(%(name)s) LIMIT 1""",
        {"name": name, "address": address},
    )


def account_of(connection: Connection, user_id: uuid.UUID, address: str | None) -> Account | None:
    return fetch_first(
        connection, Account, _ACCOUNT + "id = %(id)s", {"id": user_id, "address": address}
    )


def count_for_account(connection: Connection, user_id: uuid.UUID, free: int) -> float:
    """Count an attempt for an account. Returns 0, or the seconds until one is admitted; then it is not counted."""
    # A concurrent attempt waits for this row, and then looks at it again.
    admitted = connection.execute(
        """UPDATE users SET
             failed_login_attempts = rag_login_attempts(failed_login_attempts, locked_until, %(forgotten)s),
             locked_until = clock_timestamp() + rag_login_delay(
               rag_login_attempts(failed_login_attempts, locked_until, %(forgotten)s), %(free)s)
           WHERE id = %(id)s AND (locked_until IS NULL OR locked_until <= clock_timestamp())""",
        {"id": user_id, "free": free, "forgotten": FORGOTTEN},
    ).rowcount
    if admitted:
        return 0.0
    left = scalar(
        connection,
        "SELECT extract(epoch FROM locked_until - clock_timestamp())::float8 FROM users WHERE id = %s",
        [user_id],
    )
    return max(left or 0.0, 1.0)


def count_for_subject(connection: Connection, subject: str, free: int) -> float:
    """Count an attempt for a network or a name. Returns as `count_for_account` does."""
    admitted = connection.execute(
        """INSERT INTO login_failures AS f (subject, failures, last_failure_at, blocked_until)
           VALUES (%(subject)s, 1, clock_timestamp(), clock_timestamp() + rag_login_delay(1, %(free)s))
           ON CONFLICT (subject) DO UPDATE SET last_failure_at = clock_timestamp(),
             failures = rag_login_attempts(f.failures, f.last_failure_at, %(forgotten)s),
             blocked_until = clock_timestamp() + rag_login_delay(
               rag_login_attempts(f.failures, f.last_failure_at, %(forgotten)s), %(free)s)
           WHERE f.blocked_until <= clock_timestamp()""",
        {"subject": subject, "free": free, "forgotten": FORGOTTEN},
    ).rowcount
    if admitted:
        return 0.0
    left = scalar(
        connection,
        """SELECT extract(epoch FROM blocked_until - clock_timestamp())::float8 FROM login_failures
           WHERE subject = %s""",
        [subject],
    )
    return max(left or 0.0, 1.0)


def uncount_for_account(connection: Connection, user_id: uuid.UUID) -> None:
    """Take back an attempt whose password was not verified."""
    connection.execute(
        """UPDATE users SET failed_login_attempts = greatest(failed_login_attempts - 1, 0),
             locked_until = clock_timestamp() WHERE id = %s""",
        [user_id],
    )


def uncount_for_subject(connection: Connection, subject: str) -> None:
    """Take back an attempt that was right or not verified. The earlier ones stay: it may be the guesser's account."""
    connection.execute(
        """UPDATE login_failures SET failures = greatest(failures - 1, 0), blocked_until = clock_timestamp()
           WHERE subject = %s""",
        [subject],
    )


def record_login(
    connection: Connection,
    user_id: uuid.UUID,
    version: int,
    new_hash: str | None,
    *,
    ends_delay: bool,
) -> int | None:
    """Record a right password, and store its hash with raised parameters. `ends_delay`: forget the wrong ones.

    Returns the user's version, or None if the user has changed since this version.
    """
    return scalar(
        connection,
        """UPDATE users SET last_login_at = now(), password_hash = coalesce(%(hash)s, password_hash),
             failed_login_attempts = CASE WHEN %(ends_delay)s THEN 0 ELSE failed_login_attempts END,
             locked_until = CASE WHEN NOT %(ends_delay)s THEN locked_until END
           WHERE id = %(id)s AND version = %(version)s AND is_active AND is_verified RETURNING version""",
        {"id": user_id, "version": version, "hash": new_hash, "ends_delay": ends_delay},
    )


def forget_old(connection: Connection, limit: int) -> int:
    """Delete some of the counts that are forgotten. Returns their number."""
    return connection.execute(
        """DELETE FROM login_failures WHERE subject IN (
             SELECT subject FROM login_failures WHERE last_failure_at < clock_timestamp() - %s
             ORDER BY last_failure_at LIMIT %s FOR UPDATE SKIP LOCKED)""",
        [FORGOTTEN, limit],
    ).rowcount
