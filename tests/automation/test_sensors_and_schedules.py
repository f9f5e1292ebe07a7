"""Sensors and schedules on real stores: which runs they request, how often, and that these runs can be launched."""

from __future__ import annotations

import shutil
import socket
import time
from datetime import UTC, datetime

import dagster as dg
from dagster._core.definitions.sensor_definition import SensorExecutionData
from dulwich.repo import Repo

from rag_assets.automation.run_requests import FIRST_RETRY
from rag_assets.partitions import PARTITION_TAG
from resources.run_processes import HOST_TAG, PID_TAG, own_run_tags
from tests.support.daemon import TEXT, DaemonWorld, in_progress, older, two_synced_sources
from tests.support.repositories import commit

CHANGED = "changed_folders_sensor"
TABLE = "sources_table_sensor"


def requested(data: SensorExecutionData) -> list[str]:
    return [request.tags[PARTITION_TAG] for request in data.run_requests or []]


# Runs --------------------------------------------------------------------------------------------------------------


def test_a_run_whose_process_died_with_its_code_server_is_failed(daemon: DaemonWorld) -> None:
    daemon.add("a")
    daemon.run("sync_source", "a")
    (done,) = daemon.instance.get_runs()
    # The process that executes a run tags it.
    assert done.tags.items() >= own_run_tags(done.run_id).items()

    lives = in_progress(daemon, "sync_source", {})
    daemon.instance.add_run_tags(lives.run_id, own_run_tags(lives.run_id))
    retry = in_progress(daemon, "sync_source", {**own_run_tags("x"), PID_TAG: f"{2**22}:1:x"})
    elsewhere = in_progress(daemon, "sync_source", {HOST_TAG: "another-host", PID_TAG: "1:1"})
    earlier_version = in_progress(daemon, "sync_source", {})
    old_tags = {"rag/host": socket.gethostname(), "rag/pid": f"{2**22}:1:{earlier_version.run_id}"}
    daemon.instance.add_run_tags(earlier_version.run_id, old_tags)
    died = in_progress(daemon, "sync_source", {})
    dead_process = {PID_TAG: f"{2**22}:1700000000:{died.run_id}"}
    daemon.instance.add_run_tags(died.run_id, own_run_tags(died.run_id) | dead_process)
    daemon.tick(TABLE)
    statuses = {run.run_id: run.status.value for run in daemon.instance.get_runs()}
    assert statuses == {
        done.run_id: "SUCCESS",
        lives.run_id: "STARTED",
        # Has the tags of the run that it retries, and no process yet.
        retry.run_id: "STARTED",
        elsewhere.run_id: "STARTED",
        died.run_id: "FAILURE",
        earlier_version.run_id: "FAILURE",
    }


# Sources -----------------------------------------------------------------------------------------------------------


def test_partitions_follow_the_table_of_sources(daemon: DaemonWorld) -> None:
    daemon.instance.add_dynamic_partitions("sources", ["left behind"])
    daemon.connection.execute(
        "INSERT INTO sources (name, source_type, connection_config) VALUES ('new', 'folder', '{\"path\": \"/x\"}')"
    )
    daemon.tick(TABLE)
    assert daemon.partitions() == {"new"}
    again = daemon.tick(TABLE)
    assert not again.dynamic_partitions_requests
    assert not again.run_requests
    assert again.skip_message == "The 1 partitions equal the table of sources."


def test_a_check_does_not_stay_red_after_its_source_is_removed(daemon: DaemonWorld) -> None:
    key = dg.AssetCheckKey(dg.AssetKey("documents"), "statuses_agree")
    for name in ("a", "b"):
        daemon.add(name)

    def report(partition: str) -> None:
        daemon.instance.report_runless_asset_event(
            dg.AssetCheckEvaluation(
                asset_key=key.asset_key, check_name=key.name, passed=False, partition=partition
            )
        )

    report("a")
    assert not daemon.tick(TABLE).asset_events
    daemon.connection.execute("DELETE FROM sources WHERE name = 'a'")
    # The partition is gone at the second tick.
    for _ in range(2):
        (event,) = daemon.tick(TABLE).asset_events
        assert isinstance(event, dg.AssetCheckEvaluation)
        assert (event.asset_check_key, event.partition, event.passed) == (key, "a", True)
    # Of a source that exists.
    report("b")
    assert not daemon.tick(TABLE).asset_events


