"""Sessions: a login gives an access token for minutes and a refresh token, which is exchanged at each use.

All refresh tokens of a login are one family. A token that is used a second time was stolen, or the thief used it first:
the family ends (RFC 9700). An answer may be lost, so for GRACE seconds, while the successor was not used itself, a
second use gets the same successor again: whoever has the old token in these seconds gets no family of its own, and the
next use of the successor by the other one ends the family.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
import threading
import time
import uuid
from dataclasses import dataclass
from datetime import timedelta
from ipaddress import ip_address

from cryptography.fernet import Fernet

from rag_assets.identity.access_tokens import AccessTokens, refused
from rag_assets.identity.changes import COMMAND_LINE, Origin, record
from rag_assets.pipeline.audit_record import AuditRecord, Outcome
from rag_assets.pipeline.principal import Principal
from resources.errors import LimitExceeded
from resources.postgres.connection import Connection
from resources.postgres.connection_pool import Connections
from resources.postgres.identity import sessions as table
from resources.postgres.identity.audit_chain import append
from resources.postgres.identity.sessions import SessionRow
from resources.postgres.identity.users import end_sessions

#: Seconds in which a refresh token may be sent again, since the answer to its first use may be lost.
GRACE = 10.0
#: Refresh tokens of a session in a minute, each of which is kept as long as the session.
A_MINUTE = 10
#: Seconds between two deletions of ended sessions by one process, and the maximum of sessions in one.
CLEANING, CLEANED = 60.0, 500
_PREFIX = "rag_rt_"
_FORM = re.compile(_PREFIX + r"[\w-]{43}", re.ASCII)


@dataclass(frozen=True, slots=True)
class NewTokens:
    """What a login or a refresh gives. `expires_in`: seconds in which the access token is accepted."""

    access_token: str
    refresh_token: str
    expires_in: int


@dataclass(frozen=True, slots=True)
class NewSession:
    """A session that was added in a transaction; `Sessions.tokens` gives its tokens after the commit."""

    user_id: uuid.UUID
    version: int
    session_id: uuid.UUID
    refresh_token: str


class Sessions:
    """Starts, refreshes and ends sessions. All methods block. Safe in threads."""

    def __init__(
        self,
        connections: Connections,
        tokens: AccessTokens,
        *,
        lifetime: timedelta = timedelta(days=30),
        idle: timedelta = timedelta(days=14),
    ) -> None:
        self._connections, self._tokens = connections, tokens
        self._lifetime, self._idle = lifetime, idle
        self._cleaning = threading.Lock()
        self._cleaned_at = float("-inf")

    def start(
        self,
        connection: Connection,
        user_id: uuid.UUID,
        version: int,
        origin: Origin,
        user_agent: str = "",
    ) -> NewSession:
        """Add a session in the caller's transaction, which also records why in the audit."""
        token = _new_token()
        session_id = table.add_session(
            connection,
            user_id,
            _digest(token),
            self._lifetime,
            address_of(origin),
            user_agent,
        )
        return NewSession(user_id, version, session_id, token)

    def tokens(self, session: NewSession) -> NewTokens:
        """Return the tokens of a session whose transaction was committed."""
        access_token = self._tokens.issue(session.user_id, session.version, session.session_id)
        lifetime = int(self._tokens.lifetime.total_seconds())
        return NewTokens(access_token, session.refresh_token, lifetime)

    def refresh(self, token: str, origin: Origin) -> NewTokens:
        """Exchange a refresh token. Raises NotAuthenticated, and LimitExceeded; the access token is not looked at."""
        if not _FORM.fullmatch(token):
            raise refused()
        self._clean()
        with self._connections.connection() as connection, connection.transaction():
            session = table.lock_session(connection, _digest(token), self._idle)
            successor = None
            if session is not None and session.lives:
                successor = self._successor(connection, session, token, origin)
        if session is None or successor is None:
            raise refused()
        return self.tokens(NewSession(session.user_id, session.version, session.id, successor))

    def _successor(
        self, connection: Connection, session: SessionRow, token: str, origin: Origin
    ) -> str | None:
        """Return the token that follows in the locked session. None, and the session has ended: it was a reuse."""
        row = table.refresh_token(connection, _digest(token))
        if row.seconds_since_use is None:
            if row.issued_lately >= A_MINUTE:
                # Nothing has changed: the token is accepted later.
                raise LimitExceeded(f"Expected at most {A_MINUTE} refreshes a minute.", 60.0)
            successor = _new_token()
            encrypted = _cipher(token).encrypt(successor.encode()).decode()
            table.exchange(connection, session.id, _digest(token), _digest(successor), encrypted)
            return successor
        if row.seconds_since_use < GRACE and row.successor_encrypted:
            return _cipher(token).decrypt(row.successor_encrypted.encode()).decode()
        table.revoke(connection, session.id, "reuse")
        _record(connection, session, origin, "auth.refresh", "denied", reason="reuse")
        return None

    def end(self, token: str, origin: Origin, *, everywhere: bool = False) -> None:
        """End the session of a refresh token, if there is one. `everywhere`: all sessions of its user.

        A token that was exchanged suffices: who has it could end the session by using it.
        """
        if not _FORM.fullmatch(token):
            return
        with self._connections.connection() as connection, connection.transaction():
            session = table.lock_session(connection, _digest(token), self._idle)
            if session is None or not session.lives:
                return
            ended = (
                end_sessions(connection, session.user_id, "logout")
                if everywhere
                else int(table.revoke(connection, session.id, "logout"))
            )
            _record(connection, session, origin, "auth.logout", "allowed", ended_sessions=ended)

    def _clean(self) -> None:
        """Delete some of the sessions that ended long ago, now and then."""
        if not self._cleaning.acquire(blocking=False):
            return
        try:
            if time.monotonic() - self._cleaned_at < CLEANING:
                return
            self._cleaned_at = time.monotonic()
            with self._connections.connection() as connection:
                table.forget_ended(connection, self._idle, CLEANED)
        finally:
            self._cleaning.release()


def end_all(
    connection: Connection,
    actor: Principal,
    user_id: uuid.UUID,
    origin: Origin = COMMAND_LINE,
) -> int:
    """End all sessions of a user, whose access tokens are refused within two seconds. Returns their number."""
    with connection.transaction():
        ended = end_sessions(connection, user_id, "ended")
        record(connection, actor, origin, "session.end", f"user:{user_id}", ended_sessions=ended)
    return ended


def address_of(origin: Origin) -> str | None:
    """Return the address as PostgreSQL stores it; None if it is none, such as that of a socket."""
    try:
        return str(ip_address(origin.address))
    except ValueError:
        return None


def _record(
    connection: Connection,
    session: SessionRow,
    origin: Origin,
    action: str,
    outcome: Outcome,
    **details: object,
) -> None:
    record = AuditRecord(
        action,
        outcome,
        f"user:{session.user_id}",
        f"session:{session.id}",
        origin.request_id,
        origin.address,
        details,
    )
    append(connection, [record])


def _new_token() -> str:
    return _PREFIX + secrets.token_urlsafe(32)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def _cipher(token: str) -> Fernet:
    """Return the cipher of a token's successor: only who has the token can read it."""
    key = hmac.digest(token.encode(), b"successor", hashlib.sha256)
    return Fernet(base64.urlsafe_b64encode(key))
