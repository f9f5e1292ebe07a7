"""Kill -9 at random moments: of a `rag ingest`, and of both servers at once. The next ingest recovers.

RAG_FAULT_ROUNDS (default 2): number of kills of the command. RAG_FAULT_SEED chooses the moments; every seed is printed.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from dagster import DagsterInstance, DagsterRunStatus, RunsFilter

from resources.embedded.process import ended
from tests.support.processes import Started, start_rag
from tests.support.rag import Rag, deployment

ROUNDS = int(os.environ.get("RAG_FAULT_ROUNDS", "2"))
SEED = int(os.environ.get("RAG_FAULT_SEED", "20240607"))
#: Seconds after it acquires the partition during which an ingest of this corpus works.
WINDOW = (0.0, 1.0)
#: Files of the corpus.
FILES = 24


@pytest.fixture(scope="module")
def rag() -> Iterator[Rag]:
    with deployment() as rag:
        rag.ok("up")
        yield rag


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("files") / "docs"


def write_corpus(root: Path, generation: int) -> None:
    """Write the files. Each generation edits half of them, and adds and removes some, so that it makes every change."""
    root.mkdir(exist_ok=True)
    for path in root.iterdir():
        path.unlink()
    for n in range(generation, generation + FILES):
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
    processes = []
    for process in psutil.process_iter():
        try:
            line = " ".join(process.cmdline())
            folder = process.cwd() if process.name() == "postgres" else ""
        except psutil.Error:
            continue
        if "postgres" in names and (
            folder == str(rag.home / "postgres") or f"-D {rag.home}/postgres" in line
        ):
            processes.append(process)
        if "milvus" in names and str(rag.home / "milvus") in line:
            processes.append(process)
    return processes


def kill(processes: list[psutil.Process]) -> None:
    for process in processes:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    assert all(ended(process, 10) for process in processes)


def assert_whole(rag: Rag, root: Path, expected_files: int = FILES) -> None:
    """After one more ingest, the oracle finds no difference, the checks pass, and every document is complete."""
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


def ingest_until(rag: Rag, root: Path, seconds: float) -> Started:
    """Start an ingest and let it work for `seconds` after it becomes the writer of its partition."""
    with rag.sql() as connection:
        process = start_rag(["ingest", str(root)], rag.environment())
        deadline = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < deadline:
            holders = connection.execute("SELECT holder FROM partition_writers").fetchall()
            if any(name.endswith(f":{process.pid}") for (name,) in holders):
                break
            time.sleep(0.02)
    time.sleep(seconds)
    return process


def test_the_next_ingest_completes_a_killed_one(
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
        process.finish()
        # Every second kill follows the one before without an ingest between them: this must recover as well.
        if generation % 2 or generation == ROUNDS - 1:
            assert_whole(rag, root)
            assert unfinished_runs(rag, monkeypatch) == []
    # Most moments are before the end of the ingest.
    assert killed >= ROUNDS / 2


def test_the_next_ingest_recovers_from_killed_servers(
    rag: Rag, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    victims = ("postgres", "milvus")
    # Only a few files disappear: the guard would ask a person to confirm more deletions.
    write_corpus(root, ROUNDS + len(victims))
    rag.ok("up")
    process = ingest_until(rag, root, random.Random(f"{SEED}{victims}").uniform(*WINDOW) / 2)
    assert process.poll() is None
    groups = [processes_of(rag, victim) for victim in victims]
    assert all(groups)
    kill([server for group in groups for server in group])
    # The ingest may recover or fail; it must not hang.
    done = process.finish(90)
    output = done.stdout + done.stderr
    assert "Traceback" not in output, output
    print(f"{victims}: exit code {done.returncode}\n{output[-3000:]}")
    assert_whole(rag, root)
    assert unfinished_runs(rag, monkeypatch) == []
