"""Dagster's storage in the project's database: its single connection, and its batches."""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import dagster as dg
import psycopg
import pytest
from dagster._core.events import AssetMaterializationPlannedData, DagsterEvent, EngineEventData
from dagster._core.instance.utils import RUNLESS_RUN_ID
from dagster._core.storage.local_compute_log_manager import LocalComputeLogManager
from dagster._core.utils import make_new_run_id
from dagster._utils.error import serializable_error_info_from_exc_info
from dagster_postgres.utils import DagsterPostgresException, retry_pg_connection_fn
from sqlalchemy.exc import OperationalError

from rag_assets import dagster_storage
from rag_assets.cli.run_activity import run_activity
from rag_assets.dagster_storage import StackPostgresStorage, dagster_url, trim_run_logs
from rag_assets.partitions import MAX_RETRIES_TAG, PARTITION_TAG
from resources.errors import ConfigError
from resources.postgres.connection import Postgres
from resources.postgres.run_queue import queued_runs

#: The connections of these tests.
OURS = "FROM pg_stat_activity WHERE application_name = 'dagster-test'"


def test_one_connection_serves_all_and_is_replaced_after_a_restart_and_when_it_was_idle(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA IF NOT EXISTS dagster")
    storage = StackPostgresStorage(
        postgres_url=f"{dagster_url(postgres_url)}&application_name=dagster-test"
    )

    def query_all() -> None:
        assert storage.run_storage.get_runs(limit=1) == []
        assert storage.event_log_storage.get_dynamic_partitions("none") == []
        assert list(storage.schedule_storage.all_instigator_state()) == []

    with psycopg.connect(postgres_url, autocommit=True) as connection:
        query_all()
        before = connection.execute(f"SELECT pid {OURS}").fetchall()
        query_all()
        assert len(before) == 1
        assert connection.execute(f"SELECT pid {OURS}").fetchall() == before
        # A restart does the same.
        connection.execute(f"SELECT pg_terminate_backend(pid, 5000) {OURS}")
        query_all()
        restarted = connection.execute(f"SELECT pid {OURS}").fetchall()
        monkeypatch.setattr(dagster_storage, "IDLE_SECONDS", 0)
        query_all()
        replaced = connection.execute(f"SELECT pid {OURS}").fetchall()
        assert set(replaced).isdisjoint({*before, *restarted})


@pytest.fixture
def storage(postgres_url: str) -> StackPostgresStorage:
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA IF NOT EXISTS dagster")
    return StackPostgresStorage(postgres_url=dagster_url(postgres_url))


def test_a_canceled_run_stays_canceled(storage: StackPostgresStorage) -> None:
    """Its process may record another end later."""
    runs = storage.run_storage
    ends = ("PIPELINE_SUCCESS", "PIPELINE_FAILURE", "PIPELINE_START")
    for first, last in (*(("PIPELINE_CANCELED", end) for end in ends), ("PIPELINE_START", ends[1])):
        run = runs.add_run(dg.DagsterRun(job_name="sync_source", run_id=make_new_run_id()))
        for kind in ("PIPELINE_START", first, last):
            runs.handle_run_event(run.run_id, DagsterEvent(kind, "sync_source"))
        (found,) = runs.get_runs(dg.RunsFilter(run_ids=[run.run_id]))
        expected = "CANCELED" if first == "PIPELINE_CANCELED" else "FAILURE"
        assert found.status.value == expected, (first, last)


def test_details_of_old_runs_are_deleted_and_what_is_known_of_assets_stays(
    storage: StackPostgresStorage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(dagster_storage, "TRIM_BATCH", 2)
    now, run = datetime.now(UTC), make_new_run_id()
    planned = AssetMaterializationPlannedData(dg.AssetKey(["trimmed"]), "one")
    for days in (61, 59):
        for kind, data in (
            *[("STEP_START", None)] * 3,
            ("ENGINE_EVENT", EngineEventData()),
            ("PIPELINE_START", None),
            ("ASSET_MATERIALIZATION_PLANNED", planned),
        ):
            storage.event_log_storage.store_event(
                dg.EventLogEntry(
                    error_info=None,
                    level=10,
                    user_message="",
                    run_id=run,
                    timestamp=(now - timedelta(days=days)).timestamp(),
                    job_name="sync_source",
                    dagster_event=DagsterEvent(kind, "sync_source", event_specific_data=data),
                )
            )
    old, recent, other = (tmp_path / name for name in (run, make_new_run_id(), "schedules"))
    for folder in (old, recent, other):
        (folder / "compute_logs").mkdir(parents=True)
    for folder in (old, other):
        os.utime(folder, (0, 0))

    class Instance:
        event_log_storage = storage.event_log_storage
        compute_log_manager = LocalComputeLogManager(str(tmp_path))

    assert trim_run_logs(cast(Any, Instance), now - timedelta(days=60)) == {
        "events": 4,
        "folders": 1,
    }
    kinds = [
        event.get_dagster_event().event_type_value
        for event in storage.event_log_storage.get_logs_for_run(run)
    ]
    assert kinds[:2] == ["PIPELINE_START", "ASSET_MATERIALIZATION_PLANNED"] and len(kinds) == 8
    assert not old.exists() and recent.exists() and other.exists()


@pytest.mark.parametrize("is_setting", [True, False])
def test_a_run_that_a_setting_keeps_from_starting_is_not_started_again(
    storage: StackPostgresStorage, is_setting: bool
) -> None:
    run = storage.run_storage.add_run(
        dg.DagsterRun(job_name="sync_source", run_id=make_new_run_id())
    )
    try:
        try:
            raise ConfigError("RAG_VECTORS: unknown") if is_setting else OSError("no memory")
        except Exception as cause:
            raise ImportError("Could not load job definition.") from cause
    except ImportError:
        error = serializable_error_info_from_exc_info(sys.exc_info())
    storage.event_log_storage.store_event(
        dg.EventLogEntry(
            error_info=None,
            level=40,
            user_message="",
            run_id=run.run_id,
            timestamp=0.0,
            job_name="sync_source",
            dagster_event=DagsterEvent(
                "ENGINE_EVENT",
                "sync_source",
                event_specific_data=EngineEventData.engine_error(error),
            ),
        )
    )
    (found,) = storage.run_storage.get_runs(dg.RunsFilter(run_ids=[run.run_id]))
    assert found.tags.get(MAX_RETRIES_TAG) == ("0" if is_setting else None)


def test_the_runs_that_hold_and_await_a_pool_are_those_of_dagster(
    storage: StackPostgresStorage, postgres_url: str
) -> None:
    log, statuses = storage.event_log_storage, dg.DagsterRunStatus
    runs = [
        storage.run_storage.add_run(
            dg.DagsterRun(
                job_name="sync_source",
                run_id=make_new_run_id(),
                status=status,
                tags={PARTITION_TAG: name},
            )
        )
        for name, status in (
            ("a", statuses.STARTED),
            ("b", statuses.STARTED),
            ("a", statuses.NOT_STARTED),
            ("killed", statuses.FAILURE),
            ("done", statuses.SUCCESS),
        )
    ]
    first, second, queued, killed, _ = (run.run_id for run in runs)
    log.set_concurrency_slots("pool_of_test", 1)
    log.set_concurrency_slots("other_pool", 1)
    log.claim_concurrency_slot("pool_of_test", first, "dense_vectors")
    log.claim_concurrency_slot("pool_of_test", second, "dense_vectors")
    log.claim_concurrency_slot("other_pool", killed, "documents")
    try:
        with Postgres(postgres_url).connect(autocommit=True) as connection:
            # Dagster's own function wants a code location.
            connection.execute(
                "UPDATE dagster.runs SET status = 'QUEUED' WHERE run_id = %s", [queued]
            )
            found = {run.run_id: run for run in queued_runs(connection)}
            shown = {item["run"]: item for item in run_activity(connection)}
        assert found.keys() >= {first, second, queued, killed}
        assert runs[4].run_id not in found
        assert (found[first].holds, found[first].awaits) == (["pool_of_test"], [])
        assert (found[second].holds, found[second].awaits) == ([], ["pool_of_test"])
        assert list(found[first].partitions) == ["a"]
        waits = {item: shown[item]["waits_for"] for item in (first, second, queued)}
        assert waits == {
            first: "",
            second: f"pool pool_of_test, held by run {first[:8]} of a",
            queued: f"run {first[:8]} of a",
        }
        # What Dagster frees a minute after the end of a run.
        assert shown[killed]["holds"] == ["other_pool"] and shown[killed]["status"] == "failure"
    finally:
        for run in runs:
            log.free_concurrency_slots_for_run(run.run_id)
            storage.run_storage.delete_run(run.run_id)


def test_a_check_that_a_sensor_reports_twice_has_its_last_result(
    storage: StackPostgresStorage,
) -> None:
    log = storage.event_log_storage
    check = dg.AssetCheckKey(dg.AssetKey(["reported"]), "synced_on_schedule")
    reports = [("a", False), ("a", True), ("b", True), ("a", False), (None, True), (None, False)]
    for partition, passed in reports:
        evaluation = dg.AssetCheckEvaluation(
            asset_key=check.asset_key, check_name=check.name, passed=passed, partition=partition
        )
        log.store_event(
            dg.EventLogEntry(
                error_info=None,
                level=10,
                user_message="",
                run_id=RUNLESS_RUN_ID,
                timestamp=1.0,
                dagster_event=DagsterEvent(
                    "ASSET_CHECK_EVALUATION", "", event_specific_data=evaluation
                ),
            )
        )
        record = log.get_latest_asset_check_execution_by_key([check])[check]
        assert record.status.value == ("SUCCEEDED" if passed else "FAILED")
        assert record.partition == partition


def test_planned_materializations_are_stored_in_one_batch_and_found_by_partition(
    postgres_url: str,
) -> None:
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA IF NOT EXISTS dagster")
    log = StackPostgresStorage(postgres_url=dagster_url(postgres_url)).event_log_storage
    run, keys = make_new_run_id(), [dg.AssetKey(["planned", name]) for name in ("one", "two")]
    log.store_event_batch(
        [
            dg.EventLogEntry(
                error_info=None,
                level=10,
                user_message="",
                run_id=run,
                timestamp=1.0,
                dagster_event=DagsterEvent.build_asset_materialization_planned_event(
                    "job", "step", AssetMaterializationPlannedData(key, partition=partition)
                ),
            )
            for key in keys
            for partition in ("a", "b")
        ]
    )
    planned = dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED
    for key in keys:
        assert log.get_latest_storage_id_by_partition(key, planned).keys() == {"a", "b"}
        assert log.get_asset_records([key])[0].asset_entry.last_run_id == run


def test_an_outage_is_one_line_of_warning(
    storage: StackPostgresStorage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(dagster_storage.ShortWarnings, "last", -dagster_storage.WARNING_SECONDS)

    def refuse() -> None:
        raise OperationalError("SELECT 1", {}, Exception("no such server\n\tIs it running?"))

    caplog.clear()
    with pytest.raises(DagsterPostgresException):
        retry_pg_connection_fn(refuse, retry_limit=2, retry_wait=0.001)
    messages = [record.getMessage() for record in caplog.records if record.name == "root"]
    assert messages == ["Dagster tries again to reach PostgreSQL: no such server"]
