"""Deletions by plain SQL, as a person at psql makes them: one look of a sensor, what it asks for, and all is gone."""

from __future__ import annotations

import pytest
from dagster._core.definitions.sensor_definition import SensorExecutionData

from rag_assets.partitions import PARTITION_TAG
from tests.automation.conftest import DaemonWorld
from tests.support.oracle import disagreements

QUERY = "when does the observatory open"


def ingested(daemon: DaemonWorld) -> None:
    for name in ("a", "b"):
        daemon.write(
            {
                f"{key}.md": f"# Hours\n\nThe observatory of {name}{key} opens at nine in the morning.\n"
                for key in ("one", "two")
            },
            name,
        )
        daemon.add(name)
        daemon.sync(name)


def held(daemon: DaemonWorld) -> list[tuple[str, str]]:
    """(source, document) of every row in Milvus."""
    rows = daemon.store.client.query(
        "dense_collection", filter='id >= ""', output_fields=["source", "document_id"], limit=100
    )
    return sorted((row["source"], row["document_id"]) for row in rows)


def found(daemon: DaemonWorld) -> set[tuple[str, str]]:
    """(source, key) of what a search returns, which would return everything."""
    return {(hit.source, hit.key) for hit in daemon.searcher().search(QUERY, k=10, mode="dense")}


def one_tick(daemon: DaemonWorld, sensor: str, job: str) -> SensorExecutionData:
    """Evaluates the sensor once and executes what it asks for, as the daemon does."""
    data = daemon.tick(sensor)
    assert len(data.run_requests or []) == 1
    for request in data.run_requests or []:
        assert daemon.launch(request.job_name or job, dict(request.tags)).success
    return data


def test_a_document_deleted_in_sql_leaves_milvus_within_one_look(daemon: DaemonWorld) -> None:
    ingested(daemon)
    before = held(daemon)
    assert found(daemon) == {(s, k) for s in ("a", "b") for k in ("one.md", "two.md")}
    gone = str(
        daemon.one(
            """DELETE FROM documents d USING sources s WHERE s.id = d.source_uuid AND s.name = 'a'
               AND d.source_key = 'one.md' RETURNING d.id"""
        )
    )
    assert ("a", gone) in held(daemon)  # still there, and yet not returned
    assert ("a", "one.md") not in found(daemon)
    asked = one_tick(daemon, "changed_folders_sensor", "sync_source")
    assert [request.tags[PARTITION_TAG] for request in asked.run_requests or []] == ["a"]
    assert held(daemon) == [row for row in before if row != ("a", gone)]
    assert ("a", "one.md") not in found(daemon)
    assert not daemon.tick("changed_folders_sensor", asked.cursor).run_requests  # and stays away
    assert daemon.one("SELECT count(*) FROM vector_deletions") == 0


def test_a_source_deleted_in_sql_leaves_milvus_within_one_look(daemon: DaemonWorld) -> None:
    ingested(daemon)
    daemon.connection.execute("DELETE FROM sources WHERE name = 'a'")
    assert {source for source, _ in held(daemon)} == {"a", "b"}
    assert {source for source, _ in found(daemon)} == {"b"}
    one_tick(daemon, "sources_table_sensor", "purge_removed_sources")
    assert {source for source, _ in held(daemon)} == {"b"}
    assert {source for source, _ in found(daemon)} == {"b"}
    assert daemon.partitions() == {"b"}
    assert not daemon.tick("sources_table_sensor").run_requests


@pytest.mark.parametrize(
    ("table", "job", "left"),
    [("documents", "sync_source", 0), ("document_chunks", "repair_drift", 4)],
)
def test_truncate_is_a_delete(daemon: DaemonWorld, table: str, job: str, left: int) -> None:
    """Documents stay away, as those that a person deleted; chunks that are lost are damage, which a repair mends."""
    ingested(daemon)
    daemon.connection.execute(f"TRUNCATE {table} CASCADE")  # pyright: ignore
    assert daemon.one("SELECT count(*) FROM document_chunks") == 0
    assert daemon.one("SELECT count(*) FROM vector_deletions") == 4
    assert found(daemon) == set()
    for name in ("a", "b"):
        assert daemon.launch(job, {PARTITION_TAG: name}).success
    assert len(held(daemon)) == left
    urls = daemon.settings.postgres_url, daemon.settings.milvus_uri
    assert disagreements(*urls, ("dense",)) == []
