"""Tokens that are redeemed once: `init` makes the first super_admin, `password` sets the password of a user."""

from __future__ import annotations

import hashlib
import re
import secrets
import uuid
from collections.abc import Mapping
from datetime import timedelta
from typing import Literal

from rag_assets.identity.access_tokens import refused
from rag_assets.identity.changes import COMMAND_LINE, Origin, record
from rag_assets.pipeline.principal import Principal
from resources.errors import Conflict
from resources.postgres.connection import Connection
from resources.postgres.identity import one_time_tokens as table

Purpose = Literal["init", "password"]

LIFETIMES: Mapping[Purpose, timedelta] = {
    "init": timedelta(hours=1),
    "password": timedelta(hours=24),
}
_FORM = re.compile(r"rag_(init|password)_[\w-]{43}", re.ASCII)


def issue(
    connection: Connection,
    purpose: Purpose,
    user_id: uuid.UUID | None = None,
    actor: Principal | None = None,
    origin: Origin = COMMAND_LINE,
) -> str:
    """Return a new token in place of the earlier one for the same purpose and user. It is shown once.

    `actor`: None: the deployment's owner. Raises Conflict for `init` if there is a super_admin.
    """
    assert (user_id is None) == (purpose == "init")
    token = f"rag_{purpose}_{secrets.token_urlsafe(32)}"
    with connection.transaction():
        if purpose == "init":
            expect_no_super_admin(connection)
        table.add_token(connection, _digest(token), purpose, user_id, LIFETIMES[purpose])
        target = f"user:{user_id}" if user_id else ""
        action = f"one_time_token.{purpose}"
        record(connection, actor or Principal.owner(), origin, action, target)
    return token


def look(connection: Connection, token: str, purpose: Purpose) -> uuid.UUID | None:
    """Return the user of a token that can be redeemed. Raises NotAuthenticated: nothing costly is done for others."""
    if not _FORM.fullmatch(token):
        raise refused()
    row = table.find_token(connection, _digest(token), purpose)
    if row is None:
        raise refused()
    return row.user_id


def redeem(connection: Connection, token: str, purpose: Purpose) -> uuid.UUID | None:
    """Use a token up in the caller's transaction, of which only one succeeds. Returns its user.

    Raises NotAuthenticated, and Conflict for `init` if there is a super_admin.
    """
    row = table.use_token(connection, _digest(token), purpose)
    if row is None:
        raise refused()
    if purpose == "init":
        expect_no_super_admin(connection)
    return row.user_id


def expect_no_super_admin(connection: Connection) -> None:
    """Raise Conflict if there is a super_admin. Of two transactions that make the first one, the second one sees it."""
    if table.has_super_admin(connection):
        raise Conflict(
            "There is a super_admin already. It adds users; the command line sets passwords: rag users password EMAIL"
        )


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
