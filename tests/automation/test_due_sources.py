"""Schedules of sources: which are due, one run at a time, delays after failures, and reports of late sources."""

from __future__ import annotations

import json
import shutil
import time
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pytest
from dagster import DagsterRun, DagsterRunStatus
from dagster._core.utils import make_new_run_id
from psycopg.rows import dict_row

from rag_assets.checks.schedule import synced_on_schedule
from rag_assets.definitions import build_definitions
from rag_assets.partitions import PARTITION_TAG, SOURCES, SYNC_TAG
from tests.support.daemon import DaemonWorld
from tests.support.world import Dagster

DUE, CHANGED = "due_sources_sensor", "changed_folders_sensor"
TEXT = "# Hours\n\nThe observatory opens at nine in the morning.\n"


@pytest.fixture
def source(daemon: DaemonWorld) -> DaemonWorld:
    """One source, `a`, synced."""
    daemon.write({"a.md": TEXT}, "a")
    daemon.add("a")
    daemon.fill("a")
    return daemon


def requested(daemon: DaemonWorld, sensor: str = DUE, cursor: str | None = None) -> list[str]:
    data = daemon.tick(sensor, cursor)
    return [request.tags[PARTITION_TAG] for request in data.run_requests or []]


def row(daemon: DaemonWorld, name: str = "a") -> dict[str, Any]:
    with daemon.connection.cursor(row_factory=dict_row) as cursor:
        source = cursor.execute("SELECT * FROM sources WHERE name = %s", [name]).fetchone()
    assert source is not None
    return source


def update(daemon: DaemonWorld, assignment: str) -> None:
    daemon.connection.execute(f"UPDATE sources SET {assignment} WHERE name = 'a'".encode())


def in_progress(daemon: DaemonWorld, tags: dict[str, str]) -> DagsterRun:
    run = DagsterRun(
        job_name="sync_source",
        run_id=make_new_run_id(),
        status=DagsterRunStatus.STARTED,
        tags=tags,
    )
    return daemon.instance.add_run(run)


def test_a_sync_that_a_person_canceled_waits_for_its_schedule(daemon: DaemonWorld) -> None:
    daemon.write({"a.md": TEXT}, "a")
    daemon.add("a")
    run = in_progress(daemon, {PARTITION_TAG: "a"})
    daemon.fill("a")
    update(
        daemon,
        f"sync_status = 'running', sync_run = '{run.run_id}', last_sync_at = NULL, next_sync_at = NULL",
    )
    # Work is left.
    daemon.connection.execute("UPDATE documents SET indexing_status = 'pending'")
    assert requested(daemon, CHANGED) == []
    daemon.instance.report_run_canceled(run)
    # Whichever sensor comes first.
    assert requested(daemon, CHANGED) == []
    assert requested(daemon) == []
    assert row(daemon)["sync_status"] == "pending"
    assert requested(daemon) == requested(daemon, CHANGED) == []
    assert row(daemon)["next_sync_at"] > datetime.now(UTC)
    # A change is another reason.
    daemon.write({"b.md": TEXT}, "a")
    assert requested(daemon, CHANGED) == ["a"]


def test_a_source_never_synced_is_due_at_once_and_then_by_its_schedule(daemon: DaemonWorld) -> None:
    daemon.write({"a.md": TEXT}, "a")
    daemon.add("a")
    # The first tick only plans it; the sensor of changed folders requests it in the meantime.
    assert requested(daemon) == []
    assert row(daemon)["next_sync_at"] <= datetime.now(UTC)
    assert requested(daemon) == ["a"]
    # Requested, and not started yet.
    assert requested(daemon) == []
    daemon.fill("a")
    assert row(daemon)["next_sync_at"] is None
    assert requested(daemon) == []
    tick = row(daemon)["next_sync_at"]
    # The default schedule.
    assert (tick.astimezone(UTC).hour, tick.minute) == (2, 0)
    update(daemon, "sync_schedule = '30 4 * * *'")
    assert requested(daemon) == []
    tick = row(daemon)["next_sync_at"]
    assert (tick.astimezone(UTC).hour, tick.minute) == (4, 30)
    assert tick > datetime.now(UTC)


