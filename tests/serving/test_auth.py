"""`/auth/…` over HTTP: what the routes add to the use-cases that `tests/stores/test_sessions.py` tests."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator

import jwt
import pytest
import requests

from rag_assets.identity import one_time_tokens
from tests.serving.test_requests import problem
from tests.support.service import LiveService, awaited
from tests.support.tenants import Tenants

PASSWORD = "correct horse battery"


@pytest.fixture(scope="module")
def password(live: LiveService, people: Tenants) -> str:
    """The password of the viewer, set with a one-time token."""
    with live.service.connections.connection() as connection:
        token = one_time_tokens.issue(connection, "password", people.ids["viewer"])
    body = {"token": token, "new_password": PASSWORD}
    assert live.call("POST", "/auth/password", body).status_code == 204
    problem(live.call("POST", "/auth/password", body), 401, "not_authenticated")
    return PASSWORD


@pytest.fixture
def tokens(live: LiveService, people: Tenants, password: str) -> Iterator[dict[str, str]]:
    with live.service.connections.connection() as connection:
        connection.execute("DELETE FROM login_failures")
    yield login(live, people.emails["viewer"], password).json()


def login(live: LiveService, name: str, password: str) -> requests.Response:
    return live.call("POST", "/auth/login", {"name": name, "password": password})


def test_from_the_login_to_the_logout(
    live: LiveService, people: Tenants, tokens: dict[str, str]
) -> None:
    assert (tokens["token_type"], tokens["expires_in"]) == ("Bearer", 600)
    me = live.call("GET", "/auth/me", credential=tokens["access_token"]).json()
    assert (me["user_id"], me["role"]) == (str(people.ids["viewer"]), "viewer")
    assert (me["accounts"], me["sources"], me["key_id"]) == (["own"], ["own"], None)
    assert me["permissions"] == ["document:read", "search:read"]
    search = {"query": "observatory"}
    answer = live.call("POST", "/v1/search", search, credential=tokens["access_token"])
    assert answer.status_code == 200
    # With the token that has expired, as clients send it with every request.
    expired = {"Authorization": "Bearer expired"}
    refresh = {"refresh_token": tokens["refresh_token"]}
    new = live.call("POST", "/auth/refresh", refresh, headers=expired).json()
    assert live.call("GET", "/auth/me", credential=new["access_token"]).status_code == 200
    body = {"refresh_token": new["refresh_token"]}
    assert live.call("POST", "/auth/logout", body, headers=expired).status_code == 204
    assert live.call("POST", "/auth/logout", body).status_code == 204
    problem(live.call("POST", "/auth/refresh", body), 401, "not_authenticated")
    awaited(
        lambda: live.call("GET", "/auth/me", credential=new["access_token"]).status_code == 401, 2
    )


def test_a_key_knows_itself_and_changes_no_password(live: LiveService, people: Tenants) -> None:
    key = people.keys["admin"]
    me = live.call("GET", "/auth/me", credential=key).json()
    assert me["key_id"] in key
    body = {"old_password": PASSWORD, "new_password": "another long password"}
    problem(live.call("POST", "/auth/password", body, credential=key), 403, "forbidden")
    problem(live.call("POST", "/auth/password", body), 401, "not_authenticated")
    problem(live.call("POST", "/auth/password", body, credential="x"), 401, "not_authenticated")
    for both in ({"token": "x", **body}, {"new_password": "another long password"}):
        problem(live.call("POST", "/auth/password", both), 422, "invalid")


def wrong_logins(live: LiveService, name: str) -> list[requests.Response]:
    """Try a wrong password until an attempt has to wait. On a busy machine a hash may take longer than a delay."""
    answers = [login(live, name, "wrong")]
    while answers[-1].status_code == 401:
        answers.append(login(live, name, "wrong"))
        assert len(answers) < 12
    assert answers[-1].status_code == 429
    return answers


def test_a_wrong_password_says_nothing_and_then_waits(
    live: LiveService, people: Tenants, tokens: dict[str, str]
) -> None:
    answers = [wrong_logins(live, name) for name in (people.emails["editor"], "nobody@own.example")]
    for each in answers:
        assert [answer.status_code for answer in each[:3]] == [401] * 3
        assert int(each[-1].headers["Retry-After"]) >= 1
    for n in (0, -1):
        known, unknown = (
            re.sub(r"\d", "", json.dumps({**each[n].json(), "instance": "", "request_id": ""}))
            for each in answers
        )
        assert known == unknown
    refresh = {"refresh_token": tokens["refresh_token"]}
    assert live.call("POST", "/auth/refresh", refresh).status_code == 200
    assert live.call("GET", "/auth/me", credential=people.keys["editor"]).status_code == 200


def test_strangers_at_the_address_do_not_stop_a_refresh(
    live: LiveService, tokens: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = live.service.deployment.settings
    monkeypatch.setitem(vars(settings), "stranger_requests_per_minute", 1)
    while live.call("GET", "/version").status_code != 429:
        pass
    refused = live.call("POST", "/auth/refresh", {"refresh_token": f"rag_rt_{'A' * 43}"})
    problem(refused, 429, "limit_exceeded")
    problem(live.call("POST", "/auth/login", {"name": "a", "password": "b"}), 429, "limit_exceeded")
    # Nor the probes of a load balancer at the same address.
    assert [live.call("GET", path).status_code for path in ("/livez", "/readyz")] == [200, 200]
    refresh = {"refresh_token": tokens["refresh_token"]}
    assert live.call("POST", "/auth/refresh", refresh).status_code == 200


def test_a_first_super_admin_is_not_made_twice(live: LiveService) -> None:
    body = {
        "token": f"rag_init_{'A' * 43}", "email": "a@b.example", "username": "a", "password": PASSWORD,
    }  # fmt: skip
    problem(live.call("POST", "/auth/init", body), 401, "not_authenticated")


def test_the_keys_verify_a_token_elsewhere(live: LiveService, tokens: dict[str, str]) -> None:
    answer = live.call("GET", "/.well-known/jwks.json")
    assert answer.headers["Cache-Control"] == "public, max-age=300"
    keys = jwt.PyJWKSet.from_dict(answer.json())
    kid = jwt.get_unverified_header(tokens["access_token"])["kid"]
    claims = jwt.decode(tokens["access_token"], keys[kid], audience="rag-assets")
    assert uuid.UUID(claims["sid"])


@pytest.mark.parametrize("path", ["init", "login", "refresh", "logout", "password"])
def test_a_body_of_a_stranger_is_small_json_of_known_fields(live: LiveService, path: str) -> None:
    url = f"/auth/{path}"
    problem(live.call("POST", url, {"refresh_token": "x" * 5000}), 413, "too_large")
    problem(live.call("POST", url, data="name=ann"), 415, "unsupported_media_type")
    found = problem(live.call("POST", url, {"sauce": 1}), 422, "invalid")
    assert "/sauce" in {item["pointer"] for item in found["errors"]}
