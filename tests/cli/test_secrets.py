"""No secret that is put in comes out again: not in an answer, a log, a file, a process's title or Dagster's storage."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import psycopg
import requests

from tests.support.rag import Rag, serving

PASSWORD = "canary of the password, long enough"
WRONG = "canary of a wrong password, long enough"
QUERY = "canary of a query"


def test_no_secret_comes_out(rag: Rag, docs: Path, tmp_path: Path) -> None:
    secrets = {
        "RAG_SECRET_KEY": "canary-of-the-secret-key-0123456789",
        "RAG_CREDENTIALS_KEY": base64.urlsafe_b64encode(
            b"canary of the credentials key 01"
        ).decode(),
        "RAG_OPENAI_API_KEY": "canary-of-the-embedding-server",
        "RAG_RERANKER_API_KEY": "canary-of-the-reranker",
        "CANARY": "canary-of-a-source-credential",
    }
    rag = replace(rag, env={**rag.env, **secrets})
    shown: list[str] = []
    rag.ok("ingest", str(docs), "--name", "docs")
    bucket = ["sources", "add", "bucket", "s3://bucket/a", "--set", "endpoint=http://127.0.0.1:1"]
    shown += said(rag, *bucket, "--credential", "key=@CANARY", "--credential", "secret=@CANARY")
    shown += said(rag, "ingest", "bucket")
    token = rag.json("users", "init")["token"]
    with serving(rag, log=tmp_path / "log") as (_, url):

        def call(method: str, path: str, body: Any = None, credential: str = "") -> Any:
            headers = {"Authorization": f"Bearer {credential}"} if credential else {}
            return requests.request(method, url + path, json=body, headers=headers, timeout=30)

        first = {"token": token, "email": "a@b.example", "username": "a", "password": PASSWORD}
        assert call("POST", "/auth/init", first).status_code == 201
        tokens = call("POST", "/auth/login", {"name": "a", "password": PASSWORD}).json()
        access, refresh = tokens["access_token"], tokens["refresh_token"]
        key = call("POST", "/v1/api-keys", {"name": "k"}, access).json()["key"]
        answers = [
            call("POST", "/auth/init", first),
            call("POST", "/auth/login", {"name": "a", "password": WRONG}),
            call("POST", "/auth/login", {"name": "a", "password": [PASSWORD]}),
            call("POST", "/auth/refresh", {"refresh_token": refresh, "password": PASSWORD}),
            call("GET", "/auth/me", credential=access),
            call("GET", "/auth/me", credential=key),
            call("GET", "/auth/me", credential=access[:-4] + "AAAA"),
            call("GET", "/auth/me", credential=key[:-8] + "AAAAAAAA"),
            call("POST", "/v1/search", {"query": QUERY, "k": 10_000}, key),
            call("POST", "/v1/search", {"query": QUERY}, key),
            call("GET", f"/v1/documents/{key}", credential=key),
            call("GET", "/v1/users", credential=access),
            call("GET", "/v1/api-keys", credential=access),
            call("GET", "/v1/audit", credential=access),
            call("GET", "/readyz", credential=access),
        ]
        titles = [
            " ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"])
        ]
    shown += [answer.text + str(answer.headers) for answer in answers]
    for command in (
        *(
            ["status"],
            ["settings"],
            ["sources", "list"],
            ["sources", "show", "bucket"],
            ["users", "list"],
        ),
        *(["keys", "list"], ["tokens", "list"], ["audit", "list"], ["users", "show", "a"]),
    ):
        shown += said(rag, *command)
        shown += said(rag, *command, "--json")
    places = {
        "answers and output": "\n".join(shown),
        "titles of processes": "\n".join(titles),
        "log": (tmp_path / "log").read_text(),
        "files": "\n".join(files(rag.home)),
        "database": "\n".join(rows(rag.urls["postgres"])),
    }
    hidden = {
        **secrets,
        "password": PASSWORD,
        "wrong password": WRONG,
        "query": QUERY,
        "access token": access,
        "refresh token": refresh,
        "one-time token": token,
        "API key": key[21:],
    }
    assert min(map(len, places.values())) > 100
    found = [
        f"{name} in {place}"
        for name, secret in hidden.items()
        for place, text in places.items()
        if secret in text or secret[:24] in text
    ]
    assert found == []


def said(rag: Rag, *arguments: str) -> list[str]:
    done = rag(*arguments)
    return [done.stdout, done.stderr]


def files(home: Path) -> Iterator[str]:
    """Yield the text of every small file below the home folder, the servers' own data left out."""
    for path in home.rglob("*"):
        inside = path.relative_to(home).parts
        if (
            path.is_file()
            and inside[0] not in ("postgres", "milvus")
            and path.stat().st_size < 1 << 22
        ):
            yield path.read_bytes().decode("utf-8", "replace")


def rows(url: str) -> Iterator[str]:
    """Yield all rows of all tables as text, Dagster's among them."""
    with psycopg.connect(url) as connection:
        tables = connection.execute(
            """SELECT format('%I.%I', schemaname, tablename) FROM pg_tables
               WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"""
        ).fetchall()
        for (table,) in tables:
            for (row,) in connection.execute(f"SELECT t::text FROM {table} AS t"):  # pyright: ignore[reportArgumentType, reportCallIssue]
                yield row
