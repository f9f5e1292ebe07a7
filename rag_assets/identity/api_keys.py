"""Use-cases of API keys: add, list, rotate, revoke. Each change is one transaction with its audit record.

A key acts for its owner. Who logged in handles all of the user's own keys, a key only itself; who administers users
also handles those of the users within reach.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from typing import NamedTuple, cast

from rag_assets.identity.api_key_format import new_key
from rag_assets.identity.authentication import key_hashes
from rag_assets.identity.changes import COMMAND_LINE, Origin, record
from rag_assets.identity.deployment_secret import expect_secret
from rag_assets.identity.reach import reach_of, reachable_user
from rag_assets.pipeline.permissions import (
    PERMISSIONS,
    Permission,
    Role,
    effective_permissions,
    role_permissions,
)
from rag_assets.pipeline.plain_text import is_plain_name
from rag_assets.pipeline.principal import Principal, allowed
from resources.errors import ConfigError, Conflict, Forbidden, NotFound
from resources.postgres.connection import Connection
from resources.postgres.identity import api_keys as table
from resources.postgres.identity.api_keys import KeyReach, KeyRow, Network, NewKey
from resources.postgres.identity.users import UserRow, lock_user, read_user
from resources.secret_key import SecretKey

#: Requests a minute of a key, by default. Only who administers users gives a key more.
RATE_LIMIT = 100
MAX_RATE_LIMIT = 1_000_000
#: Live keys of a user, at most.
MAX_LIVE = 100
#: How long the old key lives on after a rotation: by default, and at most.
GRACE, MAX_GRACE = timedelta(days=1), timedelta(days=30)
#: The permissions of a key for which none are named: it reads. A key is stored in programs and may leak there, so that
#: writing is asked for.
DEFAULT_PERMISSIONS = role_permissions("viewer")


@dataclass(frozen=True, slots=True)
class KeySpec:
    """The settings of a key to add. `permissions`: None: those to read that its owner has. `networks`: none: all."""

    name: str
    permissions: Sequence[str] | None = None
    expires_at: datetime | None = None
    networks: Sequence[str] = ()
    rate_limit_per_minute: int = RATE_LIMIT
    description: str | None = None


class IssuedKey(NamedTuple):
    """A new key. `text` is shown once."""

    row: KeyRow
    text: str

    def __repr__(self) -> str:
        return f"IssuedKey({self.row.key_prefix})"


def add(
    connection: Connection,
    actor: Principal,
    secret: SecretKey,
    user_id: uuid.UUID,
    spec: KeySpec,
    origin: Origin = COMMAND_LINE,
) -> IssuedKey:
    """Add a key to a user: with permissions that both the user and the actor have.

    Raises ConfigError that lists every problem, NotFound for a user beyond the actor's reach, Forbidden for an actor
    that is an API key and does not administer users.
    """
    _expect_may_issue(actor)
    if actor.user_id != user_id and not allowed(actor, "user:admin"):
        raise NotFound(f"There is no user {user_id}.")
    expect_secret(connection, secret)
    with connection.transaction():
        if not lock_user(connection, user_id):
            # Perhaps the actor, removed a moment ago, while its principal is still remembered.
            raise NotFound(f"There is no user {user_id}.")
        if actor.user_id == user_id:
            owner = read_user(connection, user_id)
        else:
            owner = reachable_user(connection, actor, user_id)
        if table.live_keys(connection, user_id) >= MAX_LIVE:
            raise Conflict(f"{owner.username} has {MAX_LIVE} live keys. Revoke one first.")
        permissions, networks = _checked(actor, owner, spec)
        key = new_key()
        row = table.insert_key(
            connection,
            NewKey(
                user_id,
                key_hashes(secret, key.secret)[0],
                key.prefix,
                spec.name.strip(),
                spec.description,
                sorted(permissions),
                networks,
                spec.rate_limit_per_minute,
                spec.expires_at,
            ),
        )
        _record(connection, actor, origin, "key.create", row)
    return IssuedKey(row, key.text)


def rotate(
    connection: Connection,
    actor: Principal,
    secret: SecretKey,
    key_id: uuid.UUID,
    grace: timedelta = GRACE,
    origin: Origin = COMMAND_LINE,
) -> IssuedKey:
    """Add a key with the settings of another one, which expires after `grace`. The new one expires when the old would.

    Raises NotFound for a key beyond the actor's reach, Conflict for one that is revoked or expired, and for an owner
    with MAX_LIVE live keys.
    """
    _expect_may_issue(actor)
    if not timedelta() <= grace <= MAX_GRACE:
        raise ConfigError(f"grace: expected at most {MAX_GRACE.days} days")
    expect_secret(connection, secret)
    with _changing(connection, actor, key_id) as old:
        if state(old) != "live":
            raise Conflict(f"The key {old.key_prefix} is {state(old)}. Add a new one.")
        key = new_key()
        row = table.insert_key(
            connection,
            NewKey(
                old.user_id,
                key_hashes(secret, key.secret)[0],
                key.prefix,
                old.name,
                old.description,
                old.permissions,
                old.networks,
                old.rate_limit_per_minute,
                old.expires_at,
            ),
        )
        ends = table.expire_key(connection, key_id, grace)
        # Old keys in their grace are live: rotating one of them again and again would make keys without end.
        if table.live_keys(connection, old.user_id) > MAX_LIVE:
            raise Conflict(f"{old.username} has {MAX_LIVE} live keys. Revoke one first.")
        _record(
            connection, actor, origin, "key.rotate", row, replaces=old.key_prefix, old_expires_at=ends.isoformat()
        )  # fmt: skip
    return IssuedKey(row, key.text)


def revoke(
    connection: Connection, actor: Principal, key_id: uuid.UUID, origin: Origin = COMMAND_LINE
) -> KeyRow:
    """Refuse a key from now on. Returns it; one that is revoked already stays so."""
    with _changing(connection, actor, key_id) as key:
        if key.is_active:
            table.revoke_key(connection, key_id)
            _record(connection, actor, origin, "key.revoke", key)
        return key._replace(is_active=False)


def list_keys(
    connection: Connection,
    actor: Principal,
    user_id: uuid.UUID | None = None,
    *,
    limit: int | None = None,
    after: uuid.UUID | None = None,
) -> list[KeyRow]:
    """Return the keys within the actor's reach, of one user or of all."""
    return table.list_keys(connection, _reach(actor), user_id, limit=limit, after=after)


