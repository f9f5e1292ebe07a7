"""Faults other than a crash at a point: a superseded writer, lost replies, a full disk, no free connection, all
processes killed at once. After each one the next sync recovers."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import psutil
import psycopg
import pytest

from resources.embedded.process import ended
from tests.faults.deployed import Deployed, deployed, finish
from tests.support import invariants, oracle
from tests.support.extent import only_in_soak


@pytest.fixture(scope="module")
def deployment() -> Iterator[Deployed]:
    with deployed() as deployment:
        yield deployment


def stopped_at(deployment: Deployed, point: str, nth: int = 1, work: str = "one upsert at a time"):
    """Start a sync that halts at a passage. Returns its process and the connection that receives its answer."""
    process, receiver = deployment.start(work, f"{point}:{nth}", "STOP")
    deadline = time.monotonic() + 60
    while psutil.Process(process.pid).status() != psutil.STATUS_STOPPED:
        assert time.monotonic() < deadline and process.is_alive()
        time.sleep(0.01)
    return process, receiver


#: Points at which a stopped writer wakes up, before it sends its next request to Milvus.
AWAKE_AT = [
    "upsert-sent",
    "batch-recorded",
    *only_in_soak(
        "chunks-written",
        "deletions-claimed",
        "entry-read",
        "texts-embedded",
        "file-in-place",
        "batch-upserted",
        "deletions-done",
        "upsert-answered",
    ),
]


@pytest.mark.parametrize("point", AWAKE_AT)
def test_a_superseded_writer_writes_nothing_more(deployment: Deployed, point: str) -> None:
    deployment.change()
    # The third batch of the outbox deletes chunks whose texts return with the next generation.
    nth = 3 if point.startswith("deletions") else 1
    in_flight = point == "batch-recorded"
    work = "sync" if in_flight else "one upsert at a time"
    process, receiver = stopped_at(deployment, point, nth, work)
    url, uri = deployment.up()
    # End the session of the writer, as a timeout or a failover does.
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            """SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
               WHERE application_name = 'rag-assets' AND pid <> pg_backend_pid()"""
        )
    # The next generation makes its plan wrong: chunks to be deleted exist again, chunks to be written are gone.
    deployment.change()
    deployment.assert_recovers()
    traces = oracle.traces(url)
    os.kill(process.pid, signal.SIGCONT)
    end = finish(process, receiver)
    assert end.outcome == "failed", end.result
    assert oracle.traces(url) == traces
    if in_flight:
        # Upserts of the next batch may have passed `Writer.confirm` before; a repair removes them.
        assert deployment.run("repair").outcome == "done"
    violations = invariants.violations(url, uri, deployment.folder, deployment.home / "storage")
    assert not violations, "\n".join(violations[:20])


@pytest.mark.parametrize("work", ["losing an upsert", "losing a delete"])
def test_the_next_sync_recovers_from_a_lost_reply(deployment: Deployed, work: str) -> None:
    deployment.change()
    end = deployment.run(work)
    assert (end.outcome, "before the answer arrived" in end.result) == ("failed", True), end
    deployment.assert_no_lies()
    deployment.assert_recovers()


def test_a_sync_reports_a_full_disk_and_recovers_once_there_is_space(deployment: Deployed) -> None:
    deployment.change()
    end = deployment.run("on a full disk")
    assert end.outcome == "failed", end.result
    assert "File too large" in end.result and ".parquet" in end.result
    deployment.assert_no_lies()
    deployment.assert_recovers()
    assert list((deployment.home / "storage").rglob("*.tmp")) == []


def test_an_unrecorded_file_is_removed_after_a_day(deployment: Deployed) -> None:
    deployment.change()
    deployment.run("sync", "file-in-place:1")
    deployment.change()
    deployment.run("sync", "file-written:1")
    deployment.assert_recovers()
    url, _ = deployment.up()
    with psycopg.connect(url) as connection:
        recorded = {path for (path,) in connection.execute("SELECT path FROM embedding_files")}
    storage = deployment.home / "storage"
    existing = {path.relative_to(storage).as_posix() for path in storage.glob("embeddings/*/*")}
    assert {name.rpartition(".")[2] for name in existing - recorded} == {"parquet", "tmp"}
    a_day_ago = time.time() - invariants.GRACE - 3600
    for name in existing:
        os.utime(storage / name, (a_day_ago, a_day_ago))
    deployment.assert_recovers()
    assert {name for name in existing if (storage / name).exists()} == existing & recorded


@pytest.mark.parametrize("point", ["compaction-written", *only_in_soak("file-renamed")])
def test_a_killed_compaction_changes_nothing_and_the_next_one_completes(
    deployment: Deployed, point: str
) -> None:
    deployment.change()
    assert deployment.run("sync").outcome == "done"
    assert deployment.run("compact", f"{point}:1").outcome == "killed"
    deployment.assert_no_lies()
    end = deployment.run("compact")
    assert end.outcome == "done" and end.result["files_after"] == 1 < end.result["files_before"], (
        end
    )
    assert deployment.run("compact").result["files_compacted"] == 0
    # Only the texts that the compaction dropped are embedded again.
    deployment.change()
    deployment.assert_recovers()


def test_a_sync_reports_too_many_connections(deployment: Deployed) -> None:
    deployment.change()
    url, _ = deployment.up()
    with ExitStack() as stack:
        with pytest.raises(psycopg.OperationalError, match="too many clients"):
            for _ in range(300):
                stack.enter_context(psycopg.connect(url))
        end = deployment.run("sync")
        assert end.outcome == "failed", end.result
        assert "too many clients" in end.result
    deployment.assert_recovers()


def test_the_next_sync_recovers_after_all_processes_were_killed(deployment: Deployed) -> None:
    deployment.change()
    process, receiver = stopped_at(deployment, "batch-upserted", 2)
    victims = [
        psutil.Process(process.pid),
        deployment.server("milvus"),
        deployment.server("postgres"),
    ]
    victims += victims[-1].children()
    for victim in victims:
        # A victim may have ended with one of those before it.
        with suppress(psutil.NoSuchProcess):
            victim.kill()
    assert finish(process, receiver).outcome == "killed"
    assert all(ended(victim, 5) for victim in victims)
    deployment.assert_no_lies()
    deployment.assert_recovers()