def test_a_removed_source_with_vectors_is_purged_once(daemon: DaemonWorld) -> None:
    two_synced_sources(daemon)
    assert not daemon.tick(TABLE).run_requests
    daemon.connection.execute("DELETE FROM sources WHERE name = 'a'")
    assert len(daemon.tick(TABLE).run_requests or []) == 1
    assert daemon.partitions() == {"b"}
    run = in_progress(daemon, "purge_removed_sources", {})
    # Not while a run is in progress; again after it has failed.
    assert not daemon.tick(TABLE).run_requests
    daemon.instance.report_run_failed(run)
    assert daemon.tick(TABLE).run_requests
    assert daemon.launch("purge_removed_sources", {}).success
    assert not daemon.tick(TABLE).run_requests
    assert daemon.one("SELECT count(*) FROM vector_deletions") == 0
    rows = daemon.store.client.query(
        "dense_collection", filter='id >= ""', output_fields=["source"], limit=10
    )
    assert {row["source"] for row in rows} == {"b"}


# Folders -----------------------------------------------------------------------------------------------------------


def test_a_new_source_is_asked_for_and_an_unchanged_one_is_not(daemon: DaemonWorld) -> None:
    two_synced_sources(daemon)
    daemon.write({"c.md": TEXT}, "c")
    daemon.add("c")
    assert requested(daemon.tick(CHANGED)) == ["c"]
    daemon.fill("c")
    quiet = daemon.tick(CHANGED)
    assert requested(quiet) == []
    assert quiet.skip_message


def test_only_the_partition_whose_folder_changed_is_requested(daemon: DaemonWorld) -> None:
    two_synced_sources(daemon)
    root = daemon.folder / "b"
    cursor = None
    for change in (
        lambda: (root / "b.md").write_text(TEXT + "and a word more"),
        lambda: (root / "deep").mkdir() or (root / "deep" / "c.md").write_text(TEXT),
        lambda: (root / "b.md").unlink(),
    ):
        change()
        data = daemon.tick(CHANGED, cursor)
        assert requested(data) == ["b"]
        daemon.fill("b")
        assert requested(daemon.tick(CHANGED, data.cursor)) == []
        cursor = data.cursor


def test_a_commit_requests_a_sync(daemon: DaemonWorld) -> None:
    repository = Repo.init_bare(str(daemon.folder.parent / "x.git"), mkdir=True)
    commit(repository, {"a.md": TEXT.encode()})
    daemon.register("code", "git", {"url": repository.path, "branch": "main"})
    first = daemon.tick(CHANGED)
    assert requested(first) == ["code"]
    daemon.fill("code")
    assert requested(daemon.tick(CHANGED, first.cursor)) == []
    commit(repository, {"a.md": TEXT.encode() + b"and a word more"})
    assert requested(daemon.tick(CHANGED, first.cursor)) == ["code"]


def test_a_state_that_syncs_do_not_change_is_requested_at_growing_intervals(
    daemon: DaemonWorld,
) -> None:
    two_synced_sources(daemon)
    daemon.write({"a.md": TEXT + "changed"}, "a")
    first = daemon.tick(CHANGED)
    assert requested(first) == ["a"]
    assert requested(daemon.tick(CHANGED, first.cursor)) == []
    second = daemon.tick(CHANGED, older(first.cursor, "a", FIRST_RETRY + 1))
    assert requested(second) == ["a"]
    soon = daemon.tick(CHANGED, older(second.cursor, "a", FIRST_RETRY + 1))
    # The interval has doubled.
    assert requested(soon) == []
    assert requested(daemon.tick(CHANGED, older(soon.cursor, "a", FIRST_RETRY + 1))) == ["a"]
    # Another change is a new state: it does not wait for the interval of the first.
    daemon.write({"a.md": TEXT + "changed once more"}, "a")
    assert requested(daemon.tick(CHANGED, second.cursor)) == ["a"]


