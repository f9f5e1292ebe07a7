"""The wheel, installed outside any checkout, in a folder whose name has spaces and letters of other scripts.

Its `rag demo` is also the one whose output and stores are tested.
"""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from subprocess import CompletedProcess
from urllib.error import URLError
from zipfile import ZipFile

import psutil
import pytest
import typer
from rich.cells import cell_len

from rag_assets.cli.demo import expect_success
from rag_assets.cli.demo_questions import ask, read_questions
from rag_assets.cli.output import out
from rag_assets.deployment import Deployment
from rag_assets.settings.load import Settings
from rag_assets.settings.stores import data_file
from resources.embedded.stack import running, stop
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
from tests.support.rag import with_sigint

QUESTION = (
    b'{"query": "{ repositoriesOrError { ... on RepositoryConnection { nodes { name } } } }"}'
)

QUESTIONS = data_file("demo") / "questions.json"
#: Stores and settings of a user, which must not be used: none of them would work.
OF_THE_USER = {
    "RAG_POSTGRES_URL": "postgresql://nobody@127.0.0.1:1/nothing",
    "RAG_MILVUS_URI": "http://127.0.0.1:1",
    "RAG_STORAGE_URL": "/proc/nothing",
    "RAG_EMBEDDER": "no.module:Class",
    "RAG_VECTORS": "dense,sparse,multi",
}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
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
            stop(data_folder(installation))
            stop(data_folder(installation) / "demo")


def data_folder(installed: Installation) -> Path:
    """The folder of a user's data: the default home."""
    return Path(installed.env["HOME"], ".local", "share", "rag-assets")


@pytest.fixture(scope="module")
def demo(installed: Installation) -> CompletedProcess[str]:
    """The first command of an installation: it ingests, checks, repairs and searches, in a home of its own."""
    return installed.run("demo", COLUMNS="80", **OF_THE_USER)


def test_the_demo_fits_on_a_screen_and_shows_each_answer(
    installed: Installation, demo: CompletedProcess[str]
) -> None:
    assert demo.returncode == 0, demo.stdout + demo.stderr
    lines = demo.stdout.splitlines()
    assert len(lines) < 50
    folder = str(installed.folder.parent)
    assert [line for line in lines if cell_len(line) > 80 and folder not in line] == []
    for question in read_questions(QUESTIONS.with_name("questions-across-languages.json")):
        at = next(n for n, line in enumerate(lines) if question.text in line)
        assert lines[at + 1].startswith(f" ✓  {question.expect} ")
    questions = read_questions(QUESTIONS)
    assert len({question.language for question in questions}) == 7
    for question in questions:
        at = next(n for n, line in enumerate(lines) if question.text in line)
        assert lines[at + 1].startswith(" ✓") and question.answer in lines[at + 1]


def test_a_row_that_was_overwritten_is_named_and_repaired(demo: CompletedProcess[str]) -> None:
    shown = [line.strip() for line in demo.stdout.splitlines()]
    passed = [line for line in shown if re.search(r"\d+ checks, all passed", line)]
    (overwritten,) = [line for line in shown if line.startswith("✎")]
    named = [line for line in shown if line.startswith("✗")]
    (repaired,) = [line for line in shown if "rag repair: 1 row" in line]
    row = overwritten.split()[1]
    assert named == [
        f"✗  dense_vectors_are_sound: {row} is unsound",
        f"✗  dense_vectors_match_postgres: {row} is stale",
    ]
    order = [shown.index(line) for line in (passed[0], overwritten, *named, repaired)]
    assert order == sorted(order) and len(passed) == 2
    assert any("0 texts embedded, 0 rows written" in line for line in shown)


def test_the_demo_leaves_no_server_and_nothing_outside_its_home(
    installed: Installation, demo: CompletedProcess[str]
) -> None:
    assert demo.returncode == 0
    assert [path.name for path in data_folder(installed).iterdir()] == ["demo"]
    assert running(data_folder(installed) / "demo") == {}


def test_a_wrong_answer_has_a_cross_and_exit_code_1(
    installed: Installation,
    demo: CompletedProcess[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """On the stores of the first demo, without a second one."""
    questions = json.loads(QUESTIONS.read_text(encoding="utf-8"))[:3]
    # The right document, but not the right sentence; the right sentence, but another document; and a right one.
    questions[0]["answer"] = "lost observing time"
    questions[1]["expect"] = "en/glossary.txt"
    wrong = tmp_path / "wrong.json"
    wrong.write_text(json.dumps(questions), encoding="utf-8")
    monkeypatch.setattr(out, "width", 80)
    deployment = Deployment(Settings(home=data_folder(installed) / "demo"))
    deployment.start()
    answers = ask(deployment, read_questions(wrong))
    lines = capsys.readouterr().out.splitlines()
    signs = [
        lines[lines.index(line) + 1][:2] for q in questions for line in lines if q["text"] in line
    ]
    assert signs == [" ✗", " ✗", " ✓"]
    assert "    expected “lost observing time” in en/incident-report-dome-ice.pdf" in lines
    expect_success(True, answers[2:])
    for consistent, shown in ((True, answers), (False, answers[2:])):
        with pytest.raises(typer.Exit) as ended:
            expect_success(consistent, shown)
        assert ended.value.exit_code == 1


@pytest.mark.soak
def test_a_second_demo_finds_its_documents_as_they_were(
    installed: Installation, demo: CompletedProcess[str], tmp_path: Path
) -> None:
    questions = json.loads(QUESTIONS.read_text(encoding="utf-8"))[:3]
    questions[0]["answer"] = "lost observing time"
    wrong = tmp_path / "wrong.json"
    wrong.write_text(json.dumps(questions), encoding="utf-8")
    done = installed.run("demo", "--questions", str(wrong))
    assert done.returncode == 1, done.stdout + done.stderr
    assert "expected “lost observing time” in en/incident-report-dome-ice.pdf" in done.stdout
    assert "0 texts embedded" in done.stdout and "the first time" not in done.stdout


def test_the_wheel_works_in_an_empty_environment(installed: Installation) -> None:
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
            with_sigint(
                *("SIG_IGN", installed.programs / "rag"),
                *("ui", "--host", "0.0.0.0", "--port", str(port)),
            ),
            cwd=installed.folder,
            env=installed.env,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    family = []
    try:
        assert "__repository__" in _answer(port, process), log.read_text()
        # The command itself may learn later than we do that the UI answers.
        _wait_for_line(log, "Dagster UI: ", process)
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


def _wait_for_line(log: Path, beginning: str, process: subprocess.Popen[bytes]) -> None:
    while not any(line.startswith(beginning) for line in log.read_text().splitlines()):
        assert process.poll() is None, log.read_text()
        time.sleep(0.05)


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
