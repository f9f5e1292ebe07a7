"""`rag audit` as users run it."""

from __future__ import annotations

from pathlib import Path

from tests.support.rag import Rag


def test_the_audit_is_listed_verified_and_exported(rag: Rag, tmp_path: Path) -> None:
    export = tmp_path / "audit.jsonl"
    count = rag.json("audit", "export", str(export))["records"]
    (newest,) = rag.json("audit", "list", "--limit", "1", "--action", "audit")["records"]
    assert (newest["action"], newest["principal"]) == ("audit.export", "owner")
    verified = rag.json("audit", "verify")
    assert verified["verified"] and verified["records"] == count
    # Which anchored the head.
    of_file = rag.json("audit", "verify", "--file", str(export))
    assert of_file["verified"] and of_file["anchors"]["last_record"] == newest["sequence"]
    assert export.stat().st_mode & 0o777 == 0o600

    lines = export.read_text("utf-8").splitlines(keepends=True)
    lines[-2] = lines[-2].replace("owner", "other")
    export.write_text("".join(lines), "utf-8")
    done = rag("audit", "verify", "--file", str(export))
    assert done.returncode == 1
    assert done.stderr.startswith(f"edited: record {newest['sequence']} does not have the hash")

    for arguments, message in (
        (("list", "--outcome", "maybe"), "expected allowed, denied, failed"),
        (("list", "--since", "noon"), "--since: expected a time"),
        (("drop", "--before", "2026"), "--before: expected a month"),
        (("verify", "--file", str(tmp_path / "none")), "cannot be read"),
        (("verify", "--anchors", str(tmp_path / "none")), "--anchors: expected a file"),
    ):
        done = rag("audit", *arguments)
        assert done.returncode == 2 and message in done.stderr, done.stderr
