"""Passwords that users set themselves: the first super_admin's, a first one by a one-time token, and a change.

A new password ends all sessions of the user, and the one-time tokens for its password.
"""

from __future__ import annotations

import uuid

from rag_assets.identity import one_time_tokens
from rag_assets.identity.access_tokens import refused
from rag_assets.identity.changes import Origin
from rag_assets.identity.logins import Logins, wrong_password
from rag_assets.identity.passwords import Passwords
from rag_assets.identity.users import UserSpec, add
from rag_assets.pipeline.audit_record import AuditRecord
from rag_assets.pipeline.principal import Principal
from resources.errors import Forbidden
from resources.postgres.connection import Connection
from resources.postgres.connection_pool import Connections
from resources.postgres.identity import users as table
from resources.postgres.identity.audit_chain import append
from resources.postgres.identity.login_failures import account_of
from resources.postgres.identity.one_time_tokens import delete_tokens


class PasswordChanges:
    """All methods block. They raise ConfigError for a password that breaks the rules, and Overloaded."""

    def __init__(self, connections: Connections, passwords: Passwords, logins: Logins) -> None:
        self._connections, self._passwords, self._logins = connections, passwords, logins

    def init(
        self, token: str, email: str, username: str, password: str, origin: Origin
    ) -> uuid.UUID:
        """Make the first super_admin. Raises NotAuthenticated for the token, Conflict if there is a super_admin."""
        with self._connections.connection() as connection:
            one_time_tokens.look(connection, token, "init")
        hashed = self._passwords.new_hash(password, email=email, username=username)
        spec = UserSpec(email, username, "super_admin", password_hash=hashed)
        with self._connections.connection() as connection, connection.transaction():
            one_time_tokens.redeem(connection, token, "init")
            user = add(connection, Principal.owner(), spec, origin=origin)
            _record(connection, user.id, origin, "auth.init")
            return user.id

    def redeem(self, token: str, password: str, origin: Origin) -> None:
        """Set the password of a one-time token's user."""
        with self._connections.connection() as connection:
            user_id = one_time_tokens.look(connection, token, "password")
            user = user_id and table.find_user(connection, user_id)
        if not user or not user.is_active:
            raise refused()
        hashed = self._new_hash(user, password)
        with self._connections.connection() as connection, connection.transaction():
            one_time_tokens.redeem(connection, token, "password")
            self._set(connection, user.id, hashed, origin, by="one-time token")

    def change(self, caller: Principal, old: str, new: str, origin: Origin) -> None:
        """Change the caller's own password. Raises NotAuthenticated if the old one is wrong."""
        if caller.user_id is None or caller.key_id:
            raise Forbidden("A password is changed with an access token, not with an API key.")
        old_hash = self._logins.verify_own(caller.user_id, old, origin)
        with self._connections.connection() as connection:
            user = table.find_user(connection, caller.user_id)
        if user is None:
            raise wrong_password()
        hashed = self._new_hash(user, new)
        with self._connections.connection() as connection, connection.transaction():
            table.lock_user(connection, user.id)
            # Somebody may have changed it meanwhile.
            account = account_of(connection, user.id, None)
            if account is None or account.password_hash != old_hash:
                raise wrong_password()
            self._set(connection, user.id, hashed, origin, by="old password")

    def _new_hash(self, user: table.UserRow, password: str) -> str:
        return self._passwords.new_hash(password, email=user.email, username=user.username)

    def _set(
        self, connection: Connection, user_id: uuid.UUID, hashed: str, origin: Origin, by: str
    ) -> None:
        table.set_password_hash(connection, user_id, hashed)
        delete_tokens(connection, "password", user_id)
        ended = table.end_sessions(connection, user_id, "password")
        _record(connection, user_id, origin, "user.password", by=by, ended_sessions=ended)


def _record(
    connection: Connection, user_id: uuid.UUID, origin: Origin, action: str, **details: object
) -> None:
    principal = f"user:{user_id}"
    entry = AuditRecord(
        action, "allowed", principal, principal, origin.request_id, origin.address, details
    )
    append(connection, [entry])
