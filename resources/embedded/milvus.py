"""The embedded Milvus Lite server: start, find, stop.

`milvus_server.py` is the process; it records its pid and port in `run/milvus.json`. No collections here.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from resources.embedded import milvus_server
from resources.embedded.process import POLL, ended, find, locked, prepare, spawn, tail
from resources.errors import StackError
from resources.extras import require_extra

_HTTP2_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])


@dataclass(frozen=True)
class MilvusEndpoint:
    """A running Milvus Lite. `started`: this call started it."""

    uri: str
    pid: int
    started: bool


@dataclass(frozen=True)
class Server:
    """The live server process of a home folder, and its port."""

    process: psutil.Process
    port: int

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def answers(self) -> bool:
        """Return whether the port speaks HTTP/2, by its first frame (1 ms). The network threads of gRPC send the frame,
        so a server that is busy with one long request answers too: busy is not dead.
        """
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=5) as client:
                client.sendall(_HTTP2_HELLO)
                frame = client.recv(9)
        except OSError:
            return False
        settings_frame = 4
        return len(frame) == 9 and frame[3] == settings_frame


def start_milvus(home: Path, *, timeout: float = 60) -> MilvusEndpoint:
    """Start Milvus Lite for this home folder if it does not run. Raises StackError after `timeout` seconds."""
    home = prepare(home)
    log = home / "logs" / "milvus.log"
    with locked(home, "milvus", timeout) as deadline:
        server = find_milvus(home)
        started = server is None
        pid = server.process.pid if server else _launch(home, log)
        while not (
            (server := find_milvus(home)) and server.process.pid == pid and server.answers()
        ):
            process = find(pid)
            # The server that was found has died since.
            if process is None and not started:
                started, pid = True, _launch(home, log)
                continue
            if process is None:
                raise StackError(f"milvus: stopped while starting; log {log}:\n{tail(log)}")
            if time.monotonic() >= deadline:
                # It has no clients yet, and without its record no later call would find it.
                if started:
                    process.kill()
                raise StackError(
                    f"milvus: pid {pid} does not answer after {timeout:g} s; log {log}:\n{tail(log)}\n"
                    "Restart it with: rag down; rag up"
                )
            time.sleep(POLL)
        return MilvusEndpoint(server.uri, pid, started)


def stop_milvus(home: Path, timeout: float) -> bool:
    """Stop the server: running requests end, memory is written to disk. Return False if it did not run.

    After `timeout` it is killed; its next start repairs the data.
    """
    with locked(home, "milvus", timeout) as deadline:
        server = find_milvus(home)
        if server is None:
            return False
        server.process.send_signal(signal.SIGTERM)
        if not ended(server.process, deadline - time.monotonic()):
            server.process.kill()
            ended(server.process, 5)
        return True


def running_milvus(home: Path) -> str | None:
    """Return the URI of the server that serves this home, or None."""
    server = find_milvus(home)
    return server.uri if server and server.answers() else None


def find_milvus(home: Path) -> Server | None:
    """Return the live server of this home, whether it answers or not."""
    record = _read_record(home)
    # By its folders, not its program: another checkout may have started it.
    process = find(record.get("pid"), str(home / "milvus"), str(home / "run" / "milvus.json"))
    return Server(process, record["port"]) if process else None


def _launch(home: Path, log: Path) -> int:
    """Start the server process and return its pid. It takes its previous port if that is free."""
    require_extra("embedded", "The embedded Milvus", "Or set RAG_MILVUS_URI to your own Milvus.")
    record_path = home / "run" / "milvus.json"
    # Below the ports that systems give to outgoing connections, and spread by home: a URI that somebody kept must not
    # lead to another project's data.
    base = 20_000 + int(hashlib.sha256(os.fsencode(home)).hexdigest(), 16) % 10_000
    last = _read_record(home).get("port", base)
    record_path.unlink(missing_ok=True)
    ports = [str(port) for port in (last, *range(base, base + 20), 0)]
    # -P: Python must not import from the folder of the script.
    argv = [sys.executable, "-P", milvus_server.__file__, str(home / "milvus"), str(record_path)]
    return spawn([*argv, *ports], log)


def _read_record(home: Path) -> dict[str, int]:
    try:
        return json.loads((home / "run" / "milvus.json").read_text())
    except (OSError, ValueError):
        return {}
