"""`rag sources` as users run it: types derived from targets, YAML planned and applied, secrets never shown."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet

from rag_assets.operations.source_specs import target_config
from tests.support.rag import Rag, emptied
from tests.support.servers import S3, Web

OLD, NEW = Fernet.generate_key().decode(), Fernet.generate_key().decode()


@pytest.fixture(scope="module")
def module_rag(running_home: Path) -> Iterator[Rag]:
    with emptied(running_home) as rag:
        rag.env.update(
            RAG_CREDENTIALS_KEY=OLD,
            WIKI_PASSWORD="hush-wiki",
            S3_KEY="AKIAEXAMPLE",
            S3_SECRET="hush-s3",
        )
        rag.ok("up")
        yield rag


@pytest.fixture
def rag(module_rag: Rag) -> Rag:
    with module_rag.sql() as connection:
        connection.execute("DELETE FROM sources")
    return module_rag


def registered(rag: Rag) -> dict[str, tuple[str, dict[str, Any]]]:
    with rag.sql() as connection:
        rows = connection.execute(
            "SELECT name, source_type, connection_config FROM sources"
        ).fetchall()
    return {name: (kind, config) for name, kind, config in rows}


def refused(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 2, done.stdout
    assert "Traceback" not in done.stderr
    return done.stderr


def test_the_type_is_derived_from_the_target(tmp_path: Path) -> None:
    (tmp_path / "bare.git" / "objects").mkdir(parents=True)
    (tmp_path / "bare.git" / "HEAD").write_text("ref: refs/heads/main\n")
    for target, expected in (
        (str(tmp_path), ("folder", {"path": str(tmp_path)})),
        ("https://ex.org/sitemap.xml", ("web", {"sitemap": "https://ex.org/sitemap.xml"})),
        ("https://ex.org/a", ("web", {"urls": ["https://ex.org/a"]})),
        ("s3://bucket/docs", ("files", {"url": "s3://bucket/docs"})),
        ("https://ex.org/x.git", ("git", {"url": "https://ex.org/x.git"})),
        ("git+https://ex.org/x", ("git", {"url": "https://ex.org/x"})),
        ("git@ex.org:team/x", ("git", {"url": "git@ex.org:team/x"})),
        (str(tmp_path / "bare.git"), ("git", {"url": str(tmp_path / "bare.git")})),
    ):
        assert target_config(target) == expected


def test_a_source_is_registered_with_its_type_and_its_usual_columns(
    rag: Rag, tmp_path: Path
) -> None:
    faq = tmp_path / "faq.jsonl"
    faq.write_text('{"id": 1, "question": "When?", "answer": "At nine."}\n')
    rag.ok("sources", "add", "faq", str(faq))
    columns = {"key": "id", "text": "answer", "title": "question"}
    assert registered(rag) == {"faq": ("jsonl", {"path": str(faq), **columns})}
    rag.ok(
        "sources", "add", "wiki", "postgresql://ada@127.0.0.1/wiki", "--set", "query=SELECT * FROM pages",
        "--set", "key=id", "--set", 'text=["head", "body"]', "--credential", "password=@WIKI_PASSWORD",
    )  # fmt: skip
    assert registered(rag)["wiki"][0] == "sql"
    assert registered(rag)["wiki"][1]["text"] == ["head", "body"]
    assert {row["name"] for row in rag.json("sources", "list")["sources"]} == set(registered(rag))


def test_invalid_settings_are_reported_at_once_and_register_nothing(
    rag: Rag, tmp_path: Path
) -> None:
    message = refused(
        rag("sources", "add", "x", "https://ex.org/", "--set", "depth=99", "--set", "agent=x")
    )
    assert "depth" in message and "agent" in message and "rag sources types web" in message
    message = refused(
        rag("sources", "add", "x", "https://ex.org/", "--credential", "api_key=@S3_KEY")
    )
    assert "expected username, password, token, found api_key" in message
    nothing = refused(rag("sources", "add", "x", str(tmp_path / "nothing")))
    assert "does not exist; expected a folder" in nothing
    (tmp_path / "odd.csv").write_text("a,b\n1,2\n")
    assert "--set text=COLUMN" in refused(rag("sources", "add", "x", str(tmp_path / "odd.csv")))
    assert "cron" in refused(rag("sources", "add", "x", str(tmp_path), "--schedule", "often"))
    # A package that the source needs is missed before its first sync.
    if find_spec("gcsfs") is None:
        message = refused(rag("sources", "add", "x", "gs://bucket/docs"))
        assert "gs:// needs a backend" in message and "install gcsfs" in message
    assert registered(rag) == {}


def test_types_are_described(rag: Rag) -> None:
    types = rag.json("sources", "types")["types"]
    assert list(types) == ["folder", "files", "git", "web", "sql", "jsonl", "csv", "parquet"]
    for about in types.values():
        assert all(setting["description"] for setting in about["settings"])
    assert "robots" in rag.ok("sources", "types", "web")


def test_settings_are_changed_in_place(rag: Rag, tmp_path: Path) -> None:
    rag.ok("sources", "add", "docs", str(tmp_path), "--include", "*.md")
    rag.ok("sources", "change", "docs", "--set", "language=ja", "--unset", "include", "--paused")
    assert rag.json("sources", "show", "docs") == {
        "schema": 1,
        "name": "docs",
        "type": "folder",
        "account": None,
        "config": {"path": str(tmp_path), "language": "ja"},
        "schedule": None,
        "active": False,
        "credentials": {},
    }
    # A glob is added to the others; a list of one is written without brackets.
    change = ("sources", "change", "docs", "--set", "exclude=a.md", "--exclude", "drafts/**")
    assert rag.json(*change)["config"]["exclude"] == ["a.md", "drafts/**"]
    assert "language" in refused(rag("sources", "change", "docs", "--set", "language=japanese"))


# Credentials ------------------------------------------------------------------------------------------------------


def stored(rag: Rag) -> str:
    with rag.sql() as connection:
        return connection.execute("SELECT credentials_encrypted FROM sources").fetchall()[0][0]


def test_credentials_are_encrypted_rotated_and_never_shown(rag: Rag) -> None:
    rag.ok("sources", "add", "wiki", "https://wiki.test/", "--credential", "token=@WIKI_PASSWORD")
    for arguments in (("list",), ("show", "wiki")):
        for more in ((), ("--json",)):
            assert "hush" not in rag.ok("sources", *arguments, *more)
    assert rag.json("sources", "show", "wiki")["credentials"] == {"token": "***"}
    before = stored(rag)
    assert "hush" not in before
    assert json.loads(Fernet(OLD).decrypt(before)) == {"token": "hush-wiki"}

    done = rag("sources", "rotate-credentials", RAG_CREDENTIALS_KEY=f"{NEW},{OLD}")
    assert done.returncode == 0, done.stderr
    assert json.loads(Fernet(NEW).decrypt(stored(rag))) == {"token": "hush-wiki"}
    # With the old key alone.
    message = refused(rag("sources", "rotate-credentials"))
    assert "RAG_CREDENTIALS_KEY" in message
    rag.ok("sources", "credentials", "wiki", "--clear")
    assert rag.json("sources", "show", "wiki")["credentials"] == {}


def test_a_secret_on_the_command_line_is_refused(rag: Rag) -> None:
    rag.ok("sources", "add", "wiki", "https://wiki.test/")
    message = refused(rag("sources", "credentials", "wiki", "--credential", "token=hush"))
    assert "@VARIABLE" in message and "hush" not in message
    assert "NOT_SET" in refused(
        rag("sources", "credentials", "wiki", "--credential", "token=@NOT_SET")
    )
    message = refused(rag("sources", "add", "x", "https://u:hush@wiki.test/"))
    assert ("hush" not in message and "--credential" in message) or "credential" in message
    for key, reason in (("", "openssl rand"), ("short", "32 bytes")):
        done = rag(
            "sources",
            "credentials",
            "wiki",
            "--credential",
            "token=@S3_KEY",
            RAG_CREDENTIALS_KEY=key,
        )
        assert reason in refused(done)


def test_credentials_reach_the_store_and_no_log(rag: Rag, s3: S3, web: Web) -> None:
    s3.put("bucket/docs/a.md", "# Opening\n\nThe observatory opens at nine in the morning.\n")
    rag.ok(
        "sources", "add", "bucket", "s3://bucket/docs", "--set", f"options={json.dumps(s3.options)}",
        "--credential", "key=@S3_KEY", "--credential", "secret=@S3_SECRET",
    )  # fmt: skip
    # A server that returns the request in its response.
    web.put("/a", "x")
    web.pages["/a"].status = 401
    rag.ok(
        "sources", "add", "wiki", web.url("/a"), "--set", "allow_private_addresses=true", "--set", "ignore_robots=true",
        "--credential", "token=@WIKI_PASSWORD",
    )  # fmt: skip
    reports = {report["source"]: report for report in rag.json("ingest")["sources"]}
    assert reports["bucket"]["plan"]["source_documents"]["inserted"] == 1
    assert reports["wiki"]["failed_documents"] == [
        {"key": web.url("/a"), "step": "read", "reason": "HTTP 401"}
    ]
    assert web.headers[-1]["authorization"] == "Bearer hush-wiki"
    with rag.sql() as connection:
        events = connection.execute(
            "SELECT string_agg(event, ' ') FROM dagster.event_logs"
        ).fetchall()[0][0]
    assert "wiki" in events and "hush" not in events
    logs = (path.read_text(errors="replace") for path in rag.home.rglob("*.log"))
    assert not any("hush-" in log for log in logs)


# Declared in YAML -------------------------------------------------------------------------------------------------


def test_yaml_is_planned_and_applied(rag: Rag, tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    file = tmp_path / "sources.yaml"
    file.write_text(
        """
