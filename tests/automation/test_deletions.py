"""Deletions in plain SQL, as in psql: after one tick of a sensor and the requested run, Milvus has no rows of them."""

from __future__ import annotations

from dagster._core.definitions.sensor_definition import SensorExecutionData

from rag_assets.job_runs import failures
from rag_assets.partitions import PARTITION_TAG
from tests.support.daemon import DaemonWorld
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
        daemon.fill(name)


def rows_in_milvus(daemon: DaemonWorld) -> list[tuple[str, str]]:
    """Return (source, document) of every row in Milvus."""
    rows = daemon.store.client.query(
        "dense_collection", filter='id >= ""', output_fields=["source", "document_id"], limit=100
    )
    return sorted((row["source"], row["document_id"]) for row in rows)


def search_all(daemon: DaemonWorld) -> set[tuple[str, str]]:
    """Return (source, key) of the results of a search that matches every document."""
    return {(hit.source, hit.key) for hit in daemon.search(QUERY, k=10, mode="dense")}


def one_tick(daemon: DaemonWorld, sensor: str, job: str) -> SensorExecutionData:
    """Evaluate the sensor once and execute the requested run, as the daemon does."""
    data = daemon.tick(sensor)
    assert len(data.run_requests or []) == 1
    for request in data.run_requests or []:
        result = daemon.launch(request.job_name or job, dict(request.tags))
        assert result.success, failures(result)
    return data


def test_a_document_and_a_source_deleted_in_sql_leave_milvus_after_one_tick_each(
    daemon: DaemonWorld,
) -> None:
    ingested(daemon)
    before = rows_in_milvus(daemon)
    assert search_all(daemon) == {(s, k) for s in ("a", "b") for k in ("one.md", "two.md")}
    gone = str(
        daemon.one(
            """DELETE FROM documents d USING sources s WHERE s.id = d.source_uuid AND s.name = 'a'
               AND d.source_key = 'one.md' RETURNING d.id"""
        )
    )
    # Still in Milvus, but no longer returned.
    assert ("a", gone) in rows_in_milvus(daemon)
    assert ("a", "one.md") not in search_all(daemon)
    tick = one_tick(daemon, "changed_folders_sensor", "sync_source")
    assert [request.tags[PARTITION_TAG] for request in tick.run_requests or []] == ["a"]
    assert rows_in_milvus(daemon) == [row for row in before if row != ("a", gone)]
    assert ("a", "one.md") not in search_all(daemon)
    # The next tick does not request the source again.
    assert not daemon.tick("changed_folders_sensor", tick.cursor).run_requests
    assert daemon.one("SELECT count(*) FROM vector_deletions") == 0

    # The source.
    daemon.connection.execute("DELETE FROM sources WHERE name = 'a'")
    assert {source for source, _ in rows_in_milvus(daemon)} == {"a", "b"}
    assert {source for source, _ in search_all(daemon)} == {"b"}
    one_tick(daemon, "sources_table_sensor", "purge_removed_sources")
    assert {source for source, _ in rows_in_milvus(daemon)} == {"b"}
    assert {source for source, _ in search_all(daemon)} == {"b"}
    assert daemon.partitions() == {"b"}
    assert not daemon.tick("sources_table_sensor").run_requests


def test_truncate_counts_as_a_deletion(daemon: DaemonWorld) -> None:
    """Truncated chunks are damage, which a repair fixes; truncated documents stay away, like deleted ones."""
    ingested(daemon)

    def repair(source: str) -> None:
        assert daemon.launch_elsewhere("repair_drift", {PARTITION_TAG: source}).success

    for table, work, left in (("document_chunks", repair, 4), ("documents", daemon.fill, 0)):
        daemon.connection.execute(f"TRUNCATE {table} CASCADE")  # pyright: ignore
        assert daemon.one("SELECT count(*) FROM document_chunks") == 0
        assert daemon.one("SELECT count(*) FROM vector_deletions") == 4
        assert search_all(daemon) == set()
        for name in ("a", "b"):
            work(name)
        assert len(rows_in_milvus(daemon)) == left, table
        urls = daemon.settings.postgres_url, daemon.settings.milvus_uri
        assert disagreements(*urls, ("dense",)) == []
