"""Who makes a request, and the one decision on whether they may."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from rag_assets.pipeline.access import AccessScope
from rag_assets.pipeline.permissions import PERMISSIONS, Permission, Role


@dataclass(frozen=True, slots=True)
class Principal:
    """A user, by an access token or an API key, or the deployment's owner, who uses the command line.

    `user_id`: None for the owner. `key_id`: the public id of the API key, "" without one. `session_id`: the session of
    an access token. `requests_per_minute`: the limit of the key; None without one.
    """

    user_id: uuid.UUID | None
    username: str
    role: Role
    scope: AccessScope
    key_id: str = ""
    session_id: uuid.UUID | None = None
    requests_per_minute: int | None = None

    @classmethod
    def owner(cls) -> Principal:
        return cls(None, "owner", "super_admin", AccessScope.owner())

    @property
    def permissions(self) -> frozenset[Permission]:
        return self.scope.permissions

    @property
    def identity(self) -> str:
        """The name in the audit and the key of rate limits: `key:ID`, `user:UUID` or `owner`."""
        if self.key_id:
            return f"key:{self.key_id}"
        return f"user:{self.user_id}" if self.user_id else "owner"


@dataclass(frozen=True, slots=True)
class Target:
    """What a request touches; "" where it touches no particular one. `chat_bot`: as ACCOUNT/NAME."""

    account: str = ""
    chat_bot: str = ""
    source: str = ""


#: A request that touches no account, chat bot or source of its own, such as a search: its scope limits what it reads.
NO_TARGET = Target()


def allowed(
    principal: Principal | None, permission: Permission, target: Target = NO_TARGET
) -> bool:
    """Return whether the principal may do it: it has the permission, and everything that the target names is in scope.

    None, a stranger, may do nothing.
    """
    if principal is None or permission not in PERMISSIONS:
        return False
    return permission in principal.permissions and in_scope(principal, target)


def in_scope(principal: Principal, target: Target) -> bool:
    """Return whether the principal sees everything that the target names. An account contains its chat bots."""
    scope = principal.scope
    account_of_bot = target.chat_bot.partition("/")[0]
    in_account = scope.accounts is not None and account_of_bot in scope.accounts
    return all(
        not name or names is None or name in names
        for name, names in (
            (target.account, scope.accounts),
            ("" if in_account else target.chat_bot, scope.chat_bots),
            (target.source, scope.sources),
        )
    )
