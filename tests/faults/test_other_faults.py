"""What is not a crash at a point: a writer that was taken over, lost replies, a full disk, no connection, everything at
once. After each the next sync heals."""

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


@pytest.fixture(scope="module")
def crashed() -> Iterator[Deployed]:
    with deployed() as made:
        yield made


def stopped_at(made: Deployed, point: str, nth: int = 1, work: str = "one upsert at a time"):
    """A sync that halts at a passage: (process, where its answer comes from)."""
    process, receiver = made.start(work, f"{point}:{nth}", "STOP")
    deadline = time.monotonic() + 60
    while psutil.Process(process.pid).status() != psutil.STATUS_STOPPED:
        assert time.monotonic() < deadline and process.is_alive()
        time.sleep(0.01)
    return process, receiver


#: Where a writer wakes up, with the request to Milvus that it meant to send next still unsent.
AWAKE_AT = ["entry-read", "chunks-written", "texts-embedded", "file-in-place", "deletions-claimed", "deletions-done",
            "upsert-sent", "upsert-answered", "batch-upserted", "batch-recorded"]  # fmt: skip


@pytest.mark.parametrize("point", AWAKE_AT)
def test_a_writer_that_slept_while_it_was_taken_over_writes_nothing_more(
    crashed: Deployed, point: str
) -> None:
    crashed.change()
    # The third batch of the outbox is of chunks whose texts come back with the next generation.
    nth = 3 if point.startswith("deletions") else 1
    on_its_way = point == "batch-recorded"
    work = "sync" if on_its_way else "one upsert at a time"
    process, receiver = stopped_at(crashed, point, nth, work)
    url, uri = crashed.up()
    with psycopg.connect(
        url, autocommit=True
    ) as connection:  # as a timeout or a failover ends its session
        connection.execute(
            """SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
               WHERE application_name = 'rag-assets' AND pid <> pg_backend_pid()"""
        )
    crashed.change()  # its rows are others by now: what it meant to delete lives again, what it meant to write is gone
    crashed.assert_heals()
    traces = oracle.traces(url)
    os.kill(process.pid, signal.SIGCONT)
    end = finish(process, receiver)
    assert end.said == "failed", end.result
    assert oracle.traces(url) == traces
    if on_its_way:
        # Upserts of the next batch may have passed the question of `Writer.confirm` by then: a repair takes them back.
        assert crashed.run("repair").said == "done"
    found = invariants.violations(url, uri, crashed.folder, crashed.home / "storage")
    assert not found, "\n".join(found[:20])


@pytest.mark.parametrize("work", ["losing an upsert", "losing a delete"])
def test_a_reply_lost_after_the_server_applied_it(crashed: Deployed, work: str) -> None:
    crashed.change()
    end = crashed.run(work)
    assert (end.said, "before the answer came" in end.result) == ("failed", True), end
    crashed.assert_no_lies()
    crashed.assert_heals()


def test_a_full_disk_says_so_and_heals_once_there_is_room(crashed: Deployed) -> None:
    crashed.change()
    end = crashed.run("on a full disk")
    assert end.said == "failed", end.result
    assert "File too large" in end.result and ".parquet" in end.result
    crashed.assert_no_lies()
    crashed.assert_heals()
    assert list((crashed.home / "storage").rglob("*.tmp")) == []


def test_a_file_that_nobody_recorded_is_swept_up_after_a_day(crashed: Deployed) -> None:
    crashed.change()
    crashed.run("sync", "file-in-place:1")
    crashed.change()
    crashed.run("sync", "file-written:1")
    crashed.assert_heals()
    url, _ = crashed.up()
    with psycopg.connect(url) as connection:
        recorded = {path for (path,) in connection.execute("SELECT path FROM embedding_files")}
    storage = crashed.home / "storage"
    there = {path.relative_to(storage).as_posix() for path in storage.glob("embeddings/*/*")}
    assert {name.rpartition(".")[2] for name in there - recorded} == {"parquet", "tmp"}
    a_day_ago = time.time() - invariants.GRACE - 3600
    for name in there:
        os.utime(storage / name, (a_day_ago, a_day_ago))
    crashed.assert_heals()
    assert {name for name in there if (storage / name).exists()} == there & recorded


@pytest.mark.parametrize("point", ["file-renamed", "compaction-written"])
def test_a_compaction_that_is_killed_has_changed_nothing_and_the_next_one_does_it(
    crashed: Deployed, point: str
) -> None:
    crashed.change()
    assert crashed.run("sync").said == "done"
    assert crashed.run("compact", f"{point}:1").said == "killed"
    crashed.assert_no_lies()
    end = crashed.run("compact")
    assert end.said == "done" and end.result["files_after"] == 1 < end.result["files_before"], end
    assert crashed.run("compact").result["files_compacted"] == 0
    crashed.change()  # texts that were dropped are embedded again, the others are not
    crashed.assert_heals()


def test_too_many_connections_say_so(crashed: Deployed) -> None:
    crashed.change()
    url, _ = crashed.up()
    with ExitStack() as stack:
        with pytest.raises(psycopg.OperationalError, match="too many clients"):
            for _ in range(300):
                stack.enter_context(psycopg.connect(url))
        end = crashed.run("sync")
        assert end.said == "failed", end.result
        assert "too many clients" in end.result
    crashed.assert_heals()


def test_everything_at_once(crashed: Deployed) -> None:
    crashed.change()
    process, receiver = stopped_at(crashed, "batch-upserted", 2)
    victims = [psutil.Process(process.pid), crashed.server("milvus"), crashed.server("postgres")]
    victims += victims[-1].children()
    for victim in victims:
        with suppress(psutil.NoSuchProcess):  # it has followed one of those before it
            victim.kill()
    assert finish(process, receiver).said == "killed"
    assert all(ended(victim, 5) for victim in victims)
    crashed.assert_no_lies()
    crashed.assert_heals()
