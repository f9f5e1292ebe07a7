"""`rag ui`: Dagster's web UI and its daemon, in the foreground, with their output in a log file."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Annotated

import psutil
import typer

from rag_assets.cli.exit_codes import ExitCode
from rag_assets.cli.output import command, out, print_error, remark
from rag_assets.cli.ui_processes import end_orphans, expect_no_daemon, owner_variable
from rag_assets.deployment import Deployment
from rag_assets.settings.stores import data_file
from resources.embedded.process import ended, tail
from resources.errors import ConfigError
from resources.extras import require_extra

#: Seconds that Dagster may take to end by itself; it waits for its webserver and its daemon, one after the other.
END_SECONDS = 60
#: Ports above the requested one that are tried for the advice.
_TRIED = 50
_ENDING = (signal.SIGTERM, signal.SIGHUP)
_LOCAL = ("127.0.0.1", "localhost", "::1")


@command
def ui(
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 is every address of this machine.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port of the UI.", min=1, max=65_535)] = 3000,
) -> None:
    """Start the stack and the Dagster UI with its daemon (sensors, schedules, backfills). Ctrl-C ends the UI.

    Example: rag ui --port 8080
    """
    require_extra("ui", "`rag ui`")
    deployment = Deployment.from_environment()
    if orphans := end_orphans(deployment.dagster_home, END_SECONDS):
        pids = ", ".join(map(str, orphans))
        print_error(f"ended Dagster's processes of a `rag ui` that was killed: {pids}", "warning:")
    expect_free(host, port)
    expect_no_daemon(deployment.dagster_home)
    deployment.start()
    log = deployment.settings.home / "logs" / "ui.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    if log.exists():
        log.replace(log.with_name("ui.log.1"))
    if host not in _LOCAL:
        print_error(
            f"Dagster has no login: everyone who reaches {host}:{port} can start, change and delete runs.",
            "warning:",
        )
    remark(f"starting Dagster … (log: {log})")
    with _dagster(deployment, host, port, log) as dagster:
        try:
            if _serves(dagster, reachable(host), port):
                out.print(
                    f"Dagster UI: http://{reachable(host)}:{port} (Ctrl-C ends it)",
                    markup=False,
                    soft_wrap=True,
                )
            dagster.wait()
        except KeyboardInterrupt:
            remark("stopping Dagster …")
            _stop(dagster)
            remark("Dagster has ended. The embedded servers keep running; to stop them: rag down")
            return
    print_error(f"Dagster ended unexpectedly. The last lines of {log}:\n{tail(log)}")
    raise typer.Exit(ExitCode.FAILED)


def expect_free(host: str, port: int, program: str = "rag ui") -> None:
    """Raise ConfigError, with the next free port, if the port is in use or the address is not one of this machine."""
    error = _listen(host, port)
    if error is None:
        return
    if isinstance(error, socket.gaierror):
        raise ConfigError(f"--host: {host} is not the name or address of a machine.")
    if _listen(host, 0) is not None:
        raise ConfigError(
            f"--host: {host} is not an address of this machine: {error.strerror}. "
            "Expected 127.0.0.1, 0.0.0.0 or one of its own addresses."
        )
    numbers = range(port + 1, min(port + 1 + _TRIED, 65_536))
    free = next((number for number in numbers if _listen(host, number) is None), None)
    advice = f" Use a free one: {program} --port {free}" if free else " Name another one: --port"
    raise ConfigError(f"Port {port} of {host} cannot be used: {error.strerror}.{advice}")


def _listen(host: str, port: int) -> OSError | None:
    """Try to listen on a port. Returns the error, or None if it works."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            # As the web server does: without it, the connections of the last one count as use for a minute.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
            probe.listen()
    except OSError as error:
        return error
    return None


def reachable(host: str) -> str:
    """Return an address at which this machine reaches a server on this address, as it stands in a URL."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"[{host}]" if ":" in host else host


@contextmanager
def _dagster(
    deployment: Deployment, host: str, port: int, log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """Run `dagster dev`, in a session of its own: Ctrl-C reaches this process alone, which ends the other in order."""
    command = [
        sys.executable,
        "-m",
        "dagster",
        "dev",
        "--workspace",
        str(data_file("workspace.yaml")),
    ]
    options = ["--host", host, "--port", str(port), "--log-level", "warning"]
    environment = {
        **os.environ,
        "DAGSTER_HOME": str(deployment.dagster_home),
        # It may be relative to the folder that is left here.
        "RAG_HOME": str(deployment.settings.home),
        # `dagster dev` advises another command, which this project does not need.
        "PYTHONWARNINGS": "ignore",
        **owner_variable(),
    }
    # A supervisor ends a service with SIGTERM; a terminal that is closed sends SIGHUP, which `nohup` ignores.
    heeded = [number for number in _ENDING if signal.getsignal(number) != signal.SIG_IGN]
    previous = {number: signal.signal(number, _interrupt) for number in heeded}
    with log.open("wb") as output, _sigint_for_children():
        process = subprocess.Popen(
            [*command, *options],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment,
            # Dagster puts it on sys.path, and a user's folder may contain modules with the names of ours.
            cwd=deployment.dagster_home,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        _kill(process)


@contextmanager
def _sigint_for_children() -> Iterator[None]:
    """Let children that start in this block heed SIGINT, by which they are ended.

    What a script starts in the background ignores it, and so do its children. A signal with a handler is not ignored.
    """
    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
        yield
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _serves(process: subprocess.Popen[bytes], host: str, port: int) -> bool:
    """Wait until the UI answers. Returns False if Dagster ended before."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while process.poll() is None:
        try:
            with opener.open(f"http://{host}:{port}/server_info", timeout=5):
                return True
        except (OSError, urllib.error.URLError):
            time.sleep(0.2)
    return False


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Interrupt Dagster and the runs in progress, and wait for their end; a second Ctrl-C ends the wait."""
    with suppress(KeyboardInterrupt, psutil.NoSuchProcess):
        session = [*psutil.Process(process.pid).children(recursive=True)]
        # As a terminal does: runs end their steps and record it.
        os.killpg(process.pid, signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=END_SECONDS)
        for child in session:
            ended(child, END_SECONDS / 10)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill the remaining processes of Dagster's session."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
