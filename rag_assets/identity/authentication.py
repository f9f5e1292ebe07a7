"""Who sends a request: the principal of an API key or of the claims of an access token.

An answer is remembered for CACHED seconds, so that a changed role, a lock or a revocation acts within two seconds in
every process. Nothing is remembered of a credential that was not accepted.
"""

from __future__ import annotations

import hashlib
import hmac
import threading
import time
import uuid
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import cast

from rag_assets.identity.api_key_format import parse_key
from rag_assets.identity.deployment_secret import expect_secret
from rag_assets.identity.key_uses import KeyUses
from rag_assets.pipeline.access import AccessScope
from rag_assets.pipeline.permissions import Permission, Role, effective_permissions
from rag_assets.pipeline.principal import Principal
from resources.errors import NotAuthenticated
from resources.postgres.connection import Connection
from resources.postgres.connection_pool import Connections
from resources.postgres.identity.api_keys import (
    Network,
    StoredKey,
    find_live_key,
    replace_hash,
)
from resources.postgres.identity.users import UserAccess, access_of_session
from resources.secret_key import SecretKey

#: Seconds for which an answer is remembered, from before its query, and the maximum of answers.
CACHED = 1.5
MAX_CACHED = 10_000

#: Derives the key of the hashes of API keys from the deployment's secret.
KEY_PURPOSE = "api key"


@dataclass(frozen=True, slots=True)
class _Answer:
    """A principal until `ends` (monotonic), for requests from `networks`; empty: from everywhere."""

    principal: Principal
    ends: float
    networks: Sequence[Network] = ()
    key: uuid.UUID | None = None


class Authenticator:
    """Recognises API keys and users. Safe in threads. `close` writes the uses of keys that are not written yet."""

    def __init__(
        self,
        connections: Connections,
        secret: SecretKey,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connections, self._secret, self._clock = connections, secret, clock
        self._uses = KeyUses(connections)
        self._answers: dict[Hashable, _Answer] = {}
        self._lock = threading.Lock()
        self._secret_is_known = False

    def close(self) -> None:
        self._uses.close()

    def check_secret(self) -> None:
        """Raise ConfigError if the keys in the database were made with another secret."""
        with self._connections.connection() as connection:
            self._expect_secret(connection)

    def recent(self, credential: str, address: str) -> Principal | None:
        """Return the principal of a key that was accepted a moment ago. Never blocks; counts the use."""
        answer = self._answer(_digest(credential))
        if answer is None or not _is_in(address, answer.networks):
            return None
        if answer.key is not None:
            self._uses.add(answer.key)
        return answer.principal

    def recent_user(
        self, user_id: uuid.UUID, version: int, session_id: uuid.UUID
    ) -> Principal | None:
        """Return the principal of a session that was accepted a moment ago. Never blocks."""
        answer = self._answer((user_id, version, session_id))
        return answer and answer.principal

    def by_key(self, key: str, address: str) -> Principal:
        """Return the principal of an API key that is used from an address. Raises NotAuthenticated."""
        parsed = parse_key(key)
        if parsed is None:
            raise _not_accepted()
        if (principal := self.recent(key, address)) is not None:
            return principal
        asked = self._clock()
        with self._connections.connection() as connection:
            self._expect_secret(connection)
            stored = find_live_key(connection, parsed.prefix)
            hashes = key_hashes(self._secret, parsed.secret)
            # Also without a stored key: the answer takes the same time.
            expected = stored.key_hash if stored else ""
            matches = [hmac.compare_digest(expected, each) for each in hashes]
            if stored is None or not any(matches) or not _is_in(address, stored.networks):
                raise _not_accepted()
            if not matches[0]:
                replace_hash(connection, stored.id, expected, hashes[0])
        lifetime = CACHED if stored.seconds_left is None else min(CACHED, stored.seconds_left)
        principal = _principal_of_key(stored, parsed.id)
        answer = _Answer(principal, asked + lifetime, stored.networks, stored.id)
        self._remember(_digest(key), answer)
        self._uses.add(stored.id)
        return principal

    def by_user(self, user_id: uuid.UUID, version: int, session_id: uuid.UUID) -> Principal:
        """Return the principal of an access token's claims.

        Raises NotAuthenticated if the user is locked, its rights have changed since the token, or the session ended.
        """
        if (principal := self.recent_user(user_id, version, session_id)) is not None:
            return principal
        asked = self._clock()
        with self._connections.connection() as connection:
            access = access_of_session(connection, user_id, version, session_id)
        if access is None:
            raise _not_accepted()
        principal = principal_of(access, session_id=session_id)
        self._remember((user_id, version, session_id), _Answer(principal, asked + CACHED))
        return principal

    def _expect_secret(self, connection: Connection) -> None:
        if not self._secret_is_known:
            expect_secret(connection, self._secret)
            self._secret_is_known = True

    def _answer(self, credential: Hashable) -> _Answer | None:
        answer = self._answers.get(credential)
        return answer if answer is not None and answer.ends > self._clock() else None

    def _remember(self, credential: Hashable, answer: _Answer) -> None:
        with self._lock:
            if len(self._answers) >= MAX_CACHED:
                now = self._clock()
                live = {key: each for key, each in self._answers.items() if each.ends > now}
                self._answers = live if len(live) < MAX_CACHED else {}
            self._answers[credential] = answer


def key_hashes(secret: SecretKey, secret_part: str) -> list[str]:
    """Return the hash of a key's secret part under each of the deployment's secrets; the first is stored."""
    return [each.hex() for each in secret.hmacs(KEY_PURPOSE, secret_part.encode())]


def principal_of(access: UserAccess, *, session_id: uuid.UUID | None = None) -> Principal:
    """Return the principal of a user's access."""
    role = cast(Role, access.role)
    permissions = effective_permissions(role, access.permissions)
    scope = _scope(access, f"user:{access.user_id}", permissions)
    return Principal(access.user_id, access.username, role, scope, session_id=session_id)


def _principal_of_key(key: StoredKey, public_id: str) -> Principal:
    role = cast(Role, key.role)
    permissions = effective_permissions(role, key.permissions, key.key_permissions)
    scope = _scope(key, f"key:{public_id}", permissions)
    limit = key.rate_limit_per_minute
    return Principal(
        key.user_id, key.username, role, scope, key_id=public_id, requests_per_minute=limit
    )


def _scope(
    access: UserAccess | StoredKey, identity: str, permissions: frozenset[Permission]
) -> AccessScope:
    if access.role == "super_admin":
        return AccessScope(identity, None, None, None, permissions)
    granted = (access.sources, access.accounts, access.chat_bots)
    return AccessScope(identity, *map(frozenset, granted), permissions=permissions)


def _is_in(address: str, networks: Sequence[Network]) -> bool:
    if not networks:
        return True
    try:
        parsed = ip_address(address)
    except ValueError:
        return False
    # An IPv4 client of a server on an IPv6 socket is ::ffff:a.b.c.d.
    parsed = getattr(parsed, "ipv4_mapped", None) or parsed
    return any(parsed in network for network in networks)


def _digest(credential: str) -> bytes:
    return hashlib.sha256(credential.encode("utf-8", "surrogatepass")).digest()


def _not_accepted() -> NotAuthenticated:
    return NotAuthenticated("This key or token is not accepted.")
