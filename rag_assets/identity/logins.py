"""Logins with a password: one answer for everything that is wrong, after the same time."""

from __future__ import annotations

import threading
import time
import uuid
from typing import Protocol

from rag_assets.identity.changes import Origin
from rag_assets.identity.login_delays import Attempt, LoginDelays
from rag_assets.identity.sessions import NewTokens, Sessions, address_of
from rag_assets.pipeline.audit_record import AuditRecord, Outcome
from resources.errors import LimitExceeded, NotAuthenticated, Overloaded
from resources.postgres.connection_pool import Connections
from resources.postgres.identity import login_failures as table
from resources.postgres.identity.audit_chain import append
from resources.postgres.identity.login_failures import Account

#: Seconds between two records of attempts that had to wait: a flood of them must not become one of the audit.
BETWEEN_RECORDS = 1.0


class Hashes(Protocol):
    """Verifies passwords: `Passwords`."""

    def hash(self, password: str) -> str: ...
    def verify(self, hashed: str | None, password: str) -> bool: ...
    def needs_rehash(self, hashed: str) -> bool: ...


class Audit(Protocol):
    """Writes records outside of a transaction: `AuditLog`."""

    def write(self, record: AuditRecord) -> object: ...
    def note(self, record: AuditRecord) -> None: ...


class Logins:
    """Verifies names with passwords. All methods block. Safe in threads."""

    def __init__(
        self,
        connections: Connections,
        passwords: Hashes,
        sessions: Sessions,
        delays: LoginDelays,
        audit: Audit,
    ) -> None:
        self._connections, self._passwords = connections, passwords
        self._sessions, self._delays, self._audit = sessions, delays, audit
        self._lock = threading.Lock()
        self._noted_at, self._not_noted = float("-inf"), 0

    def login(self, name: str, password: str, origin: Origin, user_agent: str = "") -> NewTokens:
        """Start a session of the user of an email address or a username.

        Raises NotAuthenticated, LimitExceeded if the attempt has to wait (then no hash is computed), and Overloaded.
        """
        name = name.strip()
        with self._connections.connection() as connection:
            account = table.find_account(connection, name, address_of(origin))
        attempt = self._verify(account, name, password, origin, "auth.login")
        assert account is not None
        assert account.password_hash is not None
        new_hash = self._rehashed(account.password_hash, password)
        with self._connections.connection() as connection, connection.transaction():
            # One that went round the delay of the account does not end it: others still guess.
            version = table.record_login(
                connection,
                account.id,
                account.version,
                new_hash,
                ends_delay=attempt.counted_account,
            )
            if version is None:
                raise wrong_password()
            session = self._sessions.start(connection, account.id, version, origin, user_agent)
            target = f"session:{session.session_id}"
            append(connection, [_record("auth.login", "allowed", account.id, target, origin)])
        return self._sessions.tokens(session)

    def verify_own(self, user_id: uuid.UUID, password: str, origin: Origin) -> str:
        """Return the hash of the user's password, which this is: before it is changed. Raises as `login` does."""
        with self._connections.connection() as connection:
            account = table.account_of(connection, user_id, address_of(origin))
        self._verify(account, str(user_id), password, origin, "auth.password")
        assert account is not None
        assert account.password_hash is not None
        return account.password_hash

    def _verify(
        self, account: Account | None, name: str, password: str, origin: Origin, action: str
    ) -> Attempt:
        """Return the attempt. Raise unless it is the password of the account.

        The attempt is counted while the password is verified, and taken back if it is right.
        """
        user_id = account and account.id
        try:
            attempt = self._delays.admit(account, name, origin.address)
        except LimitExceeded:
            self._note(user_id, origin, action)
            raise
        may_log_in = account is not None and account.may_log_in
        hashed = account.password_hash if account is not None and may_log_in else None
        try:
            is_right = self._passwords.verify(hashed, password)
        except Overloaded:
            self._delays.take_back(attempt)
            raise
        if not is_right or not may_log_in:
            self._audit.write(_record(action, "denied", user_id, "", origin))
            raise wrong_password()
        self._delays.take_back(attempt)
        return attempt

    def _rehashed(self, hashed: str, password: str) -> str | None:
        if not self._passwords.needs_rehash(hashed):
            return None
        try:
            return self._passwords.hash(password)
        except Overloaded:
            # At a later login.
            return None

    def _note(self, user_id: uuid.UUID | None, origin: Origin, action: str) -> None:
        with self._lock:
            self._not_noted += 1
            if time.monotonic() - self._noted_at < BETWEEN_RECORDS:
                return
            attempts, self._not_noted = self._not_noted, 0
            self._noted_at = time.monotonic()
        details = {"reason": "delay", "attempts": attempts}
        self._audit.note(_record(action, "denied", user_id, "", origin, **details))


def wrong_password() -> NotAuthenticated:
    return NotAuthenticated("This name and password are not accepted.")


def _record(
    action: str,
    outcome: Outcome,
    user_id: uuid.UUID | None,
    target: str,
    origin: Origin,
    **details: object,
) -> AuditRecord:
    principal = f"user:{user_id}" if user_id and outcome == "allowed" else "anonymous"
    return AuditRecord(
        action,
        outcome,
        principal,
        target or (f"user:{user_id}" if user_id else ""),
        origin.request_id,
        origin.address,
        details,
    )
