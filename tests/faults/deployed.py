"""A deployment for repeated crashes: its servers, its changing folder, and the processes that work on it."""

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

#: The signal that ends each victim. SIGQUIT is PostgreSQL's immediate shutdown.
SIGNALS = {"step": "KILL", "milvus": "KILL", "postgres": "QUIT"}


@dataclass(frozen=True)
class Ended:
    """The end of a process. `outcome`: done, failed (RagError), broke (another exception) or killed."""

    outcome: str
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
        """Write the next generation of the folder: the same amount of work as any other."""
        self.generation += 1
        corpus.write(self.folder, self.generation)

    def server(self, name: Server) -> psutil.Process:
        server = find_milvus(self.home) if name == "milvus" else postmaster(self.home / "postgres")
        assert server is not None, f"{name} does not run"
        return server.process

    def start(self, work: str, fault: str = "", signal: str = "KILL", **changes: Any) -> Any:
        """Start the work in a process. Returns it and the connection that receives its answer."""
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
        """Start the servers that do not run, as every command does first. Returns the URLs of PostgreSQL and Milvus."""
        world = build_resources(self.settings)
        url, store = world["postgres"].open().url, world["milvus"].open()
        store.close()
        return url, store.uri

    def assert_no_lies(self) -> None:
        """Right after a crash, Milvus has every acknowledged row."""
        lies = oracle.lies(*self.up())
        assert not lies, "\n".join(lies[:20])

    def assert_recovers(self) -> float:
        """The next sync recovers, one more has nothing to do, every invariant is true. Returns the recovery seconds."""
        end = self.run("twice")
        assert end.outcome == "done", end.result
        second = end.result["second"]
        assert end.result["writes"] == {}
        assert end.result["idle"], f"a second sync wrote: {second}"
        changes = [
            count for plan in second.values() for name, count in plan.items() if name != "kept"
        ]
        assert not any(changes)
        url, uri = self.up()
        violations = invariants.violations(url, uri, self.folder, self.home / "storage")
        assert not violations, "\n".join(violations[:20])
        self._assert_no_epoch_decreased(url)
        return end.result["seconds"]

    def assert_forgets(self) -> None:
        """A second request completes a killed erasure; then no store has any of the document."""
        end = self.run("forget")
        assert end.outcome == "done", end.result
        assert all(receipt["verified"] for receipt in end.result), end.result
        url, uri = self.up()
        remainder = invariants.remains_of_erasures(url, uri, self.home / "storage")
        assert not remainder, "\n".join(remainder[:20])

    def _assert_no_epoch_decreased(self, url: str) -> None:
        before, self.epochs = self.epochs, oracle.epochs(url)
        smaller = [key for key in before.keys() & self.epochs if self.epochs[key] < before[key]]
        assert not smaller, f"epochs decreased: {smaller[:20]}"


def finish(process: Any, receiver: Any, timeout: float = 120) -> Ended:
    """Wait for the process and its answer."""
    try:
        assert receiver.poll(timeout), f"no answer after {timeout} s"
        outcome, result, passages = receiver.recv()
    except EOFError:
        outcome, result, passages = "killed", None, {}
    finally:
        receiver.close()
    process.join(timeout)
    return Ended(outcome, result, passages, process.exitcode)


def wait_for_end(process: psutil.Process, other: Any, timeout: float = 60) -> bool:
    """Whether the server ended before `other`, the process that should kill it."""
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
    """Yield a deployment in a new folder, synced once. Remove it afterwards."""
    with servers_folder("rag-faults-") as folder:
        home = folder / "home"
        try:
            url = start_postgres(home).url
            migrate(url)
            start_milvus(home)
            deployment = Deployed(
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
            corpus.write(deployment.folder, 0)
            with psycopg.connect(url, autocommit=True) as connection:
                add_source(
                    connection, driver.SOURCE, "folder", {"path": str(deployment.folder)}, None
                )
            assert deployment.run("sync").outcome == "done"
            yield deployment
        finally:
            stop(home)