sources:
  - name: handbook
    type: folder
    config: {path: docs, include: ["**/*.md"]}
    schedule: "0 3 * * *"
  - name: wiki
    type: web
    active: false
    config: {sitemap: "https://wiki.test/sitemap.xml"}
    credentials: {token: "@WIKI_PASSWORD"}
"""
    )
    rag.ok("sources", "add", "other", str(tmp_path))

    def actions(*options: str) -> dict[str, tuple[str, list[str]]]:
        plan = rag.json("sources", "apply", str(file), *options)["plan"]
        return {change["name"]: (change["action"], change["fields"]) for change in plan}

    added = {"handbook": ("add", []), "wiki": ("add", [])}
    assert actions("--dry-run") == added
    assert set(registered(rag)) == {"other"}
    assert actions() == added
    assert registered(rag)["handbook"][1]["path"] == str(tmp_path / "docs")
    assert rag.json("sources", "show", "wiki")["credentials"] == {"token": "***"}
    assert not rag.json("sources", "show", "wiki")["active"]
    assert actions() == {"handbook": ("keep", []), "wiki": ("keep", [])}

    file.write_text(file.read_text().replace('["**/*.md"]', '["**/*.rst"]').replace("0 3", "0 4"))
    rag.env["WIKI_PASSWORD"] = "hush-new"
    changed = {
        "handbook": ("update", ["config.include", "schedule"]),
        "wiki": ("update", ["credentials"]),
    }
    shown = rag.ok("sources", "apply", str(file), "--dry-run")
    assert "config.include" in shown and "hush" not in shown
    # Nothing is applied before the answer.
    for options in ((), ("--json",)):
        message = refused(rag("sources", "apply", str(file), "--prune", *options))
        assert "Remove other (0 documents, 0 chunks" in message and "--prune --yes" in message
    assert actions("--dry-run", "--prune") == {**changed, "other": ("remove", [])}
    assert set(registered(rag)) == {"handbook", "wiki", "other"}
    assert actions("--prune", "--yes") == {**changed, "other": ("remove", [])}
    assert set(registered(rag)) == {"handbook", "wiki"}
    assert json.loads(Fernet(OLD).decrypt(stored_of(rag, "wiki"))) == {"token": "hush-new"}


def stored_of(rag: Rag, name: str) -> str:
    with rag.sql() as connection:
        query = "SELECT credentials_encrypted FROM sources WHERE name = %s"
        return connection.execute(query, [name]).fetchall()[0][0]


def test_a_file_with_problems_changes_nothing_and_all_are_reported(
    rag: Rag, tmp_path: Path
) -> None:
    file = tmp_path / "sources.yaml"
    file.write_text(
        """
sources:
  - {name: good, type: folder, config: {path: /}}
  - {name: bad/name, type: web, config: {urls: [nonsense]}}
  - {name: wiki, type: sql, config: {url: "sqlite:///x"}, credentials: {password: hush-plain, pin: "@NOT_SET"}}
  - {name: good, type: nothing, config: {}, schedule: often}
"""
    )
    message = refused(rag("sources", "apply", str(file)))
    for problem in (
        "bad/name",
        "urls",
        "query",
        "key",
        "@VARIABLE",
        "NOT_SET",
        "declared twice",
        "nothing",
        "cron",
    ):
        assert problem in message, problem
    assert "hush" not in message
    assert registered(rag) == {}
    file.write_text("sources:\n  - {name: x, type: web, password: hush}\n")
    message = refused(rag("sources", "apply", str(file)))
    assert (
        "sources.0.password" in message and "sources.0.config" in message and "hush" not in message
    )
    file.write_bytes(b"sources: [] # caf\xe9")
    assert "not YAML in UTF-8" in refused(rag("sources", "apply", str(file)))
