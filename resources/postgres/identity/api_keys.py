"""Table `api_keys`: the keys of users for programs. The hash of a key leaves this module only to be compared."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from ipaddress import IPv4Network, IPv6Network
from typing import Any, LiteralString, NamedTuple

from resources.postgres.connection import Connection
from resources.postgres.identity.users import EVERYBODY, WITHIN, Reach
from resources.postgres.queries import fetch_all, fetch_first, fetch_one, scalar

Network = IPv4Network | IPv6Network


class KeyRow(NamedTuple):
    """A key as it is shown."""

    id: uuid.UUID
    user_id: uuid.UUID
    username: str
    key_prefix: str
    name: str
    description: str | None
    permissions: list[str]
    networks: list[Network]
    rate_limit_per_minute: int
    usage_count: int
    last_used_at: datetime | None
    is_active: bool
    expires_at: datetime | None
    created_at: datetime


class NewKey(NamedTuple):
    """The settings of a key, and its hash."""

    user_id: uuid.UUID
    key_hash: str
    key_prefix: str
    name: str
    description: str | None
    permissions: Sequence[str]
    networks: Sequence[Network]
    rate_limit_per_minute: int
    expires_at: datetime | None


class StoredKey(NamedTuple):
    """A live key of an active user, with everything that its use needs. `seconds_left`: None: it never expires."""

    id: uuid.UUID
    key_hash: str
    key_permissions: list[str]
    networks: list[Network]
    rate_limit_per_minute: int
    seconds_left: float | None
    user_id: uuid.UUID
    username: str
    role: str
    permissions: list[str]
    accounts: list[str]
    chat_bots: list[str]
    sources: list[str]


def find_live_key(connection: Connection, prefix: str) -> StoredKey | None:
    """Return the key, unless it is revoked, expired, or its owner is locked."""
    return fetch_first(
        connection,
        StoredKey,
        """SELECT k.id, k.key_hash, k.permissions AS key_permissions, k.networks, k.rate_limit_per_minute,
             extract(epoch FROM k.expires_at - now())::float8 AS seconds_left,
             u.user_id, u.username, u.role, u.permissions, u.accounts, u.chat_bots, u.sources
           FROM api_keys k JOIN user_access u USING (user_id)
           WHERE k.key_prefix = %s AND k.is_active AND u.is_active
             AND (k.expires_at IS NULL OR k.expires_at > now())""",
        [prefix],
    )


def replace_hash(connection: Connection, key_id: uuid.UUID, old: str, new: str) -> None:
    connection.execute(
        "UPDATE api_keys SET key_hash = %s WHERE id = %s AND key_hash = %s", [new, key_id, old]
    )


_SHOWN = """k.id, k.user_id, u.username, k.key_prefix, k.name, k.description, k.permissions, k.networks,
  k.rate_limit_per_minute, k.usage_count, k.last_used_at, k.is_active, k.expires_at, k.created_at"""


@dataclass(frozen=True)
class KeyReach:
    """The keys that someone may know of: those of `own`, of them only `own_key` if it is not "", and those of users.

    `users`: None: of no other user.
    """

    own: uuid.UUID | None
    own_key: str = ""
    users: Reach | None = None

    @property
    def parameters(self) -> dict[str, Any]:
        users = asdict(self.users or EVERYBODY)
        return {**users, "own": self.own, "own_key": self.own_key, "others": self.users is not None}


_WITHIN: LiteralString = f"""((k.user_id = %(own)s AND (%(own_key)s = '' OR right(k.key_prefix, 12) = %(own_key)s))
  OR (%(others)s AND {WITHIN}))"""


def list_keys(
    connection: Connection,
    reach: KeyReach,
    user_id: uuid.UUID | None = None,
    *,
    limit: int | None = None,
    after: uuid.UUID | None = None,
) -> list[KeyRow]:
    """Return the keys of a user, or of all, in the order of their ids. `after`: the id of the last one before them."""
    return fetch_all(
        connection,
        KeyRow,
        f"""SELECT {_SHOWN} FROM api_keys k JOIN users u ON u.id = k.user_id JOIN user_access a USING (user_id)
            WHERE (%(user)s::uuid IS NULL OR k.user_id = %(user)s) AND {_WITHIN}
              AND (%(after)s::uuid IS NULL OR k.id > %(after)s)
            ORDER BY k.id LIMIT %(limit)s""",
        {**reach.parameters, "user": user_id, "after": after, "limit": limit},
    )


def find_key(connection: Connection, reach: KeyReach, key_id: uuid.UUID) -> KeyRow | None:
    return fetch_first(
        connection,
        KeyRow,
        f"""SELECT {_SHOWN} FROM api_keys k JOIN users u ON u.id = k.user_id JOIN user_access a USING (user_id)
            WHERE k.id = %(id)s AND {_WITHIN}""",
        {**reach.parameters, "id": key_id},
    )


def lock_key(connection: Connection, key_id: uuid.UUID) -> None:
    """Prevent the key's change by others until the transaction ends."""
    connection.execute("SELECT FROM api_keys WHERE id = %s FOR UPDATE", [key_id])


def id_of_prefix(connection: Connection, prefix: str) -> uuid.UUID | None:
    return scalar(connection, "SELECT id FROM api_keys WHERE key_prefix = %s", [prefix])


def insert_key(connection: Connection, key: NewKey) -> KeyRow:
    return fetch_one(
        connection,
        KeyRow,
        f"""WITH k AS (
              INSERT INTO api_keys (user_id, key_hash, key_prefix, name, description, permissions, networks,
                rate_limit_per_minute, expires_at)
              VALUES (%s, %s, %s, %s, %s, %s, %s::cidr[], %s, %s) RETURNING *)
            SELECT {_SHOWN} FROM k JOIN users u ON u.id = k.user_id""",
        [*key._replace(permissions=list(key.permissions), networks=list(key.networks))],
    )


def revoke_key(connection: Connection, key_id: uuid.UUID) -> None:
    connection.execute(
        "UPDATE api_keys SET is_active = false, updated_at = now() WHERE id = %s", [key_id]
    )


def expire_key(connection: Connection, key_id: uuid.UUID, grace: timedelta) -> datetime:
    """Let the key expire after `grace`, or when it would have expired before that. Returns that time."""
    return scalar(
        connection,
        """UPDATE api_keys SET expires_at = least(expires_at, now() + %s), updated_at = now() WHERE id = %s
           RETURNING expires_at""",
        [grace, key_id],
    )


def live_keys(connection: Connection, user_id: uuid.UUID | None = None) -> int:
    """Return the number of keys of a user, or of all, that are neither revoked nor expired."""
    return scalar(
        connection,
        """SELECT count(*) FROM api_keys WHERE is_active AND (expires_at IS NULL OR expires_at > now())
             AND (%(user)s::uuid IS NULL OR user_id = %(user)s)""",
        {"user": user_id},
    )


def count_uses(connection: Connection, uses: Mapping[uuid.UUID, int], at: datetime) -> None:
    """Add to the uses of keys, the last of which was `at`."""
    # In one order: two processes that write at once must not wait for each other.
    connection.execute(
        """UPDATE api_keys k SET usage_count = usage_count + uses.times, last_used_at = greatest(last_used_at, %s)
           FROM (SELECT k.id, uses.times FROM api_keys k
                 JOIN unnest(%s::uuid[], %s::bigint[]) AS uses(id, times) USING (id)
                 ORDER BY k.id FOR UPDATE OF k) AS uses
           WHERE k.id = uses.id""",
        [at, list(uses), list(uses.values())],
    )
