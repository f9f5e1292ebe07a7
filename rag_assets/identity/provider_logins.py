"""Logins at an OpenID Connect provider, of users who exist already.

The client of `begin` keeps the flow, which only this deployment reads, and gives it back with the code. So a code is
accepted from nobody but who began its login, without a cookie and without a table.
"""

from __future__ import annotations

import hmac
import json
import secrets
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rag_assets.identity.changes import Origin
from rag_assets.identity.logins import Audit
from rag_assets.identity.sessions import NewTokens, Sessions
from rag_assets.pipeline.audit_record import AuditRecord
from resources.errors import ConfigError, NotAuthenticated
from resources.postgres.connection_pool import Connections
from resources.postgres.identity.audit_chain import append
from resources.postgres.identity.provider_users import record_provider_login
from resources.secret_key import SecretKey

if TYPE_CHECKING:
    from resources.oidc_provider import OidcProvider

#: Seconds that a user may take at the provider.
LIFETIME = 600
_PURPOSE = "oidc flow"


@dataclass(frozen=True, slots=True)
class ProviderLogin:
    """A login that has begun. `flow`: kept by the client, shown to nobody."""

    authorization_url: str
    flow: str


class ProviderLogins:
    """All methods block. Safe in threads."""

    def __init__(
        self,
        connections: Connections,
        sessions: Sessions,
        secret: SecretKey,
        provider: OidcProvider,
        audit: Audit,
    ) -> None:
        self._connections, self._sessions, self._secret = connections, sessions, secret
        self._provider, self._audit = provider, audit

    def begin(self) -> ProviderLogin:
        """Return where the user logs in. Raises Overloaded while the provider does not answer."""
        state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
        flow = {"state": state, "nonce": nonce, "verifier": verifier, "began": int(time.time())}
        return ProviderLogin(
            self._provider.authorization_url(state, nonce, verifier),
            self._secret.encrypt(_PURPOSE, json.dumps(flow).encode()),
        )

    def finish(
        self, flow: str, state: str, code: str, issuer: str, origin: Origin, user_agent: str = ""
    ) -> NewTokens:
        """Start a session of the user that the code is for. `issuer`: as the provider added it (RFC 9207), or "".

        Raises NotAuthenticated, and Overloaded while the provider does not answer.
        """
        try:
            nonce, verifier = self._opened(flow, state, issuer)
            identity = self._provider.identity(code, nonce, verifier)
            with self._connections.connection() as connection, connection.transaction():
                user = record_provider_login(connection, identity.subject, identity.email)
                if user is None:
                    raise _refused()
                session = self._sessions.start(
                    connection, user.id, user.version, origin, user_agent
                )
                record = AuditRecord(
                    "auth.login",
                    "allowed",
                    f"user:{user.id}",
                    f"session:{session.session_id}",
                    origin.request_id,
                    origin.address,
                    {"by": self._provider.issuer},
                )
                append(connection, [record])
        except NotAuthenticated:
            details = {"by": self._provider.issuer}
            self._audit.note(
                AuditRecord(
                    "auth.login",
                    "denied",
                    "anonymous",
                    "",
                    origin.request_id,
                    origin.address,
                    details,
                )
            )
            raise
        return self._sessions.tokens(session)

    def _opened(self, flow: str, state: str, issuer: str) -> tuple[str, str]:
        """Return the nonce and the verifier of a flow that this deployment began, with this state."""
        with suppress(ConfigError, ValueError):
            opened = json.loads(self._secret.decrypt(_PURPOSE, flow))
            age = time.time() - opened["began"]
            if (
                hmac.compare_digest(opened["state"].encode(), state.encode())
                and age < LIFETIME
                and issuer.rstrip("/") in ("", self._provider.issuer)
            ):
                return opened["nonce"], opened["verifier"]
        raise _refused()


def _refused() -> NotAuthenticated:
    return NotAuthenticated("This login is not accepted.")
