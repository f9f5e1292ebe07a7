"""The ring of keys that sign and verify access tokens: read from PostgreSQL, rotated at need and by hand.

A key signs for some weeks and verifies until the last of its tokens has expired. Private keys are encrypted with the
deployment's secret, so a copy of the database signs nothing.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from rag_assets.pipeline.audit_record import AuditRecord
from resources.errors import ConfigError
from resources.postgres.connection import Connection
from resources.postgres.connection_pool import Connections
from resources.postgres.identity import signing_keys
from resources.postgres.identity.audit_chain import append
from resources.postgres.identity.signing_keys import SigningKeyRow
from resources.secret_key import SecretKey

#: Seconds in which the ring is not read again: a key that is withdrawn is refused by all processes after this time.
FRESH = 1.5
#: Seconds between two reads of the ring for keys that it does not contain: forged tokens must not cost queries.
UNKNOWN = 1.0
#: A process may sign with a replaced key until it reads the ring again, and clocks differ.
MARGIN = timedelta(seconds=60)
_PURPOSE = "signing key"


@dataclass(frozen=True, slots=True)
class Signer:
    """The key that signs."""

    kid: str
    private: Ed25519PrivateKey


@dataclass(frozen=True)
class Ring:
    """The keys of one moment. `keys`: the header of a token, encoded as in the token -> the key that verifies it.

    Every token of a key has the same header, so a token is looked up by its bytes: members that do not belong there,
    such as `crit` or `jwk`, other algorithms, and members that occur twice find no key. Nothing is parsed for that.
    """

    keys: Mapping[str, Ed25519PublicKey]
    rows: Sequence[SigningKeyRow] = ()

    @classmethod
    def of(cls, rows: Sequence[SigningKeyRow]) -> Ring:
        return cls(
            {
                token_header(row.kid): Ed25519PublicKey.from_public_bytes(row.public_key)
                for row in rows
            },
            rows,
        )


@dataclass(frozen=True, slots=True)
class KeyTimes:
    """How long a key signs, and its tokens live."""

    signs: timedelta = timedelta(days=30)
    tokens_live: timedelta = timedelta(minutes=10)


class KeyRing:
    """The ring in PostgreSQL, as this process last read it. Safe in threads."""

    def __init__(
        self,
        connections: Connections,
        secret: SecretKey,
        times: KeyTimes = KeyTimes(),
    ) -> None:
        self._connections, self._secret, self._times = connections, secret, times
        self._lock = threading.Lock()
        self._ring: Ring | None = None
        self._read_at = self._searched_at = float("-inf")
        self._signer: Signer | None = None

    def recent(self) -> Ring | None:
        """Return the ring if it was read a moment ago. Never blocks."""
        return self._ring if time.monotonic() - self._read_at < FRESH else None

    def ring(self) -> Ring:
        """Return the ring, read again if it is too old."""
        with self._lock:
            return self.recent() or self._read()

    def verifier(self, header: str) -> Ed25519PublicKey | None:
        """Return the key for the encoded header of a token. An unknown one causes at most one query a second."""
        with self._lock:
            ring = self.recent() or self._read()
            if header in ring.keys or not is_token_header(header):
                return ring.keys.get(header)
            if time.monotonic() - self._searched_at >= UNKNOWN:
                self._searched_at = time.monotonic()
                ring = self._read()
            return ring.keys.get(header)

    def signer(self) -> Signer:
        """Return the key that signs. It is made if there is none, or none that this deployment's secret decrypts."""
        with self._lock:
            ring = self.recent() or self._read()
            signer = self._first_signer(ring.rows)
            if signer is None:
                with self._connections.connection() as connection, connection.transaction():
                    signing_keys.lock_keys(connection)
                    # Several processes may find none at once: the first one makes it.
                    if self._first_signer(signing_keys.live_keys(connection)) is None:
                        _make(connection, self._secret, self._times, "system")
                signer = self._first_signer(self._read().rows)
                assert signer is not None
            self._signer = signer
            return signer

    def _first_signer(self, rows: Sequence[SigningKeyRow]) -> Signer | None:
        for row in rows:
            if not row.signs:
                continue
            if self._signer is not None and self._signer.kid == row.kid:
                return self._signer
            # After the secret was lost, nothing decrypts the keys of before. They still verify.
            with suppress(ConfigError):
                private = self._secret.decrypt(_PURPOSE, row.private_key_encrypted)
                return Signer(row.kid, Ed25519PrivateKey.from_private_bytes(private))
        return None

    def _read(self) -> Ring:
        began = time.monotonic()
        with self._connections.connection() as connection:
            ring = Ring.of(signing_keys.live_keys(connection))
        self._ring, self._read_at = ring, began
        return ring


def rotate(
    connection: Connection,
    secret: SecretKey,
    times: KeyTimes,
    principal: str,
    *,
    revoke: bool = False,
) -> str:
    """Let a new key sign from now on. Returns its kid. `revoke`: refuse the tokens of the earlier keys at once.

    Running processes see it within two seconds.
    """
    with connection.transaction():
        signing_keys.lock_keys(connection)
        tokens_live = timedelta(0) if revoke else times.tokens_live + MARGIN
        replaced = signing_keys.retire_keys(connection, tokens_live)
        return _make(connection, secret, times, principal, replaces=replaced, revoked=revoke)


def _make(
    connection: Connection, secret: SecretKey, times: KeyTimes, principal: str, **details: object
) -> str:
    private = Ed25519PrivateKey.generate()
    public = private.public_key().public_bytes_raw()
    kid = thumbprint(public)
    encrypted = secret.encrypt(_PURPOSE, private.private_bytes_raw())
    signing_keys.add_key(
        connection, kid, public, encrypted, times.signs, times.tokens_live + MARGIN
    )
    target = f"signing_key:{kid}"
    append(connection, [AuditRecord("token.rotate", "allowed", principal, target, details=details)])
    return kid


def thumbprint(public_key: bytes) -> str:
    """Return the name of a key (kid): its thumbprint (RFC 7638)."""
    members = {"crv": "Ed25519", "kty": "OKP", "x": _base64url(public_key)}
    text = json.dumps(members, separators=(",", ":"))
    return _base64url(hashlib.sha256(text.encode()).digest())


def token_header(kid: str) -> str:
    """Return the header of the tokens of a key, encoded as in a token."""
    header = {"alg": "EdDSA", "kid": kid, "typ": "at+jwt"}
    return _base64url(json.dumps(header, separators=(",", ":")).encode())


def is_token_header(header: str) -> bool:
    """Return whether this is the encoded header of a token of some key, also of one that is unknown here."""
    try:
        kid = json.loads(base64.urlsafe_b64decode(header + "=" * (-len(header) % 4)))["kid"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return False
    return isinstance(kid, str) and len(kid) == 43 and token_header(kid) == header


def public_jwk(row: SigningKeyRow) -> dict[str, str]:
    """Return the public key as a JSON Web Key (RFC 8037)."""
    return {
        "kty": "OKP",
        "crv": "Ed25519",
        "x": _base64url(row.public_key),
        "kid": row.kid,
        "alg": "EdDSA",
        "use": "sig",
    }


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
