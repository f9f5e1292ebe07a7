"""`rag ui`: the port is tested first, no other one runs on the deployment, and a crash of Dagster is reported."""

from __future__ import annotations

import socket
import subprocess
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


def start(rag: Rag) -> tuple[subprocess.Popen[str], str, psutil.Process]:
    """Start the UI. Returns its process, its output before it started Dagster, and the process of Dagster."""
    process = rag.start("ui", "--port", str(free_port()))
    assert process.stdout is not None
    line = output = ""
    while "starting Dagster" not in line:
        output += line
        line = process.stdout.readline()
        assert line, process.wait()
    own = psutil.Process(process.pid)
    while not (children := own.children()):
        assert process.poll() is None
    return process, output, children[0]


def test_one_ui_runs_on_a_deployment_and_the_end_of_dagster_is_reported(rag: Rag) -> None:
    """The end on request: tests/packaging/test_wheel.py."""
    killed, _, orphan = start(rag)
    killed.kill()
    killed.communicate()
    assert orphan.is_running()
    # The next start ends what a killed one left.
    process, output, dagster = start(rag)
    assert "of a `rag ui` that was killed" in output and str(orphan.pid) in output
    assert not orphan.is_running() or orphan.status() == psutil.STATUS_ZOMBIE
    second = rag("ui", "--port", str(free_port()))
    assert (second.returncode, f"process {dagster.pid}" in second.stderr) == (2, True)
    assert "Dagster runs on this deployment already" in second.stderr
    dagster.kill()
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "Dagster ended unexpectedly" in output and str(rag.home / "logs" / "ui.log") in output
