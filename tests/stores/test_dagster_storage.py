"""Dagster's storage in the project's database: its one kept connection."""

from __future__ import annotations

import psycopg

from rag_assets.dagster_storage import StackPostgresStorage, dagster_url

#: As pg_stat_activity shows them.
OURS = "FROM pg_stat_activity WHERE application_name = 'dagster-test'"


def test_one_connection_serves_all_and_is_replaced_when_the_server_ended_it(
    postgres_url: str,
) -> None:
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA IF NOT EXISTS dagster")
    storage = StackPostgresStorage(
        postgres_url=f"{dagster_url(postgres_url)}&application_name=dagster-test"
    )

    def ask() -> None:
        assert storage.run_storage.get_runs(limit=1) == []
        assert storage.event_log_storage.get_dynamic_partitions("none") == []
        assert list(storage.schedule_storage.all_instigator_state()) == []

    with psycopg.connect(postgres_url, autocommit=True) as connection:
        ask()
        before = connection.execute(f"SELECT pid {OURS}").fetchall()
        ask()
        assert len(before) == 1
        assert connection.execute(f"SELECT pid {OURS}").fetchall() == before
        # What a restart does.
        connection.execute(f"SELECT pg_terminate_backend(pid, 5000) {OURS}")
        ask()
