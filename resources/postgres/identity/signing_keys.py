"""The table of the keys that sign access tokens. All processes of a deployment share it."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import NamedTuple

from resources.postgres.connection import Connection
from resources.postgres.queries import fetch_all, scalars


class SigningKeyRow(NamedTuple):
    """A key whose tokens are accepted. `signs`: new tokens may be signed with it."""

    kid: str
    public_key: bytes
    private_key_encrypted: str
    created_at: datetime
    signs_until: datetime
    verifies_until: datetime
    signs: bool


def live_keys(connection: Connection) -> list[SigningKeyRow]:
    """Return the keys whose tokens are accepted, the newest first."""
    return fetch_all(
        connection,
        SigningKeyRow,
        """SELECT kid, public_key, private_key_encrypted, created_at, signs_until, verifies_until,
             signs_until > clock_timestamp() AS signs
           FROM signing_keys WHERE verifies_until > clock_timestamp() ORDER BY created_at DESC, kid""",
    )


def lock_keys(connection: Connection) -> None:
    """Let no other transaction change the keys until this one ends. Readers do not wait."""
    connection.execute("LOCK TABLE signing_keys IN SHARE ROW EXCLUSIVE MODE")


def add_key(
    connection: Connection,
    kid: str,
    public_key: bytes,
    private_key_encrypted: str,
    signs_for: timedelta,
    tokens_live: timedelta,
) -> None:
    """Add the key that signs from now on, and delete those whose tokens have all expired."""
    connection.execute(
        """INSERT INTO signing_keys (kid, public_key, private_key_encrypted, created_at, signs_until, verifies_until)
           SELECT %(kid)s, %(public_key)s, %(private_key)s, now, now + %(signs)s, now + %(signs)s + %(live)s
           FROM (SELECT clock_timestamp() AS now)""",
        {
            "kid": kid,
            "public_key": public_key,
            "private_key": private_key_encrypted,
            "signs": signs_for,
            "live": tokens_live,
        },
    )
    connection.execute("DELETE FROM signing_keys WHERE verifies_until < clock_timestamp()")


def retire_keys(connection: Connection, tokens_live: timedelta) -> list[str]:
    """Let no present key sign from now on, and accept their tokens for `tokens_live` more. Returns their kids."""
    return scalars(
        connection,
        """UPDATE signing_keys SET signs_until = least(signs_until, clock_timestamp()),
             verifies_until = least(verifies_until, clock_timestamp() + %s)
           WHERE verifies_until > clock_timestamp() RETURNING kid""",
        [tokens_live],
    )