def test_a_source_in_progress_is_not_requested(daemon: DaemonWorld) -> None:
    two_synced_sources(daemon)
    for name in ("a", "b"):
        daemon.write({"new.md": TEXT}, name)
    run = in_progress(daemon, "sync_source", {PARTITION_TAG: "a"})
    waiting = daemon.tick(CHANGED)
    assert requested(waiting) == ["b"]
    daemon.instance.report_run_failed(run)
    # Nothing was requested for it before.
    assert requested(daemon.tick(CHANGED, waiting.cursor)) == ["a"]


def test_work_that_waits_in_postgresql_is_requested(daemon: DaemonWorld) -> None:
    two_synced_sources(daemon)
    # A deletion, which waits in the outbox.
    daemon.connection.execute("DELETE FROM documents WHERE source_key = 'a.md'")
    data = daemon.tick(CHANGED)
    assert requested(data) == ["a"]
    daemon.fill("a")
    # An edit, which makes rows of b stale.
    daemon.connection.execute("UPDATE documents SET language = 'de'")
    assert requested(daemon.tick(CHANGED, data.cursor)) == ["b"]
    daemon.fill("b")
    assert requested(daemon.tick(CHANGED)) == []


def test_a_broken_folder_does_not_stop_the_others(daemon: DaemonWorld) -> None:
    two_synced_sources(daemon)
    shutil.rmtree(daemon.folder / "a")
    alone = daemon.tick(CHANGED)
    assert requested(alone) == []
    assert "a" in (alone.skip_message or "")
    assert str(daemon.folder / "a") in (alone.skip_message or "")
    daemon.write({"new.md": TEXT}, "b")
    assert requested(daemon.tick(CHANGED)) == ["b"]
    # The documents of the broken folder are kept.
    assert daemon.one("SELECT count(*) FROM documents") == 2


def test_an_inactive_source_is_not_requested(daemon: DaemonWorld) -> None:
    two_synced_sources(daemon)
    daemon.connection.execute("UPDATE sources SET is_active = false WHERE name = 'a'")
    for name in ("a", "b"):
        daemon.write({"new.md": TEXT}, name)
    assert requested(daemon.tick(CHANGED)) == ["b"]
    fired = daemon.fire("nightly_check", datetime.now(UTC))
    assert [request.tags[PARTITION_TAG] for request in fired.run_requests or []] == ["b"]


# Schedules ---------------------------------------------------------------------------------------------------------


def test_a_nightly_schedule_requests_one_run_per_source_that_can_be_launched(
    daemon: DaemonWorld,
) -> None:
    two_synced_sources(daemon)
    # The partition of c does not exist yet.
    daemon.connection.execute(
        "INSERT INTO sources (name, source_type, connection_config) VALUES ('c', 'folder', '{\"path\": \"/x\"}')"
    )
    fired = daemon.fire("nightly_check", datetime(2030, 1, 1, 5, tzinfo=UTC))
    requests = fired.run_requests or []
    assert [request.tags[PARTITION_TAG] for request in requests] == ["a", "b"]
    assert len({request.run_key for request in requests}) == 2
    job = daemon.repository.get_schedule_def("nightly_check").job_name
    result = daemon.launch(job, dict(requests[1].tags))
    assert result.success
    evaluations = result.get_asset_check_evaluations()
    assert len(evaluations) == 22
    assert all(evaluation.passed for evaluation in evaluations)
    assert {evaluation.partition for evaluation in evaluations} == {"b"}
    tomorrow = daemon.fire("nightly_check", datetime(2030, 1, 2, 2, tzinfo=UTC))
    today = daemon.fire("nightly_check", datetime(2030, 1, 1, 2, tzinfo=UTC))
    keys = {request.run_key for data in (today, tomorrow) for request in data.run_requests or []}
    # The run keys of two nights differ.
    assert len(keys) == 4


def test_a_tick_over_many_unchanged_files_is_quick(daemon: DaemonWorld) -> None:
    daemon.write({f"{n % 20}/{n}.md": f"# {n}\n" for n in range(200)}, "a")
    daemon.add("a")
    daemon.fill("a")
    started = time.monotonic()
    assert requested(daemon.tick(CHANGED)) == []
    # Takes 0.1 s; more on a busy machine.
    assert time.monotonic() - started < 5
