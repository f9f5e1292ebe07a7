"""Dagster's storage in the project's database: its single connection, and its batches."""

from __future__ import annotations

import dagster as dg
import psycopg
from dagster._core.events import AssetMaterializationPlannedData, DagsterEvent
from dagster._core.utils import make_new_run_id

from rag_assets.dagster_internals import StackPostgresStorage, dagster_url

#: The connections of these tests.
OURS = "FROM pg_stat_activity WHERE application_name = 'dagster-test'"


def test_one_connection_serves_all_and_is_replaced_after_a_restart(
    postgres_url: str,
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
