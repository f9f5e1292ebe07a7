"""`rag ui`: the port is tested first, the URL is printed when it answers, and Ctrl-C or a crash ends it clearly."""

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
from resources.errors import ConfigError
from tests.support.rag import Rag


@pytest.fixture
def used_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


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


def start(rag: Rag, *arguments: str) -> tuple[subprocess.Popen[str], psutil.Process]:
    """Start the UI. Returns its process and that of Dagster, which has just started."""
    process = rag.start("ui", *arguments)
    assert process.stdout is not None
    line = ""
    while "starting Dagster" not in line:
        line = process.stdout.readline()
        assert line, process.wait()
    own = psutil.Process(process.pid)
    while not (children := own.children()):
        assert process.poll() is None
    return process, children[0]


def test_it_serves_until_ctrl_c(rag: Rag) -> None:
    port = free_port()
    process, dagster = start(rag, "--host", "0.0.0.0", "--port", str(port))
    assert process.stdout is not None
    timer = threading.Timer(180, process.kill)
    timer.start()
    try:
        url = f"http://127.0.0.1:{port}"
        assert f"Dagster UI: {url} (Ctrl-C ends it)" in process.stdout.readline()
        with urllib.request.urlopen(f"{url}/server_info", timeout=10) as answer:
            assert answer.status == 200
        family = [dagster, *dagster.children(recursive=True)]
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate()
    finally:
        timer.cancel()
    assert process.returncode == 0, output
    assert output.splitlines()[0] == "stopping Dagster …" and "Dagster has ended." in output
    assert len(output.splitlines()) == 2
    _, alive = psutil.wait_procs(family, timeout=5)
    assert [p for p in alive if p.status() != psutil.STATUS_ZOMBIE] == []


def test_the_death_of_dagster_is_reported_with_its_log(rag: Rag) -> None:
    process, dagster = start(rag, "--port", str(free_port()))
    dagster.kill()
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "Dagster ended unexpectedly" in output and str(rag.home / "logs" / "ui.log") in output
