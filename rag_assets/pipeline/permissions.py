"""Roles and permissions: a fixed table. A role contains the permissions of every lower role."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal, get_args

Role = Literal["viewer", "editor", "admin", "super_admin"]
Permission = Literal[
    "search:read",
    "document:read",
    "document:write",
    "document:delete",
    "collection:admin",
    "index:admin",
    "job:run",
    "metrics:read",
    "audit:read",
    "user:admin",
    "backup:run",
]

#: From the lowest to the highest.
ROLES: tuple[Role, ...] = get_args(Role)
PERMISSIONS: tuple[Permission, ...] = get_args(Permission)

#: Role -> the permissions that it adds to those of the roles below it.
_ADDED: Mapping[Role, frozenset[Permission]] = {
    "viewer": frozenset(("search:read", "document:read")),
    "editor": frozenset(("document:write", "document:delete")),
    "admin": frozenset(
        ("collection:admin", "index:admin", "job:run", "metrics:read", "audit:read")
    ),
    "super_admin": frozenset(("user:admin", "backup:run")),
}


def role_permissions(role: Role) -> frozenset[Permission]:
    """Return the permissions of a role."""
    included = ROLES[: ROLES.index(role) + 1]
    return frozenset(permission for each in included for permission in _ADDED[each])


def effective_permissions(
    role: Role, added: Iterable[str], limited_to: Iterable[str] | None = None
) -> frozenset[Permission]:
    """Return the permissions of a user: those of the role and the single ones that were `added`.

    `limited_to`: the permissions of an API key, which has none that its owner does not have now; None: no key.
    Names that this version does not know grant nothing.
    """
    added = frozenset(added)
    of_role = role_permissions(role)
    limits = frozenset(PERMISSIONS if limited_to is None else limited_to)
    return frozenset(
        each for each in PERMISSIONS if (each in of_role or each in added) and each in limits
    )
