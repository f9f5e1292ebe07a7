"""An OpenID Connect provider: where users log in, and who they are according to it.

The flow is that of a code with PKCE. The ID token is verified as strictly as our own tokens, whatever it says itself.
"""

from __future__ import annotations

import hmac
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jwt
import requests
from authlib.integrations.base_client import OAuthError
from authlib.integrations.requests_client import OAuth2Session

from resources.errors import NotAuthenticated, Overloaded

#: Only with keys that the provider publishes.
ALGORITHMS = ("RS256", "PS256", "ES256", "EdDSA")
#: Seconds for a request, by which clocks may differ, for which the provider's description is used, between two reads of
#: its keys for one that is unknown, and after a description that was not got: logins must not wait for it in turn.
TIMEOUT, LEEWAY, DESCRIBED, UNKNOWN, AWAY = 10.0, 30, 3600.0, 60.0, 5.0
_DESCRIPTION = "/.well-known/openid-configuration"


@dataclass(frozen=True, slots=True)
class Identity:
    """A user of the provider. `subject`: never given to another user. `email`: verified by the provider."""

    subject: str
    email: str


class OidcProvider:
    """Safe in threads. Raises Overloaded while the provider does not answer as it must."""

    def __init__(self, issuer: str, client_id: str, client_secret: str, redirect_url: str) -> None:
        self.issuer = issuer.rstrip("/")
        self._client_id, self._client_secret = client_id, client_secret
        self._redirect_url = redirect_url
        self._lock = threading.Lock()
        self._description: Mapping[str, Any] = {}
        self._described_at = self._keys_read_at = self._away_at = float("-inf")
        self._keys: Mapping[str | None, jwt.PyJWK] = {}

    def authorization_url(self, state: str, nonce: str, verifier: str) -> str:
        """Return the address at which a user logs in."""
        with self._client() as client:
            url, _ = client.create_authorization_url(
                self._described()["authorization_endpoint"],
                state=state,
                nonce=nonce,
                code_verifier=verifier,
            )
        return url

    def identity(self, code: str, nonce: str, verifier: str) -> Identity:
        """Return the user that a code is for. Raises NotAuthenticated."""
        with self._client() as client:
            try:
                tokens = client.fetch_token(
                    self._described()["token_endpoint"],
                    grant_type="authorization_code",
                    code=code,
                    code_verifier=verifier,
                    timeout=TIMEOUT,
                    allow_redirects=False,
                )
            except OAuthError:
                raise _refused() from None
            except (requests.RequestException, ValueError) as error:
                raise _away() from error
        claims = self._claims(tokens.get("id_token"))
        sent, email = claims.get("nonce"), claims.get("email")
        if not isinstance(sent, str) or not hmac.compare_digest(sent.encode(), nonce.encode()):
            raise _refused()
        # Not "true": some providers let users choose that text.
        if claims.get("email_verified") is not True or not isinstance(email, str):
            raise _refused()
        return Identity(f"{self.issuer} {claims['sub']}", email)

    def _claims(self, token: object) -> Mapping[str, Any]:
        if not isinstance(token, str):
            raise _refused()
        try:
            key = self._key(jwt.get_unverified_header(token).get("kid"))
            claims = jwt.decode(
                token,
                key,
                algorithms=ALGORITHMS,
                audience=self._client_id,
                issuer=self._issuers,
                leeway=LEEWAY,
                options={"require": ["exp", "iat", "iss", "aud", "sub", "nonce"]},
            )
        except jwt.PyJWTError:
            raise _refused() from None
        # OpenID Connect Core, 3.1.3.7: a token for several parties names the one that it was issued to.
        is_for_several = isinstance(claims["aud"], list) and len(claims["aud"]) > 1
        if claims.get("azp", None if is_for_several else self._client_id) != self._client_id:
            raise _refused()
        return claims

    @property
    def _issuers(self) -> list[str]:
        # Some providers end their issuer with a slash.
        return [self.issuer, f"{self.issuer}/"]

    def _key(self, kid: str | None) -> jwt.PyJWK:
        with self._lock:
            if kid not in self._keys and time.monotonic() - self._keys_read_at >= UNKNOWN:
                self._keys_read_at = time.monotonic()
                found = jwt.PyJWKSet.from_dict(_read(self._described_locked()["jwks_uri"])).keys
                self._keys = {key.key_id: key for key in found}
                if len(found) == 1:
                    # A provider with one key need not name it.
                    self._keys = {**self._keys, None: found[0]}
        try:
            return self._keys[kid]
        except KeyError:
            raise _refused() from None

    def _described(self) -> Mapping[str, Any]:
        with self._lock:
            return self._described_locked()

    def _described_locked(self) -> Mapping[str, Any]:
        if time.monotonic() - self._described_at >= DESCRIBED:
            if time.monotonic() - self._away_at < AWAY:
                raise _away()
            try:
                description = _read(self.issuer + _DESCRIPTION)
            except Overloaded:
                self._away_at = time.monotonic()
                raise
            wanted = ("authorization_endpoint", "token_endpoint", "jwks_uri")
            if description.get("issuer") not in self._issuers or not all(
                isinstance(description.get(name), str) for name in wanted
            ):
                raise _away()
            self._description, self._described_at = description, time.monotonic()
        return self._description

    def _client(self) -> Any:
        secret = self._client_secret
        return OAuth2Session(
            self._client_id,
            secret or None,
            token_endpoint_auth_method="client_secret_basic" if secret else "none",
            redirect_uri=self._redirect_url,
            scope="openid email",
            code_challenge_method="S256",
        )


def _read(url: str) -> dict[str, Any]:
    try:
        answer = requests.get(url, timeout=TIMEOUT, allow_redirects=False)
        answer.raise_for_status()
        found = answer.json()
    except (requests.RequestException, ValueError) as error:
        raise _away() from error
    if not isinstance(found, dict):
        raise _away()
    return found


def _refused() -> NotAuthenticated:
    return NotAuthenticated("This login is not accepted.")


def _away() -> Overloaded:
    return Overloaded("The login provider does not answer as it must. Try again later.", 5.0)
