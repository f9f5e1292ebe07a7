"""The command `rag` as a user runs it: a separate process with its own home folder."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from pymilvus import MilvusClient

from resources.embedded.stack import running, stop
from resources.milvus.store import MilvusStore
from tests.support.folders import servers_folder
from tests.support.oracle import disagreements
from tests.support.processes import run_rag
from tests.support.world import empty_stores

EXECUTABLE = Path(sys.executable).with_name("rag")


def with_sigint(handler: str, *command: str | Path) -> list[str]:
    """Return a command that starts another one with SIGINT at SIG_DFL or SIG_IGN.

    What a shell starts in the background ignores SIGINT, and so do its children. Not `preexec_fn`: gRPC's threads may
    end a child between fork and exec, and then nobody hears of it.
    """
    code = (
        "import os, signal, sys\n"
        f"signal.signal(signal.SIGINT, signal.{handler})\n"
        "os.execv(sys.argv[1], sys.argv[1:])"
    )
    return [sys.executable, "-I", "-S", "-c", code, *map(str, command)]


@dataclass(frozen=True)
class Rag:
    """One deployment. Its commands see `env`, and no other RAG_* or DAGSTER_* variable of this process."""

    home: Path
    env: dict[str, str] = field(default_factory=lambda: {"RAG_VECTORS": "dense,sparse"})

    def environment(self, **changes: str) -> dict[str, str]:
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("RAG_", "DAGSTER_"))
        }
        return inherited | {"RAG_HOME": str(self.home)} | self.env | changes

    def __call__(self, *arguments: str, **changes: str) -> subprocess.CompletedProcess[str]:
        return run_rag(arguments, self.environment(**changes))

    def ok(self, *arguments: str) -> str:
        """Return the standard output of a command that must succeed."""
        process = self(*arguments)
        assert process.returncode == 0, (
            f"rag {' '.join(arguments)}\n{process.stdout}\n{process.stderr}"
        )
        return process.stdout

    def json(self, *arguments: str) -> Any:
        return json.loads(self.ok(*arguments, "--json"))

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start the executable itself, without waiting for it."""
        return subprocess.Popen(
            with_sigint("SIG_DFL", EXECUTABLE, *arguments),
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    @property
    def urls(self) -> dict[str, str]:
        return running(self.home)

    @contextmanager
    def sql(self) -> Iterator[psycopg.Connection]:
        with psycopg.connect(self.urls["postgres"], autocommit=True) as connection:
            yield connection

    @contextmanager
    def milvus(self) -> Iterator[MilvusClient]:
        client = MilvusClient(self.urls["milvus"])
        try:
            yield client
        finally:
            client.close()

    def empty(self) -> None:
        """Remove all data from the running servers."""
        with self.sql() as connection:
            empty_stores(connection, MilvusStore(self.urls["milvus"], timeout=120))

    def disagreements(self) -> list[str]:
        return disagreements(self.urls["postgres"], self.urls["milvus"])


@contextmanager
def emptied(home: Path) -> Iterator[Rag]:
    """A deployment on servers that run for this home folder, without any data, and without Dagster's afterwards."""
    rag = Rag(home)
    rag.empty()
    try:
        yield rag
    finally:
        shutil.rmtree(home / "storage", ignore_errors=True)
        (home / "settings.env").unlink(missing_ok=True)
        with rag.sql() as connection:
            connection.execute("DROP SCHEMA IF EXISTS dagster CASCADE")


@contextmanager
def deployment(below: str = "home") -> Iterator[Rag]:
    """A deployment in a new folder, removed afterwards."""
    with servers_folder("rag-cli-") as folder:
        rag = Rag(folder / below)
        try:
            yield rag
        finally:
            stop(rag.home)


@contextmanager
def serving(rag: Rag, *options: str, log: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run `rag serve` on a free port, with its messages in a file. Yields the process and its URL."""
    with log.open("w") as messages:
        process = subprocess.Popen(
            [EXECUTABLE, "serve", "--port", "0", *options],
            env=rag.environment(RAG_LOG_FORMAT="json"),
            stdout=subprocess.PIPE,
            stderr=messages,
            text=True,
        )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert "://" in line, log.read_text()
        yield process, line.split()[1]
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.communicate(timeout=30)
        finally:
            process.kill()