def get(connection: Connection, actor: Principal, key_id: uuid.UUID) -> KeyRow:
    """Return a key. Raises NotFound beyond the actor's reach."""
    key = table.find_key(connection, _reach(actor), key_id)
    if key is None:
        raise NotFound(f"There is no API key {key_id}.")
    return key


def state(key: KeyRow) -> str:
    """Return `live`, `revoked` or `expired`."""
    if not key.is_active:
        return "revoked"
    expired = key.expires_at is not None and key.expires_at <= datetime.now(UTC)
    return "expired" if expired else "live"


@contextmanager
def _changing(connection: Connection, actor: Principal, key_id: uuid.UUID) -> Iterator[KeyRow]:
    with connection.transaction():
        table.lock_key(connection, key_id)
        yield get(connection, actor, key_id)


def _reach(actor: Principal) -> KeyReach:
    users = reach_of(actor) if allowed(actor, "user:admin") else None
    return KeyReach(actor.user_id, actor.key_id, users)


def _expect_may_issue(actor: Principal) -> None:
    # A stolen key must not make one that outlives its revocation.
    if actor.key_id and not allowed(actor, "user:admin"):
        raise Forbidden(
            "An API key adds no keys and rotates none, unless it has user:admin. Log in to do it."
        )


def _checked(
    actor: Principal, owner: UserRow, spec: KeySpec
) -> tuple[frozenset[str], list[Network]]:
    """Return the permissions and networks of a new key. Raises ConfigError that lists every problem."""
    of_owner = effective_permissions(cast(Role, owner.role), owner.permissions)
    problems = []
    name = spec.name.strip()
    if not is_plain_name(name, 255):
        problems.append(
            f"name: expected 1 to 255 visible characters without double spaces, found {spec.name!r}"
        )
    if spec.description and len(spec.description) > 1000:
        problems.append("description: expected at most 1,000 characters")
    if spec.permissions is None:
        permissions = frozenset[str](DEFAULT_PERMISSIONS & of_owner & actor.permissions)
    else:
        permissions = frozenset(spec.permissions)
    problems += _permission_problems(permissions, of_owner, actor, owner.username)
    if spec.expires_at is not None and spec.expires_at <= datetime.now(UTC):
        problems.append(f"expires_at: expected a time in the future, found {spec.expires_at}")
    highest = MAX_RATE_LIMIT if allowed(actor, "user:admin") else RATE_LIMIT
    if not 1 <= spec.rate_limit_per_minute <= highest:
        problems.append(
            f"rate_limit_per_minute: expected 1 to {highest:,}, found {spec.rate_limit_per_minute:,}"
        )
    networks: list[Network] = []
    for text in spec.networks:
        try:
            networks.append(ip_network(text))
        except ValueError as error:
            problems.append(f"networks: expected a network such as 10.0.0.0/8: {error}")
    if problems:
        raise ConfigError("\n".join(problems))
    return permissions, networks


def _permission_problems(
    permissions: frozenset[str], of_owner: frozenset[Permission], actor: Principal, owner: str
) -> list[str]:
    if unknown := sorted(permissions - set(PERMISSIONS)):
        return [f"permissions: expected {', '.join(PERMISSIONS)}, found {', '.join(unknown)}"]
    problems = []
    if not permissions:
        problems.append("permissions: expected at least one that the owner has")
    if missing := sorted(permissions - of_owner):
        problems.append(f"permissions: {owner} does not have {', '.join(missing)}")
    if beyond := sorted((permissions & of_owner) - actor.permissions):
        problems.append(f"permissions: you do not have {', '.join(beyond)}, and cannot grant it")
    return problems


def _record(
    connection: Connection,
    actor: Principal,
    origin: Origin,
    action: str,
    key: KeyRow,
    **details: object,
) -> None:
    record(
        connection, actor, origin, action, f"key:{key.id}",
        prefix=key.key_prefix, user=str(key.user_id), name=key.name, permissions=key.permissions, **details,
    )  # fmt: skip
