"""Logins at an OpenID Connect provider: whom a code logs in, and what is wrong with forged answers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, LiteralString

import jwt
import pytest
import requests
from cryptography.hazmat.primitives.asymmetric import ec

from rag_assets.identity.provider_logins import LIFETIME, ProviderLogins
from rag_assets.identity.sessions import NewTokens
from resources.errors import NotAuthenticated, Overloaded
from resources.oidc_provider import OidcProvider
from resources.postgres.queries import scalar
from tests.support.identity import ABROAD, HOME, SECRET, Identity
from tests.support.oidc_provider import CLIENT, REDIRECT, TestProvider, oidc_provider
from tests.support.oidc_provider import SECRET as CLIENT_SECRET

pytest.importorskip("authlib")


@pytest.fixture
def provider() -> Iterator[TestProvider]:
    with oidc_provider() as provider:
        yield provider


@pytest.fixture
def logins(identity: Identity, provider: TestProvider) -> ProviderLogins:
    client = OidcProvider(provider.url, CLIENT, CLIENT_SECRET, REDIRECT)
    return ProviderLogins(identity.connections, identity.sessions, SECRET, client, identity.audit)


def log_in(logins: ProviderLogins, provider: TestProvider, **changes: str) -> NewTokens:
    begun = logins.begin()
    answer = {"flow": begun.flow, **provider.log_in(begun.authorization_url)} | changes
    return logins.finish(answer["flow"], answer["state"], answer["code"], answer["iss"], HOME)


def test_a_verified_address_logs_its_user_in(
    identity: Identity, logins: ProviderLogins, provider: TestProvider
) -> None:
    identity.connection.execute("UPDATE users SET password_hash = NULL, is_verified = false")
    tokens = log_in(logins, provider)
    claims = identity.tokens.verify(tokens.access_token)
    assert claims.user_id == identity.user
    assert claims.version == scalar(identity.connection, "SELECT version FROM users")
    identity.sessions.refresh(tokens.refresh_token, ABROAD)
    [(outcome, principal, details)] = identity.audited("auth.login")
    assert (outcome, principal) == ("allowed", f"user:{identity.user}")
    assert details == {"by": provider.url}


def test_a_link_stays_with_the_providers_user(
    identity: Identity, logins: ProviderLogins, provider: TestProvider
) -> None:
    log_in(logins, provider)
    provider.claims = {"email": "ann.new@example.com"}
    assert log_in(logins, provider), "a new address of the same user"
    provider.claims = {"sub": "user-8"}
    with pytest.raises(NotAuthenticated):
        log_in(logins, provider)


@pytest.mark.parametrize(
    "change", ["is_active = false", "email = 'bob@example.com'", "oidc_subject = 'another'"]
)
def test_the_provider_makes_and_unlocks_no_user(
    identity: Identity, logins: ProviderLogins, provider: TestProvider, change: LiteralString
) -> None:
    identity.connection.execute(f"UPDATE users SET {change}")
    with pytest.raises(NotAuthenticated, match=r"^This login is not accepted\.$"):
        log_in(logins, provider)
    assert scalar(identity.connection, "SELECT count(*) FROM sessions") == 0
    assert [each.outcome for each in identity.audit.records] == ["denied"]


OTHER_KEY = ec.generate_private_key(ec.SECP256R1())
#: Changes of the claims.
WRONG_CLAIMS: Mapping[str, dict[str, Any]] = {
    "not verified": {"email_verified": False},
    "verified as a text": {"email_verified": "true"},
    "says nothing about the address": {"email_verified": None},
    "no address": {"email": None},
    "another nonce": {"nonce": "another"},
    "no nonce": {"nonce": None},
    "another audience": {"aud": "other"},
    "several audiences without azp": {"aud": [CLIENT, "other"]},
    "issued to another party": {"azp": "other"},
    "another issuer": {"iss": "http://127.0.0.1:1"},
    "expired": {"exp": 1},
    "no expiry": {"exp": None},
    "no subject": {"sub": None},
}
WRONG_SIGNATURES: Mapping[str, Callable[[dict[str, Any]], str]] = {
    "none": lambda claims: jwt.encode(claims, "", algorithm="none", headers={"kid": "1"}),
    "another key": lambda claims: jwt.encode(claims, OTHER_KEY, "ES256", {"kid": "1"}),
    "an unknown kid": lambda claims: jwt.encode(claims, OTHER_KEY, "ES256", {"kid": "2"}),
    "the client's secret": lambda claims: jwt.encode(
        claims, CLIENT_SECRET.ljust(32), "HS256", {"kid": "1"}
    ),
    "nothing": lambda claims: "",
}


@pytest.mark.parametrize("wrong", [*WRONG_CLAIMS, *WRONG_SIGNATURES])
def test_a_wrong_id_token_is_refused(
    logins: ProviderLogins, provider: TestProvider, wrong: str
) -> None:
    provider.claims = WRONG_CLAIMS.get(wrong, {})
    provider.sign = WRONG_SIGNATURES.get(wrong)
    with pytest.raises(NotAuthenticated, match=r"^This login is not accepted\.$"):
        log_in(logins, provider)


def test_a_code_is_accepted_with_its_own_login_only(
    logins: ProviderLogins, provider: TestProvider
) -> None:
    other = logins.begin()
    for changes in (
        {"flow": other.flow},
        {"flow": "x"},
        {"state": "x"},
        {"code": "x"},
        {"iss": "https://another.example"},
        {"flow": other.flow, "state": provider.log_in(other.authorization_url)["state"]},
    ):
        with pytest.raises(NotAuthenticated):
            log_in(logins, provider, **changes)
    assert log_in(logins, provider, iss="")
    begun = logins.begin()
    answer = provider.log_in(begun.authorization_url)
    opened = json.loads(SECRET.decrypt("oidc flow", begun.flow))
    opened["began"] -= LIFETIME
    late = SECRET.encrypt("oidc flow", json.dumps(opened).encode())
    with pytest.raises(NotAuthenticated):
        logins.finish(late, answer["state"], answer["code"], "", HOME)
    assert logins.finish(begun.flow, answer["state"], answer["code"], "", HOME)


def test_a_provider_that_is_away_or_another_one_can_be_tried_again(
    identity: Identity, provider: TestProvider
) -> None:
    away = OidcProvider("http://127.0.0.1:1", CLIENT, "", REDIRECT)
    with pytest.raises(Overloaded, match="does not answer"):
        away.authorization_url("a", "b", "c" * 43)
    provider.described = {"issuer": "https://another.example"}
    with pytest.raises(Overloaded):
        OidcProvider(provider.url, CLIENT, "", REDIRECT).authorization_url("a", "b", "c" * 43)


def test_logins_do_not_wait_in_turn_for_a_provider_that_is_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = []

    def get(url: str, **_: object) -> None:
        asked.append(url)
        raise requests.ConnectTimeout

    monkeypatch.setattr(requests, "get", get)
    provider = OidcProvider("https://login.example.com", "rag", "", "https://rag.example.com")
    for _ in range(3):
        with pytest.raises(Overloaded):
            provider.authorization_url("a", "b", "c" * 43)
    assert len(asked) == 1