def test_a_due_source_is_requested_until_it_is_synced(source: DaemonWorld) -> None:
    update(source, "next_sync_at = now() - interval '1 minute'")
    assert requested(source) == ["a"]
    run = in_progress(source, {PARTITION_TAG: "a"})
    update(source, "sync_requested_at = now() - interval '1 hour'")
    # Not while a run is in progress.
    assert requested(source) == []
    # That request was lost.
    source.instance.report_run_failed(run)
    assert requested(source) == ["a"]
    source.fill("a")
    assert requested(source) == []
    assert row(source)["next_sync_at"] > datetime.now(UTC)


def test_the_shards_of_a_source_are_requested_together(daemon: DaemonWorld) -> None:
    daemon.write({"a.md": TEXT}, "a")
    daemon.add("a", shards=2)
    assert requested(daemon) == []
    for sensor in (DUE, "changed_folders_sensor"):
        requests = daemon.tick(sensor).run_requests or []
        assert [r.tags[PARTITION_TAG] for r in requests] == ["a/01-of-02", "a/02-of-02"]
        assert len({r.tags[SYNC_TAG] for r in requests}) == 1
    update(daemon, "sync_requested_at = NULL")
    run = in_progress(daemon, {PARTITION_TAG: "a/02-of-02"})
    assert requested(daemon) == requested(daemon, "changed_folders_sensor") == []
    daemon.instance.report_run_failed(run)
    # Another number of shards is another set of partitions.
    update(daemon, """connection_config = connection_config || '{"shards": 3}'""")
    assert requested(daemon) == requested(daemon, "changed_folders_sensor") == []
    daemon.tick("sources_table_sensor")
    partitions = daemon.instance.get_dynamic_partitions("sources")
    assert sorted(partitions) == ["a", "a/01-of-03", "a/02-of-03", "a/03-of-03"]
    assert len(requested(daemon)) == 3


def test_no_source_is_requested_during_a_run_over_a_range(source: DaemonWorld) -> None:
    update(source, "next_sync_at = now() - interval '1 minute'")
    tags = {"dagster/asset_partition_range_start": "a", "dagster/asset_partition_range_end": "a"}
    run = in_progress(source, tags)
    assert requested(source) == []
    source.instance.report_run_failed(run)
    assert requested(source) == ["a"]


def test_an_inactive_source_is_never_due(source: DaemonWorld) -> None:
    update(source, "next_sync_at = now() - interval '1 minute', is_active = false")
    assert requested(source) == []


def test_failures_are_counted_with_their_reason_and_delay_the_next_sync(
    source: DaemonWorld,
) -> None:
    before = row(source)
    assert before["sync_status"] == "completed"
    assert (before["total_documents"], before["successful_documents"]) == (1, 1)
    shutil.rmtree(source.folder / "a")
    waits = []
    for failures in (1, 2, 3):
        with pytest.raises(dg.Failure):
            source.sync("a")
        now = row(source)
        assert (now["sync_status"], now["error_count"]) == ("failed", failures)
        assert str(source.folder / "a") in now["last_error"]
        # The last complete sync.
        assert now["last_sync_at"] == before["last_sync_at"]
        assert (now["total_documents"], now["successful_documents"]) == (1, 1)
        waits.append((now["next_sync_at"] - datetime.now(UTC)).total_seconds())
    assert [round(wait / 60) for wait in waits] == [1, 2, 4]
    assert requested(source) == []
    update(source, "next_sync_at = now()")
    assert requested(source) == ["a"]
    source.write({"a.md": TEXT}, "a")
    source.fill("a")
    now = row(source)
    assert (now["sync_status"], now["error_count"], now["last_error"]) == ("completed", 0, None)
    assert now["last_sync_at"] > before["last_sync_at"]


