"""Access tokens: JWTs (RFC 9068) that name a user, the user's version and the session, for ten minutes.

A token proves who logged in. Whether the user and the session are still what they were is looked up by the
authentication, within two seconds of a change.
"""

from __future__ import annotations

import json
import re
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Protocol

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from rag_assets.identity.key_ring import Ring, Signer, public_jwk
from resources.errors import NotAuthenticated

#: Characters: more than twice those of our tokens with a long issuer and audience.
LONGEST = 2048
#: Seconds by which the clocks of two processes may differ.
LEEWAY = 5
_REQUIRED = ("exp", "iat", "iss", "aud", "sub", "jti", "sid", "tv")
#: Three parts in base64url without padding; the last one is a signature of 64 bytes.
_FORM = re.compile(r"[\w-]+\.[\w-]+\.[\w-]{86}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Claims:
    """Who a token is for. `version`: of the user (`users.version`) when it was issued."""

    user_id: uuid.UUID
    version: int
    session_id: uuid.UUID


class Keys(Protocol):
    """A ring of keys, such as `KeyRing`."""

    def recent(self) -> Ring | None: ...
    def ring(self) -> Ring: ...
    def verifier(self, header: str) -> Ed25519PublicKey | None: ...
    def signer(self) -> Signer: ...


class AccessTokens:
    """Issues and verifies access tokens. `issuer` and `audience` are settings, never taken from a request."""

    def __init__(
        self,
        keys: Keys,
        *,
        issuer: str = "rag-assets",
        audience: str = "rag-assets",
        lifetime: timedelta = timedelta(minutes=10),
    ) -> None:
        self._keys = keys
        self._issuer, self._audience, self.lifetime = issuer, audience, lifetime
        self._jwt = _Jwt()

    def issue(self, user_id: uuid.UUID, version: int, session_id: uuid.UUID) -> str:
        """Return a new token. Blocks."""
        signer = self._keys.signer()
        now = int(time.time())
        claims = {
            "iss": self._issuer,
            "aud": self._audience,
            "iat": now,
            "exp": now + int(self.lifetime.total_seconds()),
            "sub": str(user_id),
            "jti": uuid.uuid4().hex,
            "sid": str(session_id),
            "tv": version,
        }
        headers = {"kid": signer.kid, "typ": "at+jwt"}
        return self._jwt.encode(claims, signer.private, algorithm="EdDSA", headers=headers)

    def recent(self, token: str) -> Claims | None:
        """Return the claims, or None if PostgreSQL must be asked for the key: then call `verify`. Never blocks.

        Raises NotAuthenticated.
        """
        header = _header(token)
        ring = self._keys.recent()
        key = None if ring is None else ring.keys.get(header)
        return None if key is None else self._claims(token, key)

    def verify(self, token: str) -> Claims:
        """Return the claims. Blocks. Raises NotAuthenticated."""
        key = self._keys.verifier(_header(token))
        if key is None:
            raise refused()
        return self._claims(token, key)

    def public_keys(self) -> Sequence[dict[str, str]]:
        """Return the JSON Web Keys with which anybody can verify tokens. Blocks."""
        return [public_jwk(row) for row in self._keys.ring().rows]

    def _claims(self, token: str, key: Ed25519PublicKey) -> Claims:
        try:
            claims = self._jwt.decode(
                token,
                key,
                algorithms=["EdDSA"],
                audience=self._audience,
                issuer=self._issuer,
                leeway=LEEWAY,
                options={"require": list(_REQUIRED), "strict_aud": True},
            )
        except jwt.InvalidTokenError:
            raise refused() from None
        # PyJWT takes "1", 1.5 and true for times.
        times = [claims[name] for name in ("exp", "iat", "nbf", "tv") if name in claims]
        identifiers = [claims["sub"], claims["sid"]]
        if not all(type(value) is int for value in times) or not all(map(_is_uuid, identifiers)):
            raise refused()
        return Claims(uuid.UUID(claims["sub"]), claims["tv"], uuid.UUID(claims["sid"]))


def refused() -> NotAuthenticated:
    """Return the error for every token, key and password that is not accepted."""
    return NotAuthenticated("This key or token is not accepted.")


def _header(token: str) -> str:
    if len(token) > LONGEST or not _FORM.fullmatch(token):
        raise refused()
    return token.partition(".")[0]


def _is_uuid(value: object) -> bool:
    try:
        return isinstance(value, str) and str(uuid.UUID(value)) == value
    except ValueError:
        return False


class _Jwt(jwt.PyJWT):
    """PyJWT that refuses claims with a member that occurs twice, of which others may take the other one."""

    def _decode_payload(self, decoded: dict[str, Any]) -> dict[str, Any]:
        try:
            claims = json.loads(decoded["payload"], object_pairs_hook=_members)
        except (ValueError, RecursionError) as error:
            raise jwt.DecodeError("The claims are no JSON object.") from error
        if not isinstance(claims, dict):
            raise jwt.DecodeError("The claims are no JSON object.")
        return claims


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("A member occurs twice.")
    return members
