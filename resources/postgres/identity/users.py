"""Table `users`, and the view `user_access`. The hash of a password leaves this module only to be verified."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import NamedTuple

from resources.postgres.connection import Connection
from resources.postgres.queries import fetch_all, fetch_first, scalar


class UserRow(NamedTuple):
    """A user as it is shown. `sources`: those granted by name."""

    id: uuid.UUID
    email: str
    username: str
    full_name: str | None
    timezone: str
    role: str
    permissions: list[str]
    accounts: list[str]
    chat_bots: list[str]
    sources: list[str]
    is_active: bool
    is_verified: bool
    has_password: bool
    locked_until: datetime | None
    last_login_at: datetime | None
    password_changed_at: datetime | None
    created_at: datetime
    updated_at: datetime


class UserAccess(NamedTuple):
    """What an active user may do and see. `sources`: those granted by name and those of the accounts."""

    user_id: uuid.UUID
    username: str
    role: str
    permissions: list[str]
    version: int
    accounts: list[str]
    chat_bots: list[str]
    sources: list[str]


class NewUser(NamedTuple):
    email: str
    username: str
    role: str
    permissions: Sequence[str] = ()
    full_name: str | None = None
    timezone: str = "Asia/Tokyo"
    password_hash: str | None = None
    is_verified: bool = False


@dataclass(frozen=True)
class Reach:
    """The users that someone may know of: those whose role, permissions and grants are within these. None: no limit.

    With a limit on grants, a user without any grant is not within it: it may be another account's new user.
    """

    roles: list[str] | None = None
    permissions: list[str] | None = None
    accounts: list[str] | None = None
    chat_bots: list[str] | None = None
    sources: list[str] | None = None


EVERYBODY = Reach()

_SHOWN = """u.id, u.email, u.username, u.full_name, u.timezone, u.role, u.permissions, a.accounts, a.chat_bots,
  a.granted_sources AS sources, u.is_active, u.is_verified, u.password_hash IS NOT NULL AS has_password,
  u.locked_until, u.last_login_at, u.password_changed_at, u.created_at, u.updated_at"""

#: The condition on `a` (user_access) by the fields of a Reach.
WITHIN = """(%(roles)s::text[] IS NULL OR a.role = ANY(%(roles)s))
  AND (%(permissions)s::text[] IS NULL OR a.permissions <@ %(permissions)s)
  AND (%(accounts)s::text[] IS NULL OR (
    a.accounts::text[] <@ %(accounts)s AND a.sources::text[] <@ %(sources)s AND a.chat_bots <@ %(chat_bots)s
    AND a.accounts::text[] || a.granted_sources::text[] || a.chat_bots <> '{}'))"""


def access_of_session(
    connection: Connection, user_id: uuid.UUID, version: int, session_id: uuid.UUID
) -> UserAccess | None:
    """Return the access of an active user in a live session, unless its rights have changed since this version."""
    return fetch_first(
        connection,
        UserAccess,
        """SELECT user_id, username, role, permissions, version, accounts, chat_bots, sources
           FROM user_access u WHERE user_id = %s AND version = %s AND is_active AND EXISTS (
             SELECT FROM sessions s WHERE s.id = %s AND s.user_id = u.user_id
             AND s.revoked_at IS NULL AND s.expires_at > now())""",
        [user_id, version, session_id],
    )


def find_user(
    connection: Connection, user_id: uuid.UUID, reach: Reach = EVERYBODY
) -> UserRow | None:
    return fetch_first(
        connection,
        UserRow,
        f"""SELECT {_SHOWN} FROM users u JOIN user_access a ON a.user_id = u.id
            WHERE u.id = %(id)s AND {WITHIN}""",
        {**asdict(reach), "id": user_id},
    )


def read_user(connection: Connection, user_id: uuid.UUID) -> UserRow:
    """Return a user that exists."""
    user = find_user(connection, user_id)
    assert user is not None
    return user


def id_of_user(connection: Connection, name: str) -> uuid.UUID | None:
    """Return the user of an email address, in any case, or of a username."""
    # The address first: no user may stand before another one's address.
    return scalar(
        connection,
        """SELECT id FROM users WHERE email = lower(%(name)s) OR username = %(name)s
           ORDER BY email <> lower(%(name)s) LIMIT 1""",
        {"name": name},
    )


def list_users(
    connection: Connection,
    reach: Reach = EVERYBODY,
    *,
    limit: int | None = None,
    after: str | None = None,
) -> list[UserRow]:
    """Return the users in the order of their usernames. `after`: the username of the last one before them."""
    return fetch_all(
        connection,
        UserRow,
        f"""SELECT {_SHOWN} FROM users u JOIN user_access a ON a.user_id = u.id
            WHERE {WITHIN} AND (%(after)s::text IS NULL OR u.username > %(after)s)
            ORDER BY u.username LIMIT %(limit)s""",
        {**asdict(reach), "after": after, "limit": limit},
    )


def lock_user(connection: Connection, user_id: uuid.UUID) -> bool:
    """Prevent the user's change by others until the transaction ends. Returns whether there is such a user."""
    query = "SELECT 1 FROM users WHERE id = %s FOR UPDATE"
    return scalar(connection, query, [user_id]) is not None


def another_super_admin(connection: Connection, user_id: uuid.UUID) -> bool:
    """Return whether another super_admin is active, and stays so until this transaction ends."""
    # The lock lets transactions count one after the other: two that each remove one of two would see the other's.
    connection.execute(
        "SELECT pg_advisory_xact_lock(hashtextextended('rag-assets super_admins', 0))"
    )
    return scalar(
        connection,
        "SELECT EXISTS (SELECT FROM users WHERE role = 'super_admin' AND is_active AND id <> %s)",
        [user_id],
    )


def insert_user(connection: Connection, user: NewUser) -> uuid.UUID | None:
    """Add a user. Returns None if the email address or the username is taken."""
    return scalar(
        connection,
        """INSERT INTO users (email, username, role, permissions, full_name, timezone, password_hash, is_verified,
             password_changed_at)
           VALUES (%(email)s, %(username)s, %(role)s, %(permissions)s, %(full_name)s, %(timezone)s,
             %(password_hash)s::text, %(is_verified)s, CASE WHEN %(password_hash)s::text IS NOT NULL THEN now() END)
           ON CONFLICT DO NOTHING RETURNING id""",
        user._replace(permissions=list(user.permissions))._asdict(),
    )


def set_role(connection: Connection, user_id: uuid.UUID, role: str) -> None:
    connection.execute("UPDATE users SET role = %s WHERE id = %s", [role, user_id])


def set_permissions(connection: Connection, user_id: uuid.UUID, permissions: Sequence[str]) -> None:
    connection.execute(
        "UPDATE users SET permissions = %s WHERE id = %s", [list(permissions), user_id]
    )


def deactivate_user(connection: Connection, user_id: uuid.UUID) -> None:
    connection.execute("UPDATE users SET is_active = false WHERE id = %s", [user_id])


def activate_user(connection: Connection, user_id: uuid.UUID) -> None:
    """Unlock a user, and forget wrong passwords."""
    connection.execute(
        """UPDATE users SET is_active = true, failed_login_attempts = 0, locked_until = NULL
           WHERE id = %s""",
        [user_id],
    )


def delete_user(connection: Connection, user_id: uuid.UUID) -> None:
    """Delete a user with its keys, grants and sessions."""
    connection.execute("DELETE FROM users WHERE id = %s", [user_id])


def set_password_hash(connection: Connection, user_id: uuid.UUID, hashed: str) -> None:
    """Set a new password, which verifies the user, and forget wrong passwords."""
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
