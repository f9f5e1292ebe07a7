"""How far someone who administers users reaches: never beyond their own role, permissions and grants.

It decides twice: which users they know of, and what they may grant.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterator
from contextlib import contextmanager

from rag_assets.pipeline.permissions import PERMISSIONS, ROLES, Role, role_permissions
from rag_assets.pipeline.principal import Principal
from resources.errors import ConfigError, Forbidden, NotFound
from resources.postgres.connection import Connection
from resources.postgres.identity.users import Reach, UserRow, find_user, lock_user


def grantable_roles(actor: Principal) -> list[Role]:
    """Return the roles that are no higher than the actor's and have no permission that it lacks."""
    own = ROLES[: ROLES.index(actor.role) + 1]
    return [role for role in own if role_permissions(role) <= actor.permissions]


def reach_of(actor: Principal) -> Reach:
    """Return the limits of the users that the actor may read and change; others are unknown to it."""
    scope = actor.scope
    unlimited = len(actor.permissions) == len(PERMISSIONS) and actor.role == ROLES[-1]
    return Reach(
        None if unlimited else [*grantable_roles(actor)],
        None if unlimited else sorted(actor.permissions),
        _names(scope.accounts),
        _names(scope.chat_bots),
        _names(scope.sources),
    )


def unknown_names(role: str, permissions: Collection[str]) -> list[str]:
    """Return what is wrong with the names of a role and of permissions."""
    problems = []
    if role not in ROLES:
        problems.append(f"role: expected {', '.join(ROLES)}, found {role!r}")
    if unknown := sorted(set(permissions) - set(PERMISSIONS)):
        problems.append(
            f"permissions: expected {', '.join(PERMISSIONS)}, found {', '.join(unknown)}"
        )
    return problems


def expect_grantable(actor: Principal, role: str, permissions: Collection[str]) -> None:
    """Raise ConfigError for unknown names, and Forbidden for a role or a permission beyond the actor's."""
    if problems := unknown_names(role, permissions):
        raise ConfigError("\n".join(problems))
    if role not in grantable_roles(actor):
        raise Forbidden(
            f"role: you may give a role up to your own whose permissions you all have, not {role}."
        )
    if beyond := sorted(set(permissions) - actor.permissions):
        raise Forbidden(f"permissions: you do not have {', '.join(beyond)}, and cannot grant it.")


def reachable_user(connection: Connection, actor: Principal, user_id: uuid.UUID) -> UserRow:
    """Return a user. Raises NotFound if there is none within the actor's reach."""
    user = find_user(connection, user_id, reach_of(actor))
    if user is None:
        raise NotFound(f"There is no user {user_id}.")
    return user


@contextmanager
def changing_user(
    connection: Connection, actor: Principal, user_id: uuid.UUID
) -> Iterator[UserRow]:
    """One transaction in which nobody else changes the user. Raises NotFound beyond the actor's reach."""
    with connection.transaction():
        lock_user(connection, user_id)
        yield reachable_user(connection, actor, user_id)


def _names(names: frozenset[str] | None) -> list[str] | None:
    return None if names is None else sorted(names)
