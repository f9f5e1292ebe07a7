"""Requests that are wrong: one form of answer, everything wrong at once, no traceback and no secret."""

from __future__ import annotations

import json
import secrets
import socket
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
import requests
from structlog.testing import capture_logs

from rag_assets.serving.problems import answer_to
from rag_assets.serving.readiness import Readiness, ReadinessProbe
from rag_assets.serving.service import WORKERS
from resources.errors import ConfigError
from tests.support.service import LiveService, awaited
from tests.support.tenants import Tenants

SEARCH = "/v1/search"


def problem(answer: Any, status: int, code: str) -> dict[str, Any]:
    """Return the body of an answer, which must have the one form of errors."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert (body["status"], body["code"]) == (status, code)
    assert body["errors"] and all(item["message"] for item in body["errors"])
    assert body["request_id"] == answer.headers["x-request-id"]
    assert "Traceback" not in answer.text
    return body


def test_everything_wrong_is_listed_at_once(live: LiveService, people: Tenants) -> None:
    body = {"query": 7, "k": "many", "filter": {}, "filters": {"sauce": ["a"], "document": ["b"]}}
    answer = live.call("POST", SEARCH, body, credential=people.keys["viewer"])
    found = problem(answer, 422, "invalid")
    pointers = {item["pointer"] for item in found["errors"]}
    assert pointers == {"/query", "/k", "/filter", "/filters/sauce", "/filters/document/0"}
    # What pydantic cannot know is checked by the search itself, also all at once.
    body = {"query": " ", "k": 1000, "offset": -1, "filters": {"language": ["english"]}}
    answer = live.call("POST", SEARCH, body, credential=people.keys["viewer"])
    found = problem(answer, 422, "invalid")
    pointers = {item["pointer"] for item in found["errors"]}
    assert pointers == {"/query", "/k", "/offset", "/filters/language"}
    messages = " ".join(item["message"] for item in found["errors"])
    for part in ("something to search for", "found 1000", "found -1", "english"):
        assert part in messages


@pytest.mark.parametrize(
    ("sent", "headers", "status", "code"),
    [
        (b"{", {"Content-Type": "application/json"}, 400, "malformed"),
        (b'{"query": "a\\u0000b"}', {"Content-Type": "application/json"}, 422, "invalid"),
        (b'{"query": "\\ud800"}', {"Content-Type": "application/json"}, 422, "invalid"),
        (b'{"query": "a", "radius": NaN}', {"Content-Type": "application/json"}, 422, "invalid"),
        (b"[" * 100_000, {"Content-Type": "application/json"}, 400, "malformed"),
        (b"query=a", {"Content-Type": "text/plain"}, 415, "unsupported_media_type"),
        (b'{"query": "a"}', {}, 415, "unsupported_media_type"),
        (b" " * (1 << 20) + b"1", {"Content-Type": "application/json"}, 413, "too_large"),
    ],
)
def test_a_body_that_cannot_be_read_is_a_problem(
    live: LiveService,
    people: Tenants,
    sent: bytes,
    headers: dict[str, str],
    status: int,
    code: str,
) -> None:
    key = people.keys["viewer"]
    answer = live.call("POST", SEARCH, data=sent, headers=headers, credential=key)
    problem(answer, status, code)

    def parts() -> Any:
        yield sent

    # Without a declared length: the bytes that are read count.
    answer = live.call("POST", SEARCH, data=parts(), headers=headers, credential=key)
    problem(answer, status, code)


def test_a_login_has_a_small_body(live: LiveService) -> None:
    answer = live.call("POST", "/auth/login", {"email": "a@b.example", "password": "x" * 5000})
    problem(answer, 413, "too_large")


def raw(live: LiveService, text: str) -> tuple[int, str]:
    """Send the bytes of a request, and return the status and the answer."""
    host, port = live.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(text.replace("\n", "\r\n").encode("latin-1"))
        answer = b""
        while chunk := connection.recv(65536):
            answer += chunk
    return int(answer.split(b" ", 2)[1]), answer.decode()


@pytest.mark.parametrize(
    ("request_line", "headers", "status"),
    [
        ("GET /v1/documents/x HTTP/1.1", "Host: a\nHost: b\n", 400),
        ("GET /v1/users HTTP/1.1", "Host: a/v1/search\n", 400),
        ("GET /v1/users HTTP/1.1", "Host: a@b\n", 400),
        ("GET /v1/users HTTP/1.1", "Host: a\nAuthorization: Bearer {key}\nAuthorization: x\n", 400),
        ("GET //v1/users HTTP/1.1", "Host: a\nAuthorization: Bearer {key}\n", 404),
        ("GET /v1/../v1/users HTTP/1.1", "Host: a\nAuthorization: Bearer {key}\n", 404),
        ("GET /v1/users/ HTTP/1.1", "Host: a\nAuthorization: Bearer {key}\n", 404),
        ("GET http://a/v1/users HTTP/1.1", "Host: b\nAuthorization: Bearer {key}\n", 403),
        ("GET /v1/users HTTP/1.1", "Host: a\nX-Original-URL: /livez\n", 401),
        ("GET /v1/users HTTP/1.1", "Host: a\nX-HTTP-Method-Override: OPTIONS\n", 401),
        ("GET /v1/users HTTP/1.1", "Host: a\nX-Forwarded-Host: livez\n", 401),
    ],
)
def test_a_poisoned_host_or_path_opens_nothing(
    live: LiveService, people: Tenants, request_line: str, headers: str, status: int
) -> None:
    key = people.keys["viewer"]
    sent = f"{request_line}\n{headers.format(key=key)}Connection: close\n\n"
    found, answer = raw(live, sent)
    assert found == status, answer
    assert people.emails["viewer"] not in answer


def test_every_answer_has_its_headers(live: LiveService) -> None:
    for path in ("/livez", "/nothing", "/v1/users", "/openapi.json"):
        answer = live.call("GET", path, headers={"X-Request-ID": "trace-7"})
        assert answer.headers["x-request-id"] == "trace-7"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
        assert "server" not in answer.headers
    wrong = live.call("GET", "/livez", headers={"X-Request-ID": "a\tb"})
    assert wrong.headers["x-request-id"] != "a\tb"
    problem(live.call("DELETE", "/livez"), 405, "method_not_allowed")


def test_an_error_of_the_configuration_is_not_told_to_callers() -> None:
    secret = "FATAL: role rag_app of db.internal may not do this; see RAG_POSTGRES_URL"
    of_pool = ConfigError(secret)
    of_pool.__cause__ = psycopg.errors.InsufficientPrivilege(secret)
    for error in (
        of_pool,
        psycopg.errors.InsufficientPrivilege(secret),
        PermissionError(13, secret),
    ):
        answer = answer_to("id", error)
        assert answer.status_code == 503
        assert b"db.internal" not in answer.body and b"RAG_" not in answer.body
    assert answer_to("id", ConfigError("k: expected 1 to 100")).status_code == 422


def test_strangers_see_the_status_and_not_the_reasons(live: LiveService, people: Tenants) -> None:
    assert live.call("GET", "/readyz").json() == {
        "status": "ready",
        "parts": None,
        "notes": None,
    }
    known = live.call("GET", "/readyz", credential=people.keys["viewer"]).json()
    assert set(known["parts"].values()) == {"ok"}
    assert {"postgres", "milvus/dense", "milvus/sparse"} <= set(known["parts"])


def test_strangers_who_ask_for_a_state_that_takes_long_stop_nobody(
    live: LiveService, people: Tenants, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, goes_on = threading.Event(), threading.Event()

    def look(_: ReadinessProbe) -> Readiness:
        begun.set()
        assert goes_on.wait(20)
        return Readiness({})

    monkeypatch.setattr(ReadinessProbe, "look", look)
    with ThreadPoolExecutor(WORKERS) as threads:
        url = f"{live.url}/readyz"
        asked = [threads.submit(requests.get, url, timeout=30) for _ in range(WORKERS)]
        try:
            assert begun.wait(10)
            time.sleep(0.2)
            # Its key is unknown here, so that PostgreSQL is asked for it.
            live.service.authenticator._answers.clear()
            me = requests.get(
                f"{live.url}/auth/me",
                headers={"Authorization": f"Bearer {people.keys['viewer']}"},
                timeout=5,
            )
            assert me.status_code == 200
        finally:
            goes_on.set()
        assert {each.result().status_code for each in asked} == {200}


def test_the_log_has_no_text_and_no_key(live: LiveService, people: Tenants) -> None:
    canary = "canary of the query"
    with capture_logs() as events:
        answer = live.call("POST", SEARCH, {"query": canary}, credential=people.keys["viewer"])
        awaited(lambda: events)
    assert answer.status_code == 200
    assert [event["route"] for event in events if event["event"] == "request"] == [SEARCH]
    assert canary not in json.dumps(events)
    assert people.keys["viewer"][-20:] not in json.dumps(events)


ROLE = f"/v1/users/{uuid.uuid4()}/role"


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "action", "details"),
    [
        (
            "PUT", ROLE, {"role": "admin"}, 403, "auth.denied",
            {"method": "PUT", "route": "/v1/users/{user_id}/role", "user_id": ROLE.split("/")[3]},
        ),
        (
            "POST", SEARCH, {"query": "a", "filters": {"source": ["own", "foreign"]}}, 404, "search",
            {"source": "foreign"},
        ),
    ],
    ids=["role", "source"],
)  # fmt: skip
def test_the_audit_names_who_tried_what_beyond_their_rights(
    live: LiveService,
    people: Tenants,
    method: str,
    path: str,
    body: dict[str, Any],
    status: int,
    action: str,
    details: dict[str, str],
) -> None:
    key, trace = people.keys["viewer"], {"X-Request-ID": secrets.token_hex(8)}
    answer = live.call(method, path, body, credential=key, headers=trace)
    assert answer.status_code == status

    def denials() -> list[dict[str, Any]]:
        query = f"/v1/audit?outcome=denied&action={action}"
        records = live.call("GET", query, credential=people.keys["super_admin"]).json()["records"]
        return [each for each in records if each["request_id"] == trace["X-Request-ID"]]

    awaited(lambda: denials())
    (record,) = denials()
    me = live.call("GET", "/auth/me", credential=key).json()
    assert (record["principal"], record["details"]) == (f"key:{me['key_id']}", details)
