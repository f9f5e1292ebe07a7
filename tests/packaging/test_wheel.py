"""The wheel, installed outside any checkout, in a folder whose name has spaces and letters of other scripts."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.error import URLError
from zipfile import ZipFile

import psutil
import pytest

from tests.packaging.installation import (
    PACKAGES,
    ROOT,
    Installation,
    build_wheel,
    install,
    remove_extras,
    user_environment,
)
from tests.support.folders import servers_folder
from tests.support.rag import ignore_ctrl_c

QUESTION = (
    b'{"query": "{ repositoriesOrError { ... on RepositoryConnection { nodes { name } } } }"}'
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture
def installed(wheel: Path) -> Iterator[Installation]:
    with servers_folder("rag wheel ü ") as folder:
        programs = install(wheel, folder / "環境 environment")
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
            installation.run("down")
            demo = Path(installation.env["HOME"], ".local", "share", "rag-assets", "demo")
            installation.run("down", RAG_HOME=str(demo))


def test_the_wheel_works_in_an_empty_environment(installed: Installation) -> None:
    # It ingests, checks, repairs and searches, in a home of its own.
    installed.ok("demo")
    # The stack starts by itself.
    installed.ok("ingest", "notes")
    hits = json.loads(installed.ok("search", "when does it open", "--json"))["hits"]
    assert [(hit["source"], hit["key"]) for hit in hits] == [("notes", "hours.md")]

    # The default home is in the user's data folder, never in site-packages.
    status = json.loads(installed.ok("status", "--json"))
    assert Path(status["home"]).is_relative_to(installed.env["HOME"])
    assert status["counts"]["documents"] == 1

    _look_at_the_ui(installed)
    _search_without_extras(installed, status)


def test_every_file_of_the_packages_is_in_the_wheel(wheel: Path) -> None:
    """The documents of the demo, the migrations and the configuration of Dagster among them."""
    expected = {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    with ZipFile(wheel) as archive:
        contained = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert contained == expected


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
    """It serves until it is told to stop.

    Started by a script in the background: SIGINT is ignored then, and Dagster's processes end by it alone.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = installed.folder / "ui.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [installed.programs / "rag", "ui", "--host", "0.0.0.0", "--port", str(port)],
            cwd=installed.folder,
            env=installed.env,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=ignore_ctrl_c,
        )
    family = []
    try:
        assert "__repository__" in _answer(port, process), log.read_text()
        family = psutil.Process(process.pid).children(recursive=True)
        assert len(family) >= 4
        process.send_signal(signal.SIGTERM)
        assert process.wait(90) == 0, log.read_text()
        _, alive = psutil.wait_procs(family, timeout=5)
        assert [child for child in alive if child.status() != psutil.STATUS_ZOMBIE] == []
    finally:
        process.kill()
        for child in family:
            with suppress(psutil.NoSuchProcess):
                child.kill()
    *_, address, stopping, ended = log.read_text().splitlines()
    assert address == f"Dagster UI: http://127.0.0.1:{port} (Ctrl-C ends it)"
    assert stopping == "stopping Dagster …" and "Dagster has ended." in ended


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
