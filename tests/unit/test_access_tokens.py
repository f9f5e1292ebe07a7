"""Access tokens: ours are accepted, and every forgery is refused with one and the same sentence."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from rag_assets.identity.access_tokens import LEEWAY, LONGEST, AccessTokens, Claims
from rag_assets.identity.key_ring import (
    Ring,
    Signer,
    is_token_header,
    public_jwk,
    thumbprint,
    token_header,
)
from resources.errors import NotAuthenticated
from resources.postgres.identity.signing_keys import SigningKeyRow

KEY, RETIRED, FOREIGN = (Ed25519PrivateKey.generate() for _ in range(3))
PUBLIC = KEY.public_key()
RAW = PUBLIC.public_bytes_raw()
KID = thumbprint(RAW)
NOW = datetime.now(UTC)
ROW = SigningKeyRow(KID, RAW, "", NOW, NOW, NOW, True)
USER, SESSION = uuid.uuid4(), uuid.uuid4()
HEADER = {"alg": "EdDSA", "kid": KID, "typ": "at+jwt"}


class MemoryRing:
    """A ring of one key."""

    def recent(self) -> Ring:
        return self.ring()

    def ring(self) -> Ring:
        return Ring.of([ROW])

    def verifier(self, header: str) -> Ed25519PublicKey | None:
        return self.ring().keys.get(header)

    def signer(self) -> Signer:
        return Signer(KID, KEY)


TOKENS = AccessTokens(MemoryRing(), issuer="https://rag.example", audience="rag")


def claims(**changes: Any) -> dict[str, Any]:
    """Return valid claims with changes; None takes a claim away."""
    now = int(time.time())
    valid = {
        "iss": "https://rag.example", "aud": "rag", "iat": now, "exp": now + 600, "sub": str(USER), "jti": "1",
        "sid": str(SESSION), "tv": 3,
    }  # fmt: skip
    return {name: value for name, value in (valid | changes).items() if value is not None}


def part(value: Mapping[str, Any] | str | bytes) -> str:
    """Return a part of a token: an object as JSON, a text or bytes as they are."""
    if isinstance(value, Mapping):
        value = json.dumps(value, separators=(",", ":"))
    data = value.encode() if isinstance(value, str) else value
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def signed(
    payload: Mapping[str, Any] | str | None = None,
    header: Mapping[str, Any] | str = HEADER,
    key: Ed25519PrivateKey = KEY,
) -> str:
    text = f"{part(header)}.{part(claims() if payload is None else payload)}"
    return f"{text}.{part(key.sign(text.encode()))}"


def symmetric(secret: bytes, algorithm: str = "HS256", **header: Any) -> str:
    digest = {"HS256": hashlib.sha256, "HS512": hashlib.sha512}[algorithm]
    text = f"{part({**HEADER, 'alg': algorithm, **header})}.{part(claims())}"
    return f"{text}.{part(hmac.digest(secret, text.encode(), digest))}"


def es256() -> str:
    private = ec.generate_private_key(ec.SECP256R1())
    headers = {"kid": KID, "typ": "at+jwt"}
    return jwt.encode(claims(), private, algorithm="ES256", headers=headers)


def pem(encoding: serialization.Encoding, form: serialization.PublicFormat) -> bytes:
    return PUBLIC.public_bytes(encoding, form)


PEM = pem(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
DER = pem(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
JWK = public_jwk(ROW)
FOREIGN_JWK = public_jwk(ROW._replace(public_key=FOREIGN.public_key().public_bytes_raw()))
RETIRED_KID = thumbprint(RETIRED.public_key().public_bytes_raw())


def without_signature(algorithm: str) -> str:
    return f"{part({**HEADER, 'alg': algorithm})}.{part(claims())}."


def tampered() -> str:
    header, _, signature = signed().split(".")
    return f"{header}.{part(claims(sub=str(uuid.uuid4())))}.{signature}"


def with_padding() -> str:
    header, payload, signature = signed().split(".")
    return f"{header}.{payload}.{signature}=="


def other_bits_of_the_last_letter() -> str:
    """The last letter of 86 has four bits that no byte of the signature uses."""
    token = signed()
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return token[:-1] + letters[letters.index(token[-1]) ^ 1]


FORGERIES: Mapping[str, Callable[[], str]] = {
    "nothing": lambda: "",
    "no token": lambda: "secret",
    "alg none": lambda: without_signature("none"),
    "alg None": lambda: without_signature("None"),
    "alg none, with a signature": lambda: signed(header={**HEADER, "alg": "none"}),
    "EdDSA without a signature": lambda: without_signature("EdDSA"),
    "an empty signature of 64 bytes": lambda: without_signature("EdDSA") + part(bytes(64)),
    "no alg": lambda: signed(header={"kid": KID, "typ": "at+jwt"}),
    "HS256 with the public key as PEM": lambda: symmetric(PEM),
    "HS256 with the public key as PEM, stripped": lambda: symmetric(PEM.strip()),
    "HS256 with the public key as DER": lambda: symmetric(DER),
    "HS256 with the raw public key": lambda: symmetric(RAW),
    "HS256 with the JWK": lambda: symmetric(json.dumps(JWK).encode()),
    "HS256 with the compact JWK": lambda: symmetric(json.dumps(JWK, separators=(",", ":")).encode()),
    "HS512 with the raw public key": lambda: symmetric(RAW, "HS512"),
    "HS256 with an empty secret": lambda: symmetric(b""),
    "HS256 with the kid": lambda: symmetric(KID.encode()),
    "ES256": es256,
    "alg Ed25519": lambda: signed(header={**HEADER, "alg": "Ed25519"}),
    "crit": lambda: signed(header={**HEADER, "crit": ["exp"]}),
    "crit, empty": lambda: signed(header={**HEADER, "crit": []}),
    "b64 false": lambda: signed(header={**HEADER, "b64": False, "crit": ["b64"]}),
    "b64 false without crit": lambda: signed(header={**HEADER, "b64": False}),
    "jwk of the forger": lambda: signed(header={**HEADER, "jwk": FOREIGN_JWK}, key=FOREIGN),
    "jwk of our key": lambda: signed(header={**HEADER, "jwk": JWK}),
    "jku": lambda: signed(header={**HEADER, "jku": "https://forger.example/jwks"}),
    "x5u": lambda: signed(header={**HEADER, "x5u": "https://forger.example/x"}),
    "x5c": lambda: signed(header={**HEADER, "x5c": ["MA"]}),
    "cty JWT": lambda: signed(header={**HEADER, "cty": "JWT"}),
    "zip": lambda: signed(header={**HEADER, "zip": "DEF"}),
    "another type": lambda: signed(header={**HEADER, "typ": "JWT"}),
    "the type of an ID token": lambda: signed(header={**HEADER, "typ": "id+jwt"}),
    "no type": lambda: signed(header={"alg": "EdDSA", "kid": KID}),
    "no kid": lambda: signed(header={"alg": "EdDSA", "typ": "at+jwt"}),
    "an empty kid": lambda: signed(header={**HEADER, "kid": ""}),
    "a kid that is no text": lambda: signed(header={**HEADER, "kid": [KID]}),
    "a kid that is a path": lambda: signed(header={**HEADER, "kid": "../../../dev/null"}),
    "an unknown kid": lambda: signed(header={**HEADER, "kid": RETIRED_KID[::-1]}),
    "the kid of a retired key": lambda: signed(
        header={**HEADER, "kid": RETIRED_KID}, key=RETIRED
    ),
    "a known kid, signed by another key": lambda: signed(key=RETIRED),
    "two kids": lambda: signed(
        header=f'{{"alg":"EdDSA","kid":"{RETIRED_KID}","kid":"{KID}","typ":"at+jwt"}}'
    ),
    "two algs": lambda: signed(
        header=f'{{"alg":"none","alg":"EdDSA","kid":"{KID}","typ":"at+jwt"}}'
    ),
    "a header with spaces": lambda: signed(header=json.dumps(HEADER)),
    "a header that is a list": lambda: signed(header="[]"),
    "a header that is no JSON": lambda: signed(header="{"),
    "two subjects": lambda: signed(f'{{"sub":"{USER}",{json.dumps(claims())[1:]}'),
    "two times of expiry": lambda: signed(f'{{"exp":1,{json.dumps(claims())[1:]}'),
    "claims that are a list": lambda: signed("[]"),
    "claims that are no JSON": lambda: signed("{"),
    "deep claims": lambda: signed("[" * 1000),
    "NaN": lambda: signed(json.dumps(claims(exp=float("nan")))),
    "infinity": lambda: signed(json.dumps(claims(exp=float("inf")))),
    "expired": lambda: signed(claims(exp=int(time.time()) - LEEWAY - 1)),
    "issued later": lambda: signed(claims(iat=int(time.time()) + LEEWAY + 5)),
    "not yet valid": lambda: signed(claims(nbf=int(time.time()) + LEEWAY + 5)),
    "another audience": lambda: signed(claims(aud="other")),
    "a list of audiences": lambda: signed(claims(aud=["rag", "other"])),
    "another issuer": lambda: signed(claims(iss="https://forger.example")),
    "an issuer that begins like ours": lambda: signed(claims(iss="https://rag.example.net")),
    **{
        f"no {name}": lambda name=name: signed(claims(**{name: None}))
        for name in ("exp", "iat", "iss", "aud", "sub", "jti", "sid", "tv")
    },
    # The names must be the same in every process of a test run.
    **{
        f"{name}: {what}": lambda name=name, value=value: signed(claims() | {name: value})
        for name, what, value in (
            ("exp", "text", str(int(time.time()) + 600)),
            ("exp", "fraction", time.time() + 600.5),
            ("exp", "true", True),
            ("exp", "long text", "9" * 20),
            ("iat", "text", "0"),
            ("iat", "fraction", 1.5),
            ("iat", "true", True),
            ("nbf", "text", "0"),
            ("nbf", "null", None),
            ("tv", "text", "3"),
            ("tv", "fraction", 3.0),
            ("tv", "true", True),
            ("tv", "null", None),
            ("sub", "number", 7),
            ("sub", "name", "owner"),
            ("sub", "upper case", str(USER).upper()),
            ("sub", "braces", f"{{{USER}}}"),
            ("sid", "number", 7),
            ("sid", "empty", ""),
            ("sid", "list", [str(SESSION)]),
            ("jti", "number", 7),
            ("aud", "object", {"rag": 1}),
            ("iss", "list", ["https://rag.example"]),
            ("iss", "null", None),
        )
    },
    "tampered claims": tampered,
    "without its last letter": lambda: signed()[:-1],
    "without its signature": lambda: signed().rpartition(".")[0],
    "four parts": lambda: f"{signed()}.{part('x')}",
    "padding": with_padding,
    "other unused bits": other_bits_of_the_last_letter,
    "a newline": lambda: signed() + "\n",
    "a space": lambda: " " + signed(),
    "letters beyond ASCII": lambda: "é" + signed(),
    "too long": lambda: signed(claims(extra="x" * LONGEST)),
}  # fmt: skip


@pytest.mark.parametrize("name", FORGERIES)
def test_a_forged_token_is_refused_without_a_reason(name: str) -> None:
    token = FORGERIES[name]()
    with pytest.raises(NotAuthenticated, match=r"^This key or token is not accepted\.$") as error:
        TOKENS.verify(token)
    assert error.value.__cause__ is None


def test_an_issued_token_is_verified() -> None:
    token = TOKENS.issue(USER, 3, SESSION)
    assert TOKENS.verify(token) == TOKENS.recent(token) == Claims(USER, 3, SESSION)
    assert len(token) < LONGEST / 2
    header, payload, _ = token.split(".")
    assert header == token_header(KID)
    issued = json.loads(base64.urlsafe_b64decode(payload + "=="))
    assert issued["exp"] - issued["iat"] == 600
    assert TOKENS.issue(USER, 3, SESSION) != token, "each token has its own jti"


def test_what_the_forgeries_change_is_all_that_is_wrong_with_them() -> None:
    assert TOKENS.verify(signed()) == Claims(USER, 3, SESSION)
    soon = int(time.time()) + LEEWAY - 2
    within_the_leeway = claims(iat=soon, nbf=soon, exp=int(time.time()) - LEEWAY + 2, other="claim")
    assert TOKENS.verify(signed(within_the_leeway)) == Claims(USER, 3, SESSION)


def test_a_token_of_an_unknown_key_is_no_decision_without_postgresql() -> None:
    token = signed(header={**HEADER, "kid": RETIRED_KID}, key=RETIRED)
    assert TOKENS.recent(token) is None


@pytest.mark.parametrize("kid", [KID, RETIRED_KID], ids=["known", "unknown"])
def test_only_a_header_as_we_write_it_can_be_one_of_a_new_key(kid: str) -> None:
    assert is_token_header(token_header(kid))
    for other in (
        {**HEADER, "kid": kid, "crit": []},
        {**HEADER, "kid": kid[:-1]},
        {**HEADER, "kid": 1},
        {"kid": kid},
        {},
    ):
        assert not is_token_header(part(other))
    for text in ("[]", "1", "{", '"' + kid, "[" * 1400, b"\xff"):
        assert not is_token_header(part(text))


def test_the_jwk_verifies_a_token_for_others() -> None:
    [key] = TOKENS.public_keys()
    assert key["kid"] == KID
    assert "d" not in key, "the private part"
    token = TOKENS.issue(USER, 3, SESSION)
    decoded = jwt.decode(token, jwt.PyJWK(key), audience="rag", issuer="https://rag.example")
    assert decoded["sub"] == str(USER)


def test_the_kid_is_the_thumbprint_of_the_key() -> None:
    # RFC 8037, appendix A.3.
    public = base64.urlsafe_b64decode("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo=")
    assert thumbprint(public) == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


def test_the_lifetime_is_a_setting() -> None:
    tokens = AccessTokens(MemoryRing(), lifetime=timedelta(minutes=1))
    issued = json.loads(
        base64.urlsafe_b64decode(tokens.issue(USER, 1, SESSION).split(".")[1] + "==")
    )
    assert issued["exp"] - issued["iat"] == 60
