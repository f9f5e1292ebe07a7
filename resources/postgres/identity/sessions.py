"""Tables `sessions` and `refresh_tokens`. Of tokens only hashes are stored.

A transaction that changes a session's tokens locks the session first, so the uses of one family follow each other.
"""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta
from typing import NamedTuple

from resources.postgres.connection import Connection
from resources.postgres.queries import fetch_all, fetch_first, fetch_one, scalar

#: A session that has ended is kept for this time, so that uses of its tokens are recognised.
KEPT = timedelta(days=7)


class SessionRow(NamedTuple):
    """A session. `lives`: its refresh tokens are accepted: it has not ended, and the user may log in."""

    id: uuid.UUID
    user_id: uuid.UUID
    version: int
    lives: bool


class RefreshTokenRow(NamedTuple):
    """`seconds_since_use`: None: not used yet. `successor_encrypted`: None: the successor was used too.

    `issued_lately`: the session's refresh tokens of the last minute.
    """

    seconds_since_use: float | None
    successor_encrypted: str | None
    issued_lately: int


class ListedSession(NamedTuple):
    id: uuid.UUID
    created_at: datetime
    last_used_at: datetime
    expires_at: datetime
    address: str | None
    user_agent: str | None


def add_session(
    connection: Connection,
    user_id: uuid.UUID,
    token_hash: bytes,
    lifetime: timedelta,
    address: str | None,
    user_agent: str,
) -> uuid.UUID:
    """Add a session with its first refresh token."""
    session_id = scalar(
        connection,
        """INSERT INTO sessions (user_id, expires_at, address, user_agent)
           VALUES (%s, now() + %s, %s, left(%s, 255)) RETURNING id""",
        [user_id, lifetime, address, user_agent],
    )
    add_refresh_token(connection, session_id, token_hash)
    return session_id


def add_refresh_token(connection: Connection, session_id: uuid.UUID, token_hash: bytes) -> None:
    connection.execute(
        "INSERT INTO refresh_tokens (token_hash, session_id) VALUES (%s, %s)",
        [token_hash, session_id],
    )


def lock_session(connection: Connection, token_hash: bytes, idle: timedelta) -> SessionRow | None:
    """Return the session of a refresh token, and prevent its change until the transaction ends."""
    return fetch_first(
        connection,
        SessionRow,
        """SELECT s.id, s.user_id, u.version, s.revoked_at IS NULL AND s.expires_at > clock_timestamp()
             AND s.last_used_at + %(idle)s > clock_timestamp() AND u.is_active AND u.is_verified AS lives
           FROM sessions s JOIN users u ON u.id = s.user_id
           WHERE s.id = (SELECT session_id FROM refresh_tokens WHERE token_hash = %(hash)s)
           FOR NO KEY UPDATE OF s""",
        {"hash": token_hash, "idle": idle},
    )


def refresh_token(connection: Connection, token_hash: bytes) -> RefreshTokenRow:
    """Return a token of the locked session."""
    return fetch_one(
        connection,
        RefreshTokenRow,
        """SELECT extract(epoch FROM clock_timestamp() - used_at)::float8 AS seconds_since_use, successor_encrypted,
             (SELECT count(*) FROM refresh_tokens s WHERE s.session_id = r.session_id
              AND s.created_at > clock_timestamp() - interval '1 minute') AS issued_lately
           FROM refresh_tokens r WHERE token_hash = %s""",
        [token_hash],
    )


def exchange(
    connection: Connection,
    session_id: uuid.UUID,
    token_hash: bytes,
    successor_hash: bytes,
    successor_encrypted: str,
) -> None:
    """Use a token of the locked session up, and add its successor."""
    connection.execute(
        """UPDATE refresh_tokens SET used_at = coalesce(used_at, clock_timestamp()),
             successor_encrypted = CASE WHEN token_hash = %(hash)s THEN %(successor)s::text END
           WHERE session_id = %(session)s AND (token_hash = %(hash)s OR successor_encrypted IS NOT NULL)""",
        {"hash": token_hash, "session": session_id, "successor": successor_encrypted},
    )
    add_refresh_token(connection, session_id, successor_hash)
    connection.execute(
        "UPDATE sessions SET last_used_at = clock_timestamp() WHERE id = %s", [session_id]
    )


def revoke(connection: Connection, session_id: uuid.UUID, because: str) -> bool:
    """End a session. Returns whether it lived."""
    ended = connection.execute(
        """UPDATE sessions SET revoked_at = clock_timestamp(), revoked_because = %s
           WHERE id = %s AND revoked_at IS NULL""",
        [because, session_id],
    ).rowcount
    return bool(ended)


def live_sessions(
    connection: Connection, user_id: uuid.UUID, idle: timedelta
) -> list[ListedSession]:
    """Return the sessions of a user, the last used first."""
    return fetch_all(
        connection,
        ListedSession,
        """SELECT id, created_at, last_used_at, expires_at, host(address) AS address, user_agent FROM sessions
           WHERE user_id = %s AND revoked_at IS NULL AND expires_at > now() AND last_used_at + %s > now()
           ORDER BY last_used_at DESC, id""",
        [user_id, idle],
    )


def forget_ended(connection: Connection, idle: timedelta, limit: int) -> int:
    """Delete some of the sessions that ended long ago. Returns their number."""
    return connection.execute(
        """DELETE FROM sessions WHERE id IN (
             SELECT id FROM sessions WHERE least(expires_at, last_used_at + %(idle)s, revoked_at) < now() - %(kept)s
             LIMIT %(limit)s FOR UPDATE SKIP LOCKED)""",
        {"idle": idle, "kept": KEPT, "limit": limit},
    ).rowcount
