"""A small OpenID Connect provider on loopback, at which a user logs in without a browser. It misbehaves on demand."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

CLIENT, SECRET, REDIRECT = "rag", "a client's secret", "http://127.0.0.1:3000/after-login"


@dataclass
class TestProvider:
    """`claims`: changes of the ID token; None takes a claim away. `sign`: another way to make the token."""

    __test__ = False
    port: int = 0
    claims: dict[str, Any] = field(default_factory=dict)
    described: dict[str, Any] = field(default_factory=dict)
    sign: Callable[[dict[str, Any]], str] | None = None
    key: ec.EllipticCurvePrivateKey = field(
        default_factory=lambda: ec.generate_private_key(ec.SECP256R1())
    )
    codes: dict[str, dict[str, str]] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def log_in(self, authorization_url: str) -> dict[str, str]:
        """Return what the provider adds to the redirect address after a login."""
        query = {
            name: values[0] for name, values in parse_qs(urlsplit(authorization_url).query).items()
        }
        assert authorization_url.startswith(self.url + "/authorize?")
        assert (query["client_id"], query["redirect_uri"]) == (CLIENT, REDIRECT)
        assert (query["response_type"], query["code_challenge_method"]) == ("code", "S256")
        assert query["scope"].split() == ["openid", "email"]
        code = secrets.token_urlsafe(8)
        self.codes[code] = query
        return {"code": code, "state": query["state"], "iss": self.url}

    def description(self) -> dict[str, Any]:
        return {
            "issuer": self.url,
            "authorization_endpoint": self.url + "/authorize",
            "token_endpoint": self.url + "/token",
            "jwks_uri": self.url + "/keys",
        } | self.described

    def keys(self) -> dict[str, Any]:
        jwk = ECAlgorithm.to_jwk(self.key.public_key(), as_dict=True)
        return {"keys": [{**jwk, "kid": "1", "alg": "ES256", "use": "sig"}]}

    def tokens(self, form: dict[str, str], authorization: str) -> tuple[int, dict[str, Any]]:
        """Answer a request with a code, which is used once and by who has its verifier."""
        begun = self.codes.pop(form.get("code", ""), None)
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        expected = "Basic " + base64.b64encode(f"{CLIENT}:{SECRET}".encode()).decode()
        if authorization != expected:
            return 401, {"error": "invalid_client"}
        if (
            begun is None
            or begun["code_challenge"] != challenge
            or form["redirect_uri"] != REDIRECT
        ):
            return 400, {"error": "invalid_grant"}
        now = int(time.time())
        claims = {
            "iss": self.url, "aud": CLIENT, "sub": "user-7", "iat": now, "exp": now + 60, "nonce": begun["nonce"],
            "email": "Ann@Example.com", "email_verified": True,
        } | self.claims  # fmt: skip
        claims = {name: value for name, value in claims.items() if value is not None}
        sign = self.sign or (
            lambda claims: jwt.encode(claims, self.key, algorithm="ES256", headers={"kid": "1"})
        )
        return 200, {"access_token": "x", "token_type": "Bearer", "id_token": sign(claims)}


@contextmanager
def oidc_provider() -> Iterator[TestProvider]:
    provider = TestProvider()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known = {
                "/.well-known/openid-configuration": provider.description,
                "/keys": provider.keys,
            }
            answer = known.get(self.path)
            self.answer(*((200, answer()) if answer else (404, {})))

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            form = {name: values[0] for name, values in parse_qs(body).items()}
            self.answer(*provider.tokens(form, self.headers.get("Authorization", "")))

        def answer(self, status: int, body: dict[str, Any]) -> None:
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    provider.port = server.server_address[1]
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield provider
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
