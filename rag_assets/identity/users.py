"""Use-cases of users: add, read, role, lock, password, remove. Each change is one transaction with its audit record.

Users beyond the actor's reach are unknown to it. The last active super_admin stays one.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from rag_assets.identity.changes import COMMAND_LINE, Origin, record
from rag_assets.identity.grants import NO_GRANTS, Grants, resolve
from rag_assets.identity.reach import changing_user, expect_grantable, reach_of, unknown_names
from rag_assets.pipeline.permissions import Role, role_permissions
from rag_assets.pipeline.plain_text import is_plain_name, plain_line
from rag_assets.pipeline.principal import Principal
from resources.errors import ConfigError, Conflict, Forbidden, NotFound
from resources.postgres.connection import Connection
from resources.postgres.identity import users as table
from resources.postgres.identity.grants import add_grants
from resources.postgres.identity.one_time_tokens import delete_tokens
from resources.postgres.identity.users import NewUser, UserRow

_EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")


@dataclass(frozen=True, slots=True)
class UserSpec:
    """A user to add. `password_hash`: None: it holds keys, and cannot log in."""

    email: str
    username: str
    role: str = "viewer"
    permissions: Sequence[str] = ()
    full_name: str | None = None
    timezone: str = "Asia/Tokyo"
    password_hash: str | None = None


def add(
    connection: Connection,
    actor: Principal,
    spec: UserSpec,
    grants: Grants = NO_GRANTS,
    origin: Origin = COMMAND_LINE,
) -> UserRow:
    """Add a user with grants. A password that an administrator gives verifies the user.

    Raises ConfigError that lists every problem, Conflict if the email address or the username is taken, and Forbidden
    beyond the actor's rights.
    """
    user = _checked(spec)
    expect_grantable(actor, user.role, user.permissions)
    if actor.scope.accounts is not None and not grants:
        raise Forbidden("grants: expected an account, a chat bot or a source of yours, found none.")
    with connection.transaction():
        resolved = resolve(connection, actor, grants)
        user_id = table.insert_user(connection, user)
        if user_id is None:
            raise Conflict(
                f"The email address {user.email} or the username {user.username!r} is taken."
            )
        add_grants(connection, user_id, resolved)
        record(
            connection, actor, origin, "user.create", _target(user_id),
            role=user.role, permissions=list(user.permissions), login=user.is_verified, **grants.details,
        )  # fmt: skip
        return table.read_user(connection, user_id)


def get_by_name(connection: Connection, actor: Principal, name: str) -> UserRow:
    """Return the user of an email address or a username."""
    user_id = table.id_of_user(connection, name)
    user = user_id and table.find_user(connection, user_id, reach_of(actor))
    if not user:
        raise NotFound(f"There is no user {name!r}. See: rag users list")
    return user


def list_users(
    connection: Connection, actor: Principal, *, limit: int | None = None, after: str | None = None
) -> list[UserRow]:
    """Return the users within the actor's reach. `after`: the username of the last one before them."""
    return table.list_users(connection, reach_of(actor), limit=limit, after=after)


def set_role(
    connection: Connection,
    actor: Principal,
    user_id: uuid.UUID,
    role: str,
    origin: Origin = COMMAND_LINE,
) -> UserRow:
    expect_grantable(actor, role, ())
    with changing_user(connection, actor, user_id) as user:
        if role != "super_admin":
            _expect_another_super_admin(connection, user)
        table.set_role(connection, user_id, role)
        record(connection, actor, origin, "user.role", _target(user_id), old=user.role, new=role)
        return table.read_user(connection, user_id)


def add_permissions(
    connection: Connection,
    actor: Principal,
    user_id: uuid.UUID,
    permissions: Sequence[str],
    origin: Origin = COMMAND_LINE,
) -> UserRow:
    """Add single permissions to those of the role."""
    expect_grantable(actor, "viewer", permissions)
    with changing_user(connection, actor, user_id) as user:
        _set_permissions(connection, actor, user, {*user.permissions, *permissions}, origin)
        return table.read_user(connection, user_id)


def remove_permissions(
    connection: Connection,
    actor: Principal,
    user_id: uuid.UUID,
    permissions: Sequence[str],
    origin: Origin = COMMAND_LINE,
) -> UserRow:
    """Remove single permissions. Those of the role stay: to remove them, lower the role."""
    with changing_user(connection, actor, user_id) as user:
        if missing := sorted(set(permissions) - set(user.permissions)):
            of_role = [each for each in missing if each in role_permissions(cast(Role, user.role))]
            reason = f"; {', '.join(of_role)}: part of the role {user.role}" if of_role else ""
            raise ConfigError(
                f"permissions: {user.username} was not granted {', '.join(missing)}{reason}."
            )
        _set_permissions(connection, actor, user, {*user.permissions} - {*permissions}, origin)
        return table.read_user(connection, user_id)


