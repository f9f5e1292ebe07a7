"""Sensors and schedules against real stores: who is asked for, how often, and that what is asked for can run."""

from __future__ import annotations

import json
import shutil
import time
from datetime import UTC, datetime

from dagster import DagsterRun, DagsterRunStatus
from dagster._core.definitions.sensor_definition import SensorExecutionData
from dagster._core.utils import make_new_run_id
from dulwich.repo import Repo

from rag_assets.automation.run_requests import FIRST_RETRY
from rag_assets.partitions import PARTITION_TAG
from resources.run_processes import HOST_TAG, PID_TAG, own_run_tags
from tests.automation.conftest import DaemonWorld
from tests.support.repositories import commit

TEXT = (
    "# Hours\n\nThe observatory opens at nine in the morning and closes when the stars come out.\n"
)
CHANGED = "changed_folders_sensor"
TABLE = "sources_table_sensor"


def requested(data: SensorExecutionData) -> list[str]:
    return [request.tags[PARTITION_TAG] for request in data.run_requests or []]


def older(cursor: str | None, key: str, seconds: float) -> str:
    """The cursor as it would be, had the source been asked for so many seconds earlier."""
    asked = json.loads(cursor or "{}")
    asked[key][2] -= seconds
    return json.dumps(asked)


def in_progress(daemon: DaemonWorld, job: str, tags: dict[str, str]) -> DagsterRun:
    return daemon.instance.add_run(
        DagsterRun(
            job_name=job, run_id=make_new_run_id(), status=DagsterRunStatus.STARTED, tags=tags
        )
    )


def two_synced_sources(daemon: DaemonWorld) -> None:
    for name in ("a", "b"):
        daemon.write({f"{name}.md": TEXT + name}, name)
        daemon.add(name)
        daemon.sync(name)


# Runs --------------------------------------------------------------------------------------------------------------


