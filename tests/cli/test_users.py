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
    rag.ok("sources", "add", "docs", str(tmp_path), "--account", "north")
    assert rag.json("sources", "list")["sources"][0]["account"] == "north"
    # The first user, before any `rag users init`; each sees what it was granted.
    added = rag.json(
        "users",
        "add",
        "Ann@Example.com",
        "--username",
        "ann",
        "--role",
        "editor",
        "--account",
        "north",
    )
    assert (added["email"], added["accounts"], added["has_password"]) == (
        "ann@example.com",
        ["north"],
        False,
    )
    refused(rag("users", "add", "x@example.com", "--username", "ann"), "is taken")
    refused(rag("users", "grant", "ann", "--source", "wiki"), "There is no source wiki")
    shown = rag.json("users", "grant", "ann", "--source", "docs", "--permission", "job:run")
    assert (shown["sources"], shown["permissions"]) == (["docs"], ["job:run"])
    refused(rag("users", "revoke", "ann", "--permission", "search:read"), "part of the role editor")

    # A script takes the key from the only line of a quiet command.
    key = rag.ok("keys", "add", "-q", "--user", "ann", "--name", "crawler", "--expires", "30d")
    parsed = parse_key(key.strip())
    assert parsed is not None and key == f"{parsed.text}\n"
    issued = rag.json("keys", "rotate", parsed.prefix, "--grace", "12h")
    assert parse_key(issued["key"]) is not None and issued["permissions"] == [
        "document:read",
        "search:read",
    ]
    listed = rag.json("keys", "list", "--user", "ann@example.com")["keys"]
    assert {row["name"] for row in listed} == {"crawler"} and "key_hash" not in listed[0]
    # Whoever finds a key somewhere revokes it as it is.
    assert rag.json("keys", "revoke", parsed.text)["is_active"] is False
    text = rag.ok("keys", "list")
    assert parsed.prefix in text and parsed.secret not in text and "revoked" in text
    refused(
        rag("keys", "add", "--user", "ann", "--name", "x", "--expires", "soon"),
        "--expires: expected 30d",
    )

    # A password comes from standard input only.
    adding = ["users", "add", "bob@example.com", "--username", "bob", "--role", "super_admin"]
    refused(
        run_program(
            "rag", [*adding, "--password-stdin"], rag.environment(), standard_input="short\n"
        ),
        "at least 12",
    )
    refused(rag(*adding, "--password-stdin"), "Expected a password on standard input, found none")
    done = run_program(
        "rag", [*adding, "--password-stdin"], rag.environment(), standard_input=f"{PASSWORD}\n"
    )
    assert (done.returncode, done.stdout) == (0, "User bob is added, as super_admin.\n")
    refused(rag("users", "password", "bob"), "add --password-stdin")
    refused(rag("users", "lock", "bob"), "bob is the last active super_admin")
    refused(rag("users", "remove", "ann", "--json"), "rag users remove ann --yes --json")
    rag.ok("users", "lock", "ann")
    lines = [line.split() for line in rag.ok("users", "list").splitlines()]
    assert ["ann", "ann@example.com", "editor", "locked"] in lines
    assert ["bob", "bob@example.com", "super_admin", "active"] in lines
    rag.ok("users", "remove", "ann", "--yes")
    assert rag.json("keys", "list")["keys"] == []
    refused(rag("users", "show", "ann"), "There is no user 'ann'")
