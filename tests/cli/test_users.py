"""`rag users` and `rag keys` as an operator uses them: from no user at all to a key in a script, and back."""

from __future__ import annotations

import subprocess
from pathlib import Path

from rag_assets.identity.api_key_format import parse_key
from tests.support.processes import run_program
from tests.support.rag import Rag

PASSWORD = "correct horse battery"


def refused(done: subprocess.CompletedProcess[str], *expected: str) -> None:
    assert done.returncode == 2, done.stdout
    assert "Traceback" not in done.stderr and PASSWORD not in done.stdout + done.stderr
    assert [text for text in expected if text not in done.stderr] == []


def test_an_operator_adds_users_and_keys(rag: Rag, tmp_path: Path) -> None:
    added = rag.json("sources", "add", "docs", str(tmp_path), "--account", "north")
    assert added["account"] == "north"
    # The first user, before any `rag users init`; each sees what it was granted.
    user = ("--username", "ann", "--role", "editor", "--account", "north")
    shown = rag.json("users", "add", "Ann@Example.com", *user)
    assert (shown["email"], shown["accounts"], shown["has_password"]) == (
        "ann@example.com", ["north"], False,
    )  # fmt: skip
    refused(rag("users", "grant", "ann", "--source", "wiki"), "There is no source wiki")
    shown = rag.json("users", "grant", "ann", "--source", "docs", "--permission", "job:run")
    assert (shown["sources"], shown["permissions"]) == (["docs"], ["job:run"])
    refused(rag("users", "revoke", "ann", "--permission", "search:read"), "part of the role editor")

    # A script takes the key from the only line of a quiet command.
    key = rag.ok("keys", "add", "-q", "--user", "ann", "--name", "crawler", "--expires", "30d")
    parsed = parse_key(key.strip())
    assert parsed is not None and key == f"{parsed.text}\n"
    issued = rag.json("keys", "rotate", parsed.prefix, "--grace", "12h")
    assert parse_key(issued["key"]) is not None
    assert issued["permissions"] == ["document:read", "search:read"]
    # Whoever finds a key somewhere revokes it as it is.
    assert rag.json("keys", "revoke", parsed.text)["is_active"] is False
    lines = [
        line.split() for line in rag.ok("keys", "list", "--user", "ANN@example.com").splitlines()
    ]
    assert [parsed.prefix, "ann", "crawler", "revoked"] in lines
    assert [issued["key_prefix"], "ann", "crawler", "live"] in lines

    # A password comes from standard input only.
    def add_bob(password: str) -> subprocess.CompletedProcess[str]:
        bob = ("bob@example.com", "--username", "bob", "--role", "super_admin", "--password-stdin")
        return run_program(
            "rag", ["users", "add", *bob], rag.environment(), standard_input=f"{password}\n"
        )

    refused(add_bob("short"), "password: expected at least 12 characters, found 5")
    done = add_bob(PASSWORD)
    assert (done.returncode, done.stdout) == (0, "User bob is added, as super_admin.\n")
    refused(rag("users", "password", "bob"), "add --password-stdin")
    refused(rag("users", "remove", "ann", "--json"), "rag users remove ann --yes --json")
    rag.ok("users", "lock", "ann")
    lines = [line.split() for line in rag.ok("users", "list").splitlines()]
    assert ["ann", "ann@example.com", "editor", "locked"] in lines
    assert ["bob", "bob@example.com", "super_admin", "active"] in lines
    rag.ok("users", "remove", "ann", "--yes")
    refused(rag("users", "show", "ann"), "There is no user 'ann'")
