"""Kill -9 at random moments: of a `rag ingest`, of Milvus, of every server at once. The next ingest makes it whole.

RAG_FAULT_ROUNDS (default 2) kills of the command; RAG_FAULT_SEED chooses the moments. Every failing seed is printed.
"""

from __future__ import annotations

import os
import random
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from dagster import DagsterInstance, DagsterRunStatus, RunsFilter

from resources.embedded.process import ended
from tests.support.rag import Rag, deployment

ROUNDS = int(os.environ.get("RAG_FAULT_ROUNDS", "2"))
SEED = int(os.environ.get("RAG_FAULT_SEED", "20240607"))
#: Seconds after it took the partition, in which an ingest of this corpus is at work.
WINDOW = (0.0, 2.0)


@pytest.fixture(scope="module")
def rag() -> Iterator[Rag]:
    with deployment() as rag:
        rag.ok("up")
        yield rag


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("files") / "docs"


def write_corpus(root: Path, generation: int) -> None:
    """60 files. Each generation edits half of them, adds and removes some: every kind of change is on its way."""
    root.mkdir(exist_ok=True)
    for path in root.iterdir():
        path.unlink()
    for n in range(generation, generation + 60):
        version = generation if n % 2 else 0
        paragraphs = (
            f"Paragraph {p} of hall {n}, version {version if p % 3 else 0}: the instrument {n * p} was "
            f"made in the year {1600 + n + p} and shows the planet {n * 31 + p} above the river. "
            * 3
            for p in range(12)
        )
        (root / f"{n}.md").write_text(f"# Hall {n}\n\n" + "\n\n".join(paragraphs) + "\n")


def processes_of(rag: Rag, *names: str) -> list[psutil.Process]:
    """The live processes that serve this home: `postgres` (all backends) and `milvus`."""
    found = []
    for process in psutil.process_iter():
        try:
            line = " ".join(process.cmdline())
            folder = process.cwd() if process.name() == "postgres" else ""
        except psutil.Error:
            continue
        if "postgres" in names and (
            folder == str(rag.home / "postgres") or f"-D {rag.home}/postgres" in line
        ):
            found.append(process)
        if "milvus" in names and str(rag.home / "milvus") in line:
            found.append(process)
    return found


def kill(processes: list[psutil.Process]) -> None:
    for process in processes:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    assert all(ended(process, 10) for process in processes)


def assert_whole(rag: Rag, root: Path, expected_files: int = 60) -> None:
    """One ingest later: checks pass, the oracle finds nothing, and a second ingest has nothing left to do."""
    rag.ok("ingest", str(root))
    assert rag.disagreements() == []
    rag.ok("check")
    with rag.sql() as connection:
        rows = connection.execute(
            "SELECT count(*), count(*) FILTER (WHERE indexing_status = 'completed') FROM documents"
        ).fetchall()
    assert rows == [(expected_files, expected_files)]


def unfinished_runs(rag: Rag, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setenv("RAG_HOME", str(rag.home))
    with DagsterInstance.from_config(str(rag.home / "dagster")) as instance:
        statuses = [DagsterRunStatus.STARTED, DagsterRunStatus.STARTING]
        return [run.run_id for run in instance.get_runs(RunsFilter(statuses=statuses))]


def ingest_until(rag: Rag, root: Path, seconds: float) -> subprocess.Popen[str]:
    """Starts an ingest and lets it work for so long, counted from when it writes the partition."""
    with rag.sql() as connection:
        process = rag.start("ingest", str(root))
        deadline = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < deadline:
            holder = connection.execute("SELECT holder FROM partition_writers").fetchall()
            if any(name.endswith(f":{process.pid}") for (name,) in holder):
                break
            time.sleep(0.02)
    time.sleep(seconds)
    return process


def test_an_ingest_killed_anywhere_is_finished_by_the_next(
    rag: Rag, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moments = random.Random(SEED)
    killed = 0
    for generation in range(ROUNDS):
        write_corpus(root, generation)
        moment = moments.uniform(*WINDOW)
        print(f"seed {SEED}, round {generation}: killed after {moment:.2f} s")
        process = ingest_until(rag, root, moment)
        killed += process.poll() is None
        process.kill()
        process.communicate()
        # Every other kill is followed by the next one at once: what is left of two must heal as well.
        if generation % 2 or generation == ROUNDS - 1:
            assert_whole(rag, root)
            assert unfinished_runs(rag, monkeypatch) == []
    assert killed >= ROUNDS / 2  # the window is not past the end of an ingest


def test_servers_killed_during_an_ingest(
    rag: Rag, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    victims = ("postgres", "milvus")
    write_corpus(root, ROUNDS + 5 * len(victims))  # a few files go: more would ask for a person
    rag.ok("up")
    process = ingest_until(rag, root, random.Random(f"{SEED}{victims}").uniform(*WINDOW) / 2)
    assert process.poll() is None
    hit = [processes_of(rag, victim) for victim in victims]
    assert all(hit)
    kill([process for each in hit for process in each])
    said, _ = process.communicate(timeout=90)  # it may heal by itself or fail: it does not hang
    assert "Traceback" not in said, said
    print(f"{victims}: exit code {process.returncode}\n{said[-3000:]}")
    assert_whole(rag, root)
    assert unfinished_runs(rag, monkeypatch) == []