def test_a_failing_source_is_not_also_requested_by_the_folder_sensor(source: DaemonWorld) -> None:
    for n in range(30):
        source.write({f"{n}.md": TEXT + str(n)}, "a")
    source.fill("a")
    for path in (source.folder / "a").iterdir():
        path.unlink()
    first = source.tick(CHANGED)
    assert len(first.run_requests or []) == 1
    with pytest.raises(dg.Failure, match="--accept-deletions"):
        source.sync("a")
    cursor = json.loads(first.cursor or "")
    # Hours later: the other sensor requests the retries.
    cursor["a"][2] -= 7200
    assert requested(source, CHANGED, json.dumps(cursor)) == []
    source.write({"other.md": TEXT}, "a")
    # A new change of the folder.
    assert requested(source, CHANGED, json.dumps(cursor)) == ["a"]


def test_a_sync_is_complete_when_everything_is_indexed(daemon: DaemonWorld) -> None:
    world = daemon.configured(embedder="tests.support.embedders:Missing")
    daemon.write({"a.md": TEXT}, "a")
    daemon.add("a")
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions(SOURCES.name or "", ["a"])
        dagster = Dagster(instance=instance)
        broken = type(daemon)(world.settings, world.folder, dagster, world.connection)
        assert not broken.run("sync_source", "a", raise_on_error=False).success
    now = row(daemon)
    # A run counts as one failure, whatever its retries.
    assert (now["sync_status"], now["error_count"]) == ("failed", 1)
    assert "tests.support.embedders:Missing" in now["last_error"]
    assert now["last_sync_at"] is None
    assert now["total_documents"] == 1


def test_a_sync_whose_run_died_is_found_and_delayed(source: DaemonWorld) -> None:
    update(source, "sync_status = 'running', sync_run = 'gone', next_sync_at = now()")
    run = in_progress(source, {PARTITION_TAG: "a"})
    assert requested(source) == []
    assert row(source)["sync_status"] == "running"
    source.instance.report_run_failed(run)
    assert requested(source) == []
    now = row(source)
    assert (now["sync_status"], now["error_count"]) == ("failed", 1)
    assert "ended before everything was indexed" in now["last_error"]
    assert now["next_sync_at"] > datetime.now(UTC)


def test_a_late_source_is_reported_once_and_once_again_when_it_is_in_time(
    source: DaemonWorld,
) -> None:
    def reported(cursor: str | None) -> tuple[list[tuple[str | None, bool, str]], str | None]:
        data = source.tick(DUE, cursor)
        events = [
            event for event in data.asset_events if isinstance(event, dg.AssetCheckEvaluation)
        ]
        return [(e.partition, e.passed, e.description or "") for e in events], data.cursor

    assert reported(None)[0] == []
    update(
        source, "last_sync_at = now() - interval '3 days', next_sync_at = now() - interval '2 days'"
    )
    update(source, "error_count = 7, last_error = 'the disk is gone'")
    ((partition, passed, sentence),), cursor = reported(None)
    assert (partition, passed) == ("a", False)
    assert "synced 3 d ago" in sentence
    assert "7 failures in a row: the disk is gone" in sentence
    assert reported(cursor)[0] == []
    source.fill("a")
    ((partition, passed, _),), cursor = reported(cursor)
    assert (partition, passed) == ("a", True)
    assert cursor == "[]"