def lock(
    connection: Connection, actor: Principal, user_id: uuid.UUID, origin: Origin = COMMAND_LINE
) -> UserRow:
    """Refuse the user's keys, tokens and passwords, and end its sessions, until it is unlocked."""
    with changing_user(connection, actor, user_id) as user:
        _expect_another_super_admin(connection, user)
        table.deactivate_user(connection, user_id)
        ended = table.end_sessions(connection, user_id, "lock")
        record(connection, actor, origin, "user.lock", _target(user_id), ended_sessions=ended)
        return table.read_user(connection, user_id)


def unlock(
    connection: Connection, actor: Principal, user_id: uuid.UUID, origin: Origin = COMMAND_LINE
) -> UserRow:
    """Accept the user's keys and logins again, also after too many wrong passwords."""
    with changing_user(connection, actor, user_id):
        table.activate_user(connection, user_id)
        record(connection, actor, origin, "user.unlock", _target(user_id))
        return table.read_user(connection, user_id)


def set_password(
    connection: Connection,
    actor: Principal,
    user_id: uuid.UUID,
    password_hash: str,
    origin: Origin = COMMAND_LINE,
) -> UserRow:
    """Set the hash of a new password (`Passwords.new_hash`), which verifies the user, and end its sessions.

    Tokens that would let somebody else set it end too. Raises Forbidden for the actor's own password.
    """
    if actor.user_id == user_id:
        # A stolen token or key must not become a password.
        raise Forbidden("Your own password is changed with the old one: POST /auth/password")
    with changing_user(connection, actor, user_id):
        table.set_password_hash(connection, user_id, password_hash)
        delete_tokens(connection, "password", user_id)
        ended = table.end_sessions(connection, user_id, "password")
        record(connection, actor, origin, "user.password", _target(user_id), ended_sessions=ended)
        return table.read_user(connection, user_id)


def remove(
    connection: Connection, actor: Principal, user_id: uuid.UUID, origin: Origin = COMMAND_LINE
) -> UserRow:
    """Remove a user with its keys, grants and sessions. Returns the removed user."""
    with changing_user(connection, actor, user_id) as user:
        _expect_another_super_admin(connection, user)
        table.delete_user(connection, user_id)
        record(
            connection, actor, origin, "user.remove", _target(user_id),
            username=user.username, role=user.role,
        )  # fmt: skip
        return user


def _expect_another_super_admin(connection: Connection, user: UserRow) -> None:
    if user.role != "super_admin" or not user.is_active:
        return
    if not table.another_super_admin(connection, user.id):
        raise Conflict(
            f"{user.username} is the last active super_admin. Make another one first: rag users role EMAIL super_admin"
        )


def _set_permissions(
    connection: Connection,
    actor: Principal,
    user: UserRow,
    permissions: set[str],
    origin: Origin,
) -> None:
    new = sorted(permissions)
    table.set_permissions(connection, user.id, new)
    record(
        connection, actor, origin, "user.permissions", _target(user.id),
        old=user.permissions, new=new,
    )  # fmt: skip


def _target(user_id: uuid.UUID) -> str:
    return f"user:{user_id}"


def _checked(spec: UserSpec) -> NewUser:
    email, username = spec.email.strip().lower(), spec.username.strip()
    problems = []
    if not _EMAIL.fullmatch(email) or len(email) > 255:
        problems.append(f"email: expected an address such as ann@example.com, found {spec.email!r}")
    if not is_plain_name(username, 100):
        problems.append(
            f"username: expected 1 to 100 visible characters without double spaces, found {spec.username!r}"
        )
    elif "@" in username and username != email:
        problems.append("username: expected no @, since it is not this user's email address")
    full_name = plain_line(spec.full_name or "", 256) or None
    if full_name and len(full_name) > 255:
        problems.append("full_name: expected at most 255 characters")
    try:
        ZoneInfo(spec.timezone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        problems.append(f"timezone: expected a name such as Asia/Tokyo, found {spec.timezone!r}")
    problems += unknown_names(spec.role, spec.permissions)
    if problems:
        raise ConfigError("\n".join(problems))
    return NewUser(
        email,
        username,
        spec.role,
        sorted(set(spec.permissions)),
        full_name,
        spec.timezone,
        spec.password_hash,
        is_verified=spec.password_hash is not None,
    )
