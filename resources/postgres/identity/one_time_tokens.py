"""Table `one_time_tokens`. Only hashes are stored."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import NamedTuple

from resources.postgres.connection import Connection
from resources.postgres.queries import fetch_first, scalar


class OneTimeTokenRow(NamedTuple):
    user_id: uuid.UUID | None


def add_token(
    connection: Connection,
    token_hash: bytes,
    purpose: str,
    user_id: uuid.UUID | None,
    lifetime: timedelta,
) -> None:
    """Add a token in place of the earlier ones for the same purpose and user."""
    delete_tokens(connection, purpose, user_id)
    connection.execute(
        """INSERT INTO one_time_tokens (token_hash, purpose, user_id, expires_at)
           VALUES (%s, %s, %s, clock_timestamp() + %s)""",
        [token_hash, purpose, user_id, lifetime],
    )


def find_token(connection: Connection, token_hash: bytes, purpose: str) -> OneTimeTokenRow | None:
    """Return a token that can be redeemed."""
    return fetch_first(
        connection,
        OneTimeTokenRow,
        """SELECT user_id FROM one_time_tokens
           WHERE token_hash = %s AND purpose = %s AND used_at IS NULL AND expires_at > clock_timestamp()""",
        [token_hash, purpose],
    )


def use_token(connection: Connection, token_hash: bytes, purpose: str) -> OneTimeTokenRow | None:
    """Use a token up. Returns None if it cannot be redeemed; of several transactions only one gets it."""
    return fetch_first(
        connection,
        OneTimeTokenRow,
        """UPDATE one_time_tokens SET used_at = clock_timestamp()
           WHERE token_hash = %s AND purpose = %s AND used_at IS NULL AND expires_at > clock_timestamp()
           RETURNING user_id""",
        [token_hash, purpose],
    )


def delete_tokens(connection: Connection, purpose: str, user_id: uuid.UUID | None) -> None:
    """Delete the tokens of a purpose and user, and those that expired long ago."""
    connection.execute(
        """DELETE FROM one_time_tokens WHERE purpose = %s AND user_id IS NOT DISTINCT FROM %s
             OR expires_at < now() - interval '7 days'""",
        [purpose, user_id],
    )


def has_super_admin(connection: Connection) -> bool:
    """Return whether there is a super_admin. Transactions that ask follow one another to their ends."""
    connection.execute(
        "SELECT pg_advisory_xact_lock(hashtextextended('rag-assets super_admins', 0))"
    )
    return scalar(connection, "SELECT EXISTS (SELECT FROM users WHERE role = 'super_admin')")