def test_a_late_source_fails_its_check_and_requests_no_repair(source: DaemonWorld) -> None:
    for name in ("b", "c"):
        source.write({"b.md": TEXT}, name)
        source.add(name)
    source.fill("b")
    source.connection.execute("UPDATE sources SET is_active = false WHERE name = 'c'")

    selection = dg.define_asset_job("check_schedule", dg.AssetSelection.checks(synced_on_schedule))
    definitions = build_definitions(source.resources)
    both = dg.Definitions.merge(definitions, dg.Definitions(jobs=[selection]))
    job = both.resolve_job_def("check_schedule")

    def check(**tags: str) -> dg.AssetCheckEvaluation:
        result = job.execute_in_process(
            instance=source.instance,
            tags={f"dagster/{name}": value for name, value in tags.items()},
            run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
        )
        (evaluation,) = result.get_asset_check_evaluations()
        return evaluation

    everyone = {"asset_partition_range_start": "a", "asset_partition_range_end": "c"}
    assert check(partition="a").passed and check(**everyone).passed
    update(
        source, "last_sync_at = now() - interval '3 days', next_sync_at = now() - interval '2 d'"
    )
    late = check(partition="a")
    assert (late.passed, late.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert late.metadata["command"].value == "rag ingest a"
    update(source, "error_count = 2, last_error = 'the disk is gone'")
    late = check(**everyone)
    assert (late.passed, late.severity) == (False, dg.AssetCheckSeverity.ERROR)
    assert (late.description or "").startswith("a: ") and "\n" not in (late.description or "")
    assert not source.tick("failed_checks_sensor").run_requests


def test_a_thousand_sources_with_nothing_to_do_take_less_than_a_second(daemon: DaemonWorld) -> None:
    names = [f"s{n:04}" for n in range(1000)]
    for name in names:
        (daemon.folder / name).mkdir(parents=True)
    daemon.instance.add_dynamic_partitions("sources", names)
    daemon.connection.execute(
        """INSERT INTO sources (name, source_type, connection_config, sync_status, last_sync_at)
           SELECT name, 'folder', jsonb_build_object('path', %s || '/' || name), 'completed', now()
           FROM unnest(%s::text[]) AS name""",
        [str(daemon.folder), names],
    )
    for sensor in (DUE, CHANGED, "sources_table_sensor", "failed_checks_sensor"):
        daemon.tick(sensor)
        started = time.monotonic()
        data = daemon.tick(sensor)
        seconds = time.monotonic() - started
        print(f"{sensor}: {seconds:.2f} s, a cursor of {len(data.cursor or '')} bytes")
        assert not data.run_requests
        assert len(data.cursor or "") < 100
        # Takes 0.1 to 0.7 s; more on a busy machine.
        assert seconds < 5


def test_a_long_tick_ends_early_and_the_next_one_continues(
    daemon: DaemonWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "abcde":
        daemon.write({"a.md": TEXT}, name)
        daemon.add(name)
    clock = iter(range(1000))
    ticking = SimpleNamespace(monotonic=lambda: next(clock))
    # The clock advances by one second at each look, so a tick lists two folders.
    monkeypatch.setattr("rag_assets.automation.sensors.changed_folders.time", ticking)
    monkeypatch.setattr("rag_assets.automation.sensors.changed_folders.TICK_SECONDS", 2)
    cursor, requests = None, []
    for _ in range(3):
        data = daemon.tick(CHANGED, cursor)
        cursor = data.cursor
        requests.append([request.tags[PARTITION_TAG] for request in data.run_requests or []])
    assert requests == [["a", "b"], ["c", "d"], ["e"]]
    assert {key for key in json.loads(cursor or "") if key} == set("abcde")


def test_a_source_that_takes_too_long_to_list_keeps_no_other_from_being_synced(
    daemon: DaemonWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon.write({f"{n}.md": TEXT for n in range(3)}, "large")
    daemon.write({"a.md": TEXT}, "small")
    for name in ("large", "small"):
        daemon.add(name)
    monkeypatch.setattr("rag_assets.automation.sensors.changed_folders.LIST_SECONDS", -1)
    monkeypatch.setattr("rag_assets.automation.sensors.changed_folders.LOOK_ENTRIES", 2)
    data = daemon.tick(CHANGED)
    assert [request.tags[PARTITION_TAG] for request in data.run_requests or []] == ["small"]
    for name in ("large", "small"):
        (daemon.folder / name / "a.md").unlink(missing_ok=True)
    assert "large: its listing takes longer" in (
        daemon.tick(CHANGED, data.cursor).skip_message or ""
    )
