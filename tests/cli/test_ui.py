"""`rag ui`: the port is tested first, the URL is printed when it answers, and a signal or a crash ends it clearly."""

from __future__ import annotations

import signal
import socket
import subprocess
import threading
import urllib.request
from collections.abc import Iterator

import psutil
import pytest

from rag_assets.cli.ui import expect_free
from rag_assets.cli.ui_processes import program
from resources.errors import ConfigError
from tests.support.rag import Rag


@pytest.fixture
def used_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("/venv/bin/python -m dagster dev --workspace w.yaml", "dagster dev"),
        ("/venv/bin/python /venv/bin/dagster dev", "dagster dev"),
        ("/venv/bin/python -m dagster._daemon run --log-level warning", "dagster-daemon"),
        ("/venv/bin/python /venv/bin/dagster-daemon run", "dagster-daemon"),
        ("/venv/bin/python -m dagster_webserver --port 3000", "dagster-webserver"),
        ("/venv/bin/python /venv/bin/dagster run list", ""),
        ("/venv/bin/python -m dagster api grpc --heartbeat", ""),
        ("vim dagster.yaml", ""),
    ],
)
def test_the_programs_that_launch_runs_or_show_the_ui(command: str, expected: str) -> None:
    assert program(command.split()) == expected


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def test_a_port_in_use_is_refused_with_a_free_one(used_port: int) -> None:
    with pytest.raises(ConfigError, match=f"Port {used_port} .* rag ui --port") as error:
        expect_free("127.0.0.1", used_port)
    expect_free("127.0.0.1", int(str(error.value).rsplit(" ", 1)[1]))
    with pytest.raises(ConfigError, match="is not an address of this machine"):
        expect_free("203.0.113.9", 0)
    with pytest.raises(ConfigError, match="--host"):
        expect_free("no.such.host.invalid", 0)


def start(
    rag: Rag, *arguments: str, background: bool = False
) -> tuple[subprocess.Popen[str], psutil.Process]:
    """Start the UI. Returns its process and that of Dagster, which has just started."""
    process, _, dagster = start_after(rag, *arguments, background=background)
    return process, dagster


def start_after(
    rag: Rag, *arguments: str, background: bool = False
) -> tuple[subprocess.Popen[str], str, psutil.Process]:
    """Start the UI. Returns its process, what it said before it started Dagster, and the process of Dagster."""
    process = rag.start("ui", *arguments, background=background)
    assert process.stdout is not None
    line = said = ""
    while "starting Dagster" not in line:
        said += line
        line = process.stdout.readline()
        assert line, process.wait()
    own = psutil.Process(process.pid)
    while not (children := own.children()):
        assert process.poll() is None
    return process, said, children[0]


def test_it_serves_until_it_is_told_to_stop_and_beside_no_other(rag: Rag) -> None:
    """Started by a script in the background: SIGINT is ignored then, and Dagster's processes end by it alone."""
    port = free_port()
    process, dagster = start(rag, "--host", "0.0.0.0", "--port", str(port), background=True)
    assert process.stdout is not None
    timer = threading.Timer(180, process.kill)
    timer.start()
    try:
        url = f"http://127.0.0.1:{port}"
        assert f"Dagster UI: {url} (Ctrl-C ends it)" in process.stdout.readline()
        with urllib.request.urlopen(f"{url}/server_info", timeout=10) as answer:
            assert answer.status == 200
        second = rag("ui", "--port", str(free_port()))
        assert (second.returncode, f"process {dagster.pid}" in second.stderr) == (2, True)
        assert "Dagster runs on this deployment already" in second.stderr
        family = [dagster, *dagster.children(recursive=True)]
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate()
    finally:
        timer.cancel()
    assert process.returncode == 0, output
    assert output.splitlines()[0] == "stopping Dagster …" and "Dagster has ended." in output
    assert len(output.splitlines()) == 2
    _, alive = psutil.wait_procs(family, timeout=5)
    assert [p for p in alive if p.status() != psutil.STATUS_ZOMBIE] == []


def test_the_death_of_dagster_is_reported_and_its_orphans_end_at_the_next_start(rag: Rag) -> None:
    killed, orphan = start(rag, "--port", str(free_port()))
    killed.kill()
    killed.communicate()
    assert orphan.is_running()
    process, said, dagster = start_after(rag, "--port", str(free_port()))
    assert "of a `rag ui` that was killed" in said and str(orphan.pid) in said
    assert not orphan.is_running() or orphan.status() == psutil.STATUS_ZOMBIE
    dagster.kill()
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "Dagster ended unexpectedly" in output and str(rag.home / "logs" / "ui.log") in output
