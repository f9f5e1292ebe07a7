"""A deployment that is crashed again and again: its servers, its changing folder, and processes that work on it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import psutil
import psycopg

from rag_assets.definitions import build_resources
from rag_assets.settings.load import Settings
from resources.embedded.milvus import find_milvus
from resources.embedded.postgres import postmaster
from resources.embedded.process import ended
from resources.embedded.stack import start_milvus, start_postgres, stop
from resources.postgres.registry.sources import add_source
from resources.postgres.schema import migrate
from tests.faults import corpus, driver
from tests.support import invariants, oracle
from tests.support.folders import servers_folder
from tests.support.processes import context

Server = Literal["milvus", "postgres"]

#: The signal by which each victim ends; SIGQUIT is PostgreSQL's immediate shutdown.
SIGNALS = {"step": "KILL", "milvus": "KILL", "postgres": "QUIT"}


@dataclass(frozen=True)
class Ended:
    """How a process ended: `said` is done, failed, broke, or killed."""

    said: str
    result: Any
    passages: dict[str, int]
    exit_code: int | None


@dataclass
class Deployed:
    settings: Settings
    generation: int = 0
    epochs: dict[str, int] = field(default_factory=dict)

    @property
    def home(self) -> Path:
        return self.settings.home

    @property
    def folder(self) -> Path:
        return self.home / driver.SOURCE

    def change(self) -> None:
        """The next generation of the folder: the same amount of work as any other."""
        self.generation += 1
        corpus.write(self.folder, self.generation)

    def server(self, name: Server) -> psutil.Process:
        found = find_milvus(self.home) if name == "milvus" else postmaster(self.home / "postgres")
        assert found is not None, f"{name} does not run"
        return found.process

    def start(self, work: str, fault: str = "", signal: str = "KILL", **changes: Any) -> Any:
        """(process, where its answer comes from)."""
        receiver, sender = context.Pipe(duplex=False)
        settings = self.settings.model_copy(update=changes)
        process = context.Process(
            target=driver.run, args=(sender, work, settings, fault, signal), daemon=True
        )
        process.start()
        sender.close()
        return process, receiver

    def run(self, work: str, fault: str = "", signal: str = "KILL", **changes: Any) -> Ended:
        return finish(*self.start(work, fault, signal, **changes))

    def up(self) -> tuple[str, str]:
        """The servers, started if they do not run: what any next command does first."""
        world = build_resources(self.settings)
        url, store = world["postgres"].open().url, world["milvus"].open()
        store.close()
        return url, store.uri

    def assert_no_lies(self) -> None:
        """Right after a crash: what is acknowledged is there."""
        found = oracle.lies(*self.up())
        assert not found, "\n".join(found[:20])

    def assert_heals(self) -> float:
        """The next sync recovers; one more has nothing to do; then every invariant holds. Returns its seconds."""
        ended = self.run("twice")
        assert ended.said == "done", ended.result
        second = ended.result["second"]
        assert ended.result["writes"] == {}
        assert ended.result["idle"], f"a second sync wrote: {second}"
        assert not any(plan[what] for plan in second.values() for what in plan if what != "kept")
        url, uri = self.up()
        found = invariants.violations(url, uri, self.folder, self.home / "storage")
        assert not found, "\n".join(found[:20])
        self._epochs_grow(url)
        return ended.result["seconds"]

    def assert_forgets(self) -> None:
        """What was to be forgotten, and was killed, is ended by asking again; then no store has any of it."""
        ended = self.run("forget")
        assert ended.said == "done", ended.result
        assert all(receipt["verified"] for receipt in ended.result), ended.result
        url, uri = self.up()
        left = invariants.remembered(url, uri, self.home / "storage")
        assert not left, "\n".join(left[:20])

    def _epochs_grow(self, url: str) -> None:
        before, self.epochs = self.epochs, oracle.epochs(url)
        less = [key for key in before.keys() & self.epochs if self.epochs[key] < before[key]]
        assert not less, f"epochs became less: {less[:20]}"


def finish(process: Any, receiver: Any, timeout: float = 120) -> Ended:
    try:
        assert receiver.poll(timeout), f"no answer after {timeout} s"
        said, result, passages = receiver.recv()
    except EOFError:
        said, result, passages = "killed", None, {}
    finally:
        receiver.close()
    process.join(timeout)
    return Ended(said, result, passages, process.exitcode)


def wait_for_end(process: psutil.Process, other: Any, timeout: float = 60) -> bool:
    """Whether the server ended before `other`, the process that is to kill it, did."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        if ended(process, 0):
            return True
        if not other.is_alive():
            return ended(process, 1)
        time.sleep(0.005)
    return False


@contextmanager
def deployed(**settings: Any) -> Iterator[Deployed]:
    """A deployment in a new folder, synced once; gone afterwards."""
    with servers_folder("rag-faults-") as folder:
        home = folder / "home"
        try:
            url = start_postgres(home).url
            migrate(url)
            start_milvus(home)
            made = Deployed(
                Settings(
                    **{
                        "home": home,
                        "embedder": "tests.support.embedders:CountingEmbedder",
                        "vectors": ("dense", "sparse"),
                        "lock_timeout": 20,
                        **settings,
                    }
                )
            )
            corpus.write(made.folder, 0)
            with psycopg.connect(url, autocommit=True) as connection:
                add_source(connection, driver.SOURCE, "folder", {"path": str(made.folder)}, None)
            assert made.run("sync").said == "done"
            yield made
        finally:
            stop(home)