def test_a_run_whose_process_died_with_its_code_server_is_failed(daemon: DaemonWorld) -> None:
    daemon.add("a")
    daemon.run("sync_source", "a")
    (done,) = daemon.instance.get_runs()
    assert done.tags.items() >= own_run_tags(done.run_id).items()  # whoever launched it

    lives = in_progress(daemon, "sync_source", {})
    daemon.instance.add_run_tags(lives.run_id, own_run_tags(lives.run_id))
    retry = in_progress(daemon, "sync_source", {**own_run_tags("x"), PID_TAG: f"{2**22}:1:x"})
    elsewhere = in_progress(daemon, "sync_source", {HOST_TAG: "another-host", PID_TAG: "1:1"})
    died = in_progress(daemon, "sync_source", {})
    of_dead = {PID_TAG: f"{2**22}:1700000000:{died.run_id}"}
    daemon.instance.add_run_tags(died.run_id, own_run_tags(died.run_id) | of_dead)
    daemon.tick(TABLE)
    statuses = {run.run_id: run.status.value for run in daemon.instance.get_runs()}
    assert statuses == {
        done.run_id: "SUCCESS",
        lives.run_id: "STARTED",
        retry.run_id: "STARTED",  # it has the tags of the run that it retries, and no process yet
        elsewhere.run_id: "STARTED",
        died.run_id: "FAILURE",
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


def test_a_removed_source_with_vectors_is_purged_once(daemon: DaemonWorld) -> None:
    two_synced_sources(daemon)
    assert not daemon.tick(TABLE).run_requests
    daemon.connection.execute("DELETE FROM sources WHERE name = 'a'")
    asked = daemon.tick(TABLE)
    assert len(asked.run_requests or []) == 1
    assert daemon.partitions() == {"b"}
    run = in_progress(daemon, "purge_removed_sources", {})
    assert not daemon.tick(TABLE).run_requests  # one is at it
    daemon.instance.report_run_failed(run)
    assert daemon.tick(TABLE).run_requests  # it failed and the work still waits
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
    daemon.sync("c")
    quiet = daemon.tick(CHANGED)
    assert requested(quiet) == []
    assert quiet.skip_message


def test_only_the_partition_whose_folder_changed_is_asked_for(daemon: DaemonWorld) -> None:
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
        daemon.sync("b")
        assert requested(daemon.tick(CHANGED, data.cursor)) == []
        cursor = data.cursor


def test_a_commit_is_asked_for(daemon: DaemonWorld) -> None:
    repository = Repo.init_bare(str(daemon.folder.parent / "x.git"), mkdir=True)
    commit(repository, {"a.md": TEXT.encode()})
    daemon.register("code", "git", {"url": repository.path, "branch": "main"})
    first = daemon.tick(CHANGED)
    assert requested(first) == ["code"]
    daemon.sync("code")
    assert requested(daemon.tick(CHANGED, first.cursor)) == []
    commit(repository, {"a.md": TEXT.encode() + b"and a word more"})
    assert requested(daemon.tick(CHANGED, first.cursor)) == ["code"]


def test_what_a_sync_does_not_mend_is_asked_for_ever_more_seldom(daemon: DaemonWorld) -> None:
    two_synced_sources(daemon)
    daemon.write({"a.md": TEXT + "changed"}, "a")
    first = daemon.tick(CHANGED)
    assert requested(first) == ["a"]
    assert requested(daemon.tick(CHANGED, first.cursor)) == []
    second = daemon.tick(CHANGED, older(first.cursor, "a", FIRST_RETRY + 1))
    assert requested(second) == ["a"]
    soon = daemon.tick(CHANGED, older(second.cursor, "a", FIRST_RETRY + 1))
    assert requested(soon) == []  # twice as long now
    assert requested(daemon.tick(CHANGED, older(soon.cursor, "a", FIRST_RETRY + 1))) == ["a"]
    # Another change is news: it does not wait for the back-off of the first.
    daemon.write({"a.md": TEXT + "changed once more"}, "a")
    assert requested(daemon.tick(CHANGED, second.cursor)) == ["a"]


def test_a_source_that_is_being_synced_is_not_asked_for(daemon: DaemonWorld) -> None:
    two_synced_sources(daemon)
    for name in ("a", "b"):
        daemon.write({"new.md": TEXT}, name)
    run = in_progress(daemon, "sync_source", {PARTITION_TAG: "a"})
    waiting = daemon.tick(CHANGED)
    assert requested(waiting) == ["b"]
    daemon.instance.report_run_failed(run)
    assert requested(daemon.tick(CHANGED, waiting.cursor)) == ["a"]  # nothing was asked for yet


def test_work_that_waits_in_postgresql_is_asked_for(daemon: DaemonWorld) -> None:
    two_synced_sources(daemon)
    daemon.connection.execute("DELETE FROM documents WHERE source_key = 'a.md'")  # the outbox
    data = daemon.tick(CHANGED)
    assert requested(data) == ["a"]
    daemon.sync("a")
    daemon.connection.execute("UPDATE documents SET language = 'de'")  # b's rows are behind
    assert requested(daemon.tick(CHANGED, data.cursor)) == ["b"]
    daemon.sync("b")
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
    assert daemon.one("SELECT count(*) FROM documents") == 2  # and nothing of it was forgotten


def test_an_inactive_source_is_left_alone(daemon: DaemonWorld) -> None:
    two_synced_sources(daemon)
    daemon.connection.execute("UPDATE sources SET is_active = false WHERE name = 'a'")
    for name in ("a", "b"):
        daemon.write({"new.md": TEXT}, name)
    assert requested(daemon.tick(CHANGED)) == ["b"]
    fired = daemon.fire("nightly_check", datetime.now(UTC))
    assert [request.tags[PARTITION_TAG] for request in fired.run_requests or []] == ["b"]


# Schedules ---------------------------------------------------------------------------------------------------------


def test_nightly_runs_are_one_a_source_and_can_be_launched(daemon: DaemonWorld) -> None:
    for name in ("a", "b"):
        daemon.write({"x.md": TEXT + name}, name)
        daemon.add(name)
    daemon.connection.execute(  # its partition does not exist yet
        "INSERT INTO sources (name, source_type, connection_config) VALUES ('c', 'folder', '{\"path\": \"/x\"}')"
    )
    for name in ("a", "b"):
        daemon.sync(name)
    fired = daemon.fire("nightly_check", datetime(2030, 1, 1, 5, tzinfo=UTC))
    requests = fired.run_requests or []
    assert [request.tags[PARTITION_TAG] for request in requests] == ["a", "b"]
    assert len({request.run_key for request in requests}) == 2
    job = daemon.repository.get_schedule_def("nightly_check").job_name
    for name, request in zip("ab", requests):
        result = daemon.launch(job, dict(request.tags))
        assert result.success
        found = result.get_asset_check_evaluations()
        assert len(found) == 20
        assert all(evaluation.passed for evaluation in found)
        assert {evaluation.partition for evaluation in found} == {name}
    tomorrow = daemon.fire("nightly_check", datetime(2030, 1, 2, 2, tzinfo=UTC))
    today = daemon.fire("nightly_check", datetime(2030, 1, 1, 2, tzinfo=UTC))
    keys = {request.run_key for data in (today, tomorrow) for request in data.run_requests or []}
    assert len(keys) == 4  # a night's requests are told from the next one's


def test_a_look_at_many_unchanged_files_is_quick(daemon: DaemonWorld) -> None:
    daemon.write({f"{n % 20}/{n}.md": f"# {n}\n" for n in range(500)}, "a")
    daemon.add("a")
    daemon.sync("a")
    started = time.monotonic()
    assert requested(daemon.tick(CHANGED)) == []
    assert time.monotonic() - started < 5  # 0.1 s; more on a busy machine
