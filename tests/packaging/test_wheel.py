"""The wheel, installed outside any checkout, in a folder whose name has spaces and letters of other scripts."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.error import URLError

import pytest

from tests.packaging.installation import (
    Installation,
    build_wheel,
    install,
    remove_extras,
    user_environment,
)
from tests.support.folders import servers_folder
from tests.support.rag import enable_ctrl_c

QUESTION = (
    b'{"query": "{ repositoriesOrError { ... on RepositoryConnection { nodes { name } } } }"}'
)


@pytest.fixture
def installed() -> Iterator[Installation]:
    with servers_folder("rag wheel ü ") as folder:
        programs = install(build_wheel(folder), folder / "環境 environment")
        # The names of two of our files: the commands must not take these.
        work = folder / "مستندات work"
        (work / "resources").mkdir(parents=True)
        (work / "resources" / "__init__.py").write_text("raise RuntimeError('not ours')")
        (work / "dagster.yaml").write_text("no: configuration of ours")
        (work / "notes").mkdir()
        (work / "notes" / "hours.md").write_text("# Hours\n\nThe observatory opens at six.\n")
        home = folder / "home"
        home.mkdir()
        installation = Installation(programs, work, user_environment(home))
        try:
            yield installation
        finally:
            for name in ("", "demo", "second"):
                installation.run("down", **home_of(installation, name))


def home_of(installation: Installation, name: str) -> dict[str, str]:
    """Return the variables of a deployment: the default one, the demo's below it, or another one."""
    if not name:
        return {}
    root = Path(installation.env["HOME"])
    own = root / ".local" / "share" / "rag-assets" / name if name == "demo" else root / name
    return {"RAG_HOME": str(own)}


def test_the_wheel_works_in_an_empty_environment(installed: Installation) -> None:
    # It ingests, checks, repairs and searches.
    installed.ok("demo")

    # The default home is in the user's data folder, never in site-packages.
    status = json.loads(installed.ok("up", "--json"))
    home = Path(installed.env["HOME"])
    assert Path(status["home"]).is_relative_to(home)

    installed.ok("ingest", "notes")
    hits = json.loads(installed.ok("search", "when does it open", "--json"))["hits"]
    assert [(hit["source"], hit["key"]) for hit in hits] == [("notes", "hours.md")]

    # A second deployment beside it has nothing of the first.
    second = home_of(installed, "second")
    other = json.loads(installed.ok("up", "--json", **second))
    assert {other[name] for name in ("home", "postgres", "milvus")}.isdisjoint(status.values())
    counts = json.loads(installed.ok("status", "--json", **second))["counts"]
    assert counts["documents"] == 0

    _look_at_the_ui(installed)
    _search_without_extras(installed, status)


def _search_without_extras(installed: Installation, servers: dict[str, str]) -> None:
    """A process on servers that run elsewhere searches without Dagster, parsers or embedded servers."""
    remove_extras(installed.programs.parent, installed.folder / "packages")
    base = {
        "RAG_POSTGRES_URL": servers["postgres"],
        "RAG_MILVUS_URI": servers["milvus"],
        "RAG_HOME": str(installed.folder / "home"),
    }
    hits = json.loads(installed.ok("search", "when does it open", "--json", **base))["hits"]
    assert [hit["key"] for hit in hits] == ["hours.md"]
    assert json.loads(installed.ok("status", "--json", **base))["counts"]["documents"] == 1

    refused = installed.run("check", **base)
    assert refused.returncode == 2
    for part in ("extra 'ingest'", "dagster", "pip install", "lingua-language-detector"):
        assert part in refused.stderr
    assert "rag-assets[" not in refused.stderr
    assert "Traceback" not in refused.stderr
    for command, extra in (("ui", "ui"), ("up", "ingest")):
        assert f"extra {extra!r}" in installed.run(command, **base).stderr
    alone = {**base, "RAG_POSTGRES_URL": ""}
    assert "extra 'embedded'" in installed.run("search", "x", **alone).stderr


def _look_at_the_ui(installed: Installation) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = installed.folder / "ui.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [installed.programs / "rag", "ui", "--port", str(port)],
            cwd=installed.folder,
            env=installed.env,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=enable_ctrl_c,
        )
    try:
        assert "__repository__" in _answer(port, process), log.read_text()
    finally:
        os.killpg(process.pid, signal.SIGINT)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)


def _answer(port: int, process: subprocess.Popen[bytes], seconds: float = 120) -> str:
    """Return the names of the UI's repositories as JSON, as soon as it answers."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/graphql", QUESTION, {"Content-Type": "application/json"}
    )
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(request, timeout=10) as response:
                return response.read().decode()
        except (URLError, OSError):
            time.sleep(0.5)
    return ""
