"""Table `users`, and the view `user_access`. The hash of a password leaves this module only to be verified."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from resources.postgres.connection import Connection
from resources.postgres.queries import fetch_all, fetch_first, scalar


class UserRow(NamedTuple):
    """A user as it is shown. `can_log_in`: it has a password and is verified."""

    id: uuid.UUID
    email: str
    username: str
    full_name: str | None
    avatar_url: str | None
    timezone: str
    role: str
    permissions: list[str]
    is_active: bool
    is_verified: bool
    has_password: bool
    locked_until: datetime | None
    last_login_at: datetime | None
    password_changed_at: datetime | None
    created_at: datetime
    updated_at: datetime


class UserAccess(NamedTuple):
    """What an active user may do and see, as names."""

    user_id: uuid.UUID
    username: str
    role: str
    permissions: list[str]
    version: int
    accounts: list[str]
    chat_bots: list[str]
    sources: list[str]


_SHOWN = """id, email, username, full_name, avatar_url, timezone, role, permissions, is_active, is_verified,
  password_hash IS NOT NULL AS has_password, locked_until, last_login_at, password_changed_at, created_at, updated_at"""


def access_of(connection: Connection, user_id: uuid.UUID) -> UserAccess | None:
    """Return the access of an active user."""
    return fetch_first(
        connection,
        UserAccess,
        """SELECT user_id, username, role, permissions, version, accounts, chat_bots, sources
           FROM user_access WHERE user_id = %s""",
        [user_id],
    )


def access_of_session(
    connection: Connection, user_id: uuid.UUID, version: int, session_id: uuid.UUID
) -> UserAccess | None:
    """Return the access of an active user in a live session, unless its rights have changed since this version."""
    return fetch_first(
        connection,
        UserAccess,
        """SELECT user_id, username, role, permissions, version, accounts, chat_bots, sources
           FROM user_access u WHERE user_id = %s AND version = %s AND EXISTS (
             SELECT FROM sessions s WHERE s.id = %s AND s.user_id = u.user_id
             AND s.revoked_at IS NULL AND s.expires_at > now())""",
        [user_id, version, session_id],
    )


def find_user(connection: Connection, user_id: uuid.UUID) -> UserRow | None:
    return fetch_first(connection, UserRow, f"SELECT {_SHOWN} FROM users WHERE id = %s", [user_id])


def find_user_by_name(connection: Connection, name: str) -> UserRow | None:
    """Return the user of an email address, in any case, or of a username."""
    # The address first: a username may look like another user's address.
    return fetch_first(
        connection,
        UserRow,
        f"""SELECT {_SHOWN} FROM users WHERE email = lower(%(name)s) OR username = %(name)s
            ORDER BY email <> lower(%(name)s) LIMIT 1""",
        {"name": name},
    )


def list_users(
    connection: Connection, *, limit: int | None = None, after: uuid.UUID | None = None
) -> list[UserRow]:
    """Return the users in the order of their ids. `after`: the id of the last one before them."""
    return fetch_all(
        connection,
        UserRow,
        f"""SELECT {_SHOWN} FROM users WHERE %(after)s::uuid IS NULL OR id > %(after)s
            ORDER BY id LIMIT %(limit)s""",
        {"after": after, "limit": limit},
    )


def lock_row(connection: Connection, user_id: uuid.UUID) -> UserRow | None:
    """Return the user and prevent its change until the transaction ends."""
    return fetch_first(
        connection,
        UserRow,
        f"SELECT {_SHOWN} FROM users WHERE id = %s FOR UPDATE",
        [user_id],
    )


def lock_super_admins(connection: Connection) -> None:
    """Let no other transaction that calls this run until this one ends."""
    connection.execute(
        "SELECT pg_advisory_xact_lock(hashtextextended('rag-assets super_admins', 0))"
    )


def other_super_admins(connection: Connection, user_id: uuid.UUID) -> int:
    """Return the number of active super_admins except this user."""
    return scalar(
        connection,
        "SELECT count(*) FROM users WHERE role = 'super_admin' AND is_active AND id <> %s",
        [user_id],
    )


class NewUser(NamedTuple):
    email: str
    username: str
    role: str
    permissions: Sequence[str] = ()
    full_name: str | None = None
    timezone: str | None = None
    password_hash: str | None = None
    is_verified: bool = False


def insert_user(connection: Connection, user: NewUser) -> UserRow | None:
    """Add a user. Returns None if the email address or the username is taken."""
    return fetch_first(
        connection,
        UserRow,
        f"""INSERT INTO users (email, username, role, permissions, full_name, timezone, password_hash, is_verified,
              password_changed_at)
            VALUES (%(email)s, %(username)s, %(role)s, %(permissions)s, %(full_name)s,
              coalesce(%(timezone)s, 'Asia/Tokyo'), %(password_hash)s::text, %(is_verified)s,
              CASE WHEN %(password_hash)s::text IS NOT NULL THEN now() END)
            ON CONFLICT DO NOTHING RETURNING {_SHOWN}""",
        user._replace(permissions=list(user.permissions))._asdict(),
    )


def set_role(connection: Connection, user_id: uuid.UUID, role: str) -> None:
    connection.execute("UPDATE users SET role = %s WHERE id = %s", [role, user_id])


def set_permissions(connection: Connection, user_id: uuid.UUID, permissions: Sequence[str]) -> None:
    connection.execute(
        "UPDATE users SET permissions = %s WHERE id = %s", [list(permissions), user_id]
    )


def set_active(connection: Connection, user_id: uuid.UUID, is_active: bool) -> None:
    connection.execute("UPDATE users SET is_active = %s WHERE id = %s", [is_active, user_id])


def delete_user(connection: Connection, user_id: uuid.UUID) -> None:
    """Delete a user with its keys, grants and sessions."""
    connection.execute("DELETE FROM users WHERE id = %s", [user_id])


def password_hash(connection: Connection, user_id: uuid.UUID) -> str | None:
    return scalar(connection, "SELECT password_hash FROM users WHERE id = %s", [user_id])


def set_password_hash(connection: Connection, user_id: uuid.UUID, hashed: str) -> None:
    """Set a new password, which verifies the user and forgets the wrong ones."""
    connection.execute(
        """UPDATE users SET password_hash = %s, password_changed_at = now(), is_verified = true,
             failed_login_attempts = 0, locked_until = NULL WHERE id = %s""",
        [hashed, user_id],
    )


def end_sessions(connection: Connection, user_id: uuid.UUID, because: str) -> int:
    """Revoke all sessions of a user. Returns their number."""
    return connection.execute(
        """UPDATE sessions SET revoked_at = now(), revoked_because = %s
           WHERE user_id = %s AND revoked_at IS NULL""",
        [because, user_id],
    ).rowcount
