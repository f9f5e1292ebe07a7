"""A run over several sources, as a backfill launches it: one run with metadata for each source.

A source that fails does not stop the others, and sources that have nothing to do are skipped.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Collection
from functools import partial
from typing import Any

import dagster as dg
import pytest

from rag_assets.assets import retrieval_evaluation, vectors
from rag_assets.assets.stage_metadata import total_metadata
from rag_assets.evaluation.known_items import build_set
from rag_assets.evaluation.measurement import Measurement, measure_set
from rag_assets.ingestion import index
from rag_assets.ingestion.stage import Outcome, Stage
from rag_assets.pipeline.vectors import KINDS, Kind
from resources.errors import StoreUnavailable, VectorError
from resources.milvus.store import MilvusStore
from resources.postgres import table_sample
from resources.postgres.idle_sources import listable_sources
from resources.postgres.registry.sources import get_source
from resources.vector_stores import VectorStores
from tests.faults import driver
from tests.support.oracle import disagreements
from tests.support.world import World

TEXT = (
    "# Hours\n\nThe observatory opens at nine in the morning and closes when the stars come out.\n"
)
VECTORS = ("chunk_embeddings", "dense_vectors")
STAGES = ("source_documents", "documents", "document_chunks", *VECTORS)


def run_range(world: World, job: str, first: str, last: str) -> dg.ExecuteInProcessResult:
    """Run a job over a range, by Dagster's tags. Sources are in the order in which they were added."""
    tags = {
        "dagster/asset_partition_range_start": first,
        "dagster/asset_partition_range_end": last,
    }
    return world.run(job, None, tags=tags, raise_on_error=False)


@pytest.fixture
def sources(world: World) -> World:
    for name in ("a", "b"):
        world.write({f"{name}.md": TEXT + name}, name)
        world.add(name)
    return world


def test_a_range_is_one_run_with_metadata_for_each_source(sources: World) -> None:
    result = run_range(sources, "sync_source", "a", "b")
    assert result.success
    plans = {
        (item.asset_key.to_user_string(), item.partition): item.metadata["plan"].value
        for event in result.all_events
        if event.is_step_materialization
        for item in [event.step_materialization_data.materialization]
    }
    assert {partition for _, partition in plans} == {"a", "b"}
    # Seven assets for two sources.
    assert len(plans) == 14
    for name in ("a", "b"):
        assert plans["documents", name]["inserted"] == 1  # pyright: ignore
        assert plans["dense_vectors", name]["inserted"] == 1  # pyright: ignore
    assert disagreements(sources.settings.postgres_url, sources.settings.milvus_uri) == []


def test_checks_of_a_range_name_the_source_that_fails(sources: World) -> None:
    assert run_range(sources, "sync_source", "a", "b").success
    evaluations = run_range(sources, "check_source", "a", "b").get_asset_check_evaluations()
    assert len(evaluations) == 22
    assert all(evaluation.passed for evaluation in evaluations)
    sources.connection.execute(
        "UPDATE documents SET indexing_status = 'indexing' WHERE source_key = 'b.md'"
    )
    evaluations = run_range(sources, "check_source", "a", "b").get_asset_check_evaluations()
    failed = {item.check_name: item.description or "" for item in evaluations if not item.passed}
    assert set(failed) == {"statuses_agree"}
    assert failed["statuses_agree"].startswith("b: ")
    # Nothing about a, which passes.
    assert "\n" not in failed["statuses_agree"]


def test_a_source_that_fails_does_not_stop_the_others(sources: World) -> None:
    shutil.rmtree(sources.folder / "a")
    result = run_range(sources, "sync_source", "a", "b")
    assert not result.success
    # One step fails, the last one, after all stages brought the other source up to date.
    failures = {
        event.step_key: event.step_failure_data.user_failure_data
        for event in result.all_events
        if event.is_step_failure
    }
    assert len(failures) == 1
    assert failures.keys() < {"dense_vectors", "sparse_vectors", "multi_vectors"}
    for failure in failures.values():
        assert failure is not None
        reason, others = (failure.description or "").split("\n")
        assert reason.startswith("a: ")
        assert others == "Partitions that this step brought up to date: 1."
        metadata = {name: value.value for name, value in failure.metadata.items()}
        assert (metadata["failed"], metadata["source"]) == (["a"], "a")
        assert (metadata["stage"], metadata["error"]) == ("source_documents", "SourceError")
        assert metadata["address"] == str(sources.folder / "a")
        assert "rag ingest a" in str(metadata["what to do"])
    materialized = Counter(
        event.partition for event in result.all_events if event.is_step_materialization
    )
    assert materialized == {"b": 7}
    statuses = sources.connection.execute(
        "SELECT name, sync_status, error_count FROM sources ORDER BY name"
    ).fetchall()
    assert statuses == [("a", "failed", 1), ("b", "completed", 0)]
    assert disagreements(sources.settings.postgres_url, sources.settings.milvus_uri) == []


def test_a_check_that_blocks_a_source_does_not_block_the_others(sources: World) -> None:
    assert run_range(sources, "sync_source", "a", "b").success
    sources.connection.execute(
        "UPDATE document_chunks SET position = position + 5 WHERE document_id IN "
        "(SELECT id FROM documents WHERE source_key = 'a.md')"
    )
    sources.write({"more.md": TEXT + "more"}, "b")
    result = run_range(sources, "sync_source", "a", "b")
    (failure,) = [
        event.step_failure_data.user_failure_data
        for event in result.all_events
        if event.is_step_failure
    ]
    assert failure is not None and (failure.description or "").startswith("a: ")
    materialized = Counter(
        event.partition for event in result.all_events if event.is_step_materialization
    )
    assert materialized == {"a": 3, "b": 7}
    # Without a sync, the check alone fails as ever.
    (check,) = [
        item
        for item in run_range(sources, "check_source", "a", "b").get_asset_check_evaluations()
        if item.check_name == "chunk_positions_are_contiguous"
    ]
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.ERROR)


def test_a_run_whose_sources_all_fail_ends_at_once(sources: World) -> None:
    sources = sources.configured(retry_delay=0)
    for name in ("a", "b"):
        shutil.rmtree(sources.folder / name)
    result = run_range(sources, "sync_source", "a", "b")
    (failure,) = [event for event in result.all_events if event.is_step_failure]
    assert failure.step_key == "source_documents"
    data = failure.step_failure_data
    # Not "Exceeded max_retries of 3", whose reason is far below.
    assert data.error is not None
    assert "Exceeded" not in data.error.message
    assert data.user_failure_data is not None
    table = data.user_failure_data.metadata["what to do"].value
    assert [record.data["source"] for record in table.records] == ["a", "b"]  # pyright: ignore


def test_a_repair_of_several_sources_goes_on_after_one_that_fails(sources: World) -> None:
    sources.connection.execute("DELETE FROM sources WHERE name = 'a'")
    result = run_range(sources, "repair_drift", "a", "b")
    (failure,) = [
        event.step_failure_data.user_failure_data
        for event in result.all_events
        if event.is_step_failure
    ]
    assert failure is not None
    reason, others = (failure.description or "").split("\n")
    assert reason.startswith("a: Source a was removed after this run was requested")
    assert others == "Partitions that this step brought up to date: 1."


def test_a_source_that_fails_only_in_one_of_the_last_steps_fails_the_run(
    sources: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(failing: Kind, stage: Stage, kind: Kind, stores: VectorStores) -> Outcome:
        if (stage.source.name, kind) == ("a", failing):
            raise VectorError("The vector is all zeros.")
        return index.sync_vectors(stage, kind, stores)

    # Otherwise a source with nothing to do does not get that far.
    monkeypatch.setattr(vectors, "find_idle_vectors", lambda *_: {})
    for failing in KINDS:
        monkeypatch.setattr(vectors, "sync_vectors", partial(refuse, failing))
        result = run_range(sources, "sync_source", "a", "b")
        assert not result.success, failing
        (failed,) = [event.step_key for event in result.all_events if event.is_step_failure]
        assert failed == f"{failing}_vectors"
        materialized = [
            (event.partition, event.step_key)
            for event in result.all_events
            if event.is_step_materialization
        ]
        assert ("a", failed) not in materialized
        assert Counter(partition for partition, _ in materialized)["b"] == 7


def test_an_evaluation_of_several_sources_is_tried_again_if_a_store_fails(
    sources: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        sources.fill(name)
        build_set(sources.connection, name, name, 1)
    faults = [StoreUnavailable("Milvus does not answer.")]

    def measure(*arguments: Any) -> Measurement:
        if faults:
            raise faults.pop()
        return measure_set(*arguments)

    monkeypatch.setattr(retrieval_evaluation, "measure_set", measure)
    # The original waits 2 s before each measurement.
    monkeypatch.setattr(MilvusStore, "wait_for_flush", lambda self: None)
    result = run_range(sources, "evaluate_retrieval", "a", "b")
    materialized = {event.partition for event in result.all_events if event.is_step_materialization}
    assert materialized == {"a", "b"}
    assert not [event for event in result.all_events if event.is_step_failure]


def test_the_overview_of_an_asset_counts_all_sources(
    sources: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = run_range(sources, "sync_source", "a", "b")
    counts = {
        (event.step_key, event.partition): (
            event.step_materialization_data.materialization.metadata["dagster/partition_row_count"],
            event.step_materialization_data.materialization.metadata["dagster/row_count"],
        )
        for event in result.all_events
        if event.is_step_materialization and event.step_key != "multi_vectors"
    }
    one_of_two = (dg.MetadataValue.int(1), dg.MetadataValue.int(2))
    assert set(counts.values()) == {one_of_two}, counts
    # Statistics know the rows of all collections together. No number is better than that of another table.
    monkeypatch.setattr(table_sample, "COUNTED", 1)
    assert total_metadata(sources.connection, "dense_vectors") == {}
    assert total_metadata(sources.connection, "document_chunks") == {"dagster/row_count": 2}


class Pair:
    """Two synced sources, `a` and `docs`."""

    def __init__(self, world: World) -> None:
        self.world = world.configured(vectors=("dense",))
        for name in ("a", "docs"):
            world.write({f"{n}.md": TEXT + name + n for n in ("one", "two")}, name)
            world.add(name)
        self.metadata: dict[tuple[str, str], dict[str, Any]] = {}
        self.run()
        self.sql = world.connection.execute
        self.docs = get_source(world.connection, "docs").id

    def run(self) -> set[tuple[str, str]]:
        """Sync both in one run. Returns (partition, asset) of the stages that ran as writers: they show the columns."""
        result = run_range(self.world, "sync_source", "a", "docs")
        assert result.success
        self.metadata = {
            (item.partition or "", item.asset_key.to_user_string()): {
                name: value.value for name, value in item.metadata.items()
            }
            for event in result.all_events
            if event.is_step_materialization
            for item in [event.step_materialization_data.materialization]
        }
        assert len(self.metadata) == 14
        return {key for key, values in self.metadata.items() if "dagster/column_schema" in values}

    def epochs(self) -> Counter[str]:
        return Counter(dict(self.sql("SELECT partition, epoch FROM partition_writers").fetchall()))

    def assert_worked(self, change: object, *stages: str, both: Collection[str] = ()) -> None:
        """Assert that a run over both executes only `stages` of docs, and the stages `both` of both sources."""
        before = self.epochs()
        expected = {("docs", stage) for stage in (*stages, *both)} | {
            ("a", stage) for stage in both
        }
        assert self.run() == {item for item in expected if item[1] != "multi_vectors"}, change
        assert self.epochs() - before == Counter(partition for partition, _ in expected), change

    def assert_all_is_done(self) -> None:
        """Assert that no stage has work, and that a skipped stage reports what it would report as a writer."""
        self.assert_worked("no change")
        states = "SELECT string_agg(sync_status, ' ') FROM sources WHERE last_sync_at IS NOT NULL"
        assert self.world.one(states) == "completed completed"
        for asset, plan in driver.sync(self.world.settings).items():
            values = self.metadata["docs", asset]
            assert (values["plan"], values["dagster/partition_row_count"]) == (
                plan,
                plan["kept"],
            ), asset
        urls = (self.world.settings.postgres_url, self.world.settings.milvus_uri)
        assert disagreements(*urls, ("dense",)) == []


@pytest.fixture
def pair(world: World) -> Pair:
    return Pair(world)


def test_a_range_finds_the_unfinished_work_of_a_stage(pair: Pair) -> None:
    edits: dict[str, tuple[str, ...]] = {
        "source_entries SET error = 'no answer', content_hash = NULL": ("source_documents",),
        "source_entries SET locator = 'elsewhere'": ("source_documents",),
        "documents SET parser_fingerprint = 'older'": ("documents",),
        "documents SET chunker_fingerprint = 'older'": ("document_chunks",),
        "documents SET author = 'Somebody'": VECTORS,
        "documents SET indexing_status = 'indexing'": VECTORS,
        "documents SET indexed_as = 'another model'": VECTORS,
    }
    for edit, stages in edits.items():
        column = "source_id" if edit.startswith("source_entries") else "source_uuid"
        pair.sql(f"UPDATE {edit} WHERE {column} = %s", [pair.docs])  # pyright: ignore[reportArgumentType, reportCallIssue]
        pair.assert_worked(edit, *stages)
    pair.assert_all_is_done()


def test_a_range_finds_waiting_work_outside_the_documents(pair: Pair) -> None:
    pair.sql(
        "INSERT INTO vector_deletions (source_uuid, kind, chunk_id) VALUES (%s, 'multi', %s)",
        [pair.docs, pair.docs],
    )
    pair.assert_worked("the outbox of a kind that is no longer kept", "multi_vectors")
    language = """UPDATE sources SET connection_config = connection_config || '{"language": "de"}' WHERE id = %s"""
    pair.sql(language, [pair.docs])
    pair.assert_worked("another language", "documents", "document_chunks", *VECTORS)
    pair.sql("DELETE FROM document_signatures WHERE source_uuid = %s", [pair.docs])
    pair.assert_worked("unsigned documents", "documents")
    pair.sql("INSERT INTO gone_signatures VALUES (0)")
    pair.assert_worked(
        "a deleted signature that documents of any source may refer to", both=["documents"]
    )
    pair.sql("DELETE FROM documents WHERE source_uuid = %s AND source_key = 'one.md'", [pair.docs])
    pair.assert_worked("a document deleted in SQL", "dense_vectors")
    pair.assert_all_is_done()
    counted = "SELECT string_agg(total_documents::text, ' ' ORDER BY name) FROM sources"
    assert pair.world.one(counted) == "2 1"


def test_a_range_finds_changes_in_one_of_its_folders(pair: Pair) -> None:
    root = pair.world.write({"three.md": TEXT + "new"})
    pair.assert_worked("a new file", *STAGES)
    (root / "two.md").write_text(TEXT + "edited")
    pair.assert_worked("an edited file", *STAGES)
    os.utime(root / "two.md", (1, 1))
    pair.assert_worked("a touched file", "source_documents")
    (root / "three.md").unlink()
    pair.assert_worked("a deleted file", "source_documents", "documents", "dense_vectors")
    (root / "torn.pdf").write_bytes(b"%PDF-1.4 no more")
    pair.assert_worked("a file that cannot be read", "source_documents", "documents")
    pair.assert_all_is_done()
    assert "failed_documents" in pair.metadata["docs", "documents"]
    with pair.world.postgres.writer("docs"):
        ids = {key: get_source(pair.world.connection, key).id for key in ("a", "docs")}
        assert listable_sources(pair.world.connection, ids, most=10) == ["a"]
    # The other source has three entries.
    assert listable_sources(pair.world.connection, ids, most=2) == ["a"]


def test_a_range_finds_changes_of_the_collection(pair: Pair) -> None:
    store = pair.world.store
    name = store.alias_target("dense")
    assert name is not None

    def lose() -> None:
        store.client.drop_alias("dense_collection")
        store.client.drop_collection(name)

    def other(state: str) -> None:
        pair.sql(
            """INSERT INTO vector_collections SELECT (jsonb_populate_record(v, jsonb_build_object(
                 'name', 'half_built', 'state', %s::text))).* FROM vector_collections v""",
            [state],
        )

    for change in (
        lose,
        lambda: store.client.drop_alias("dense_collection"),
        lambda: pair.sql("UPDATE vector_collections SET milvus_id = 'another'"),
        partial(other, "retired"),
        partial(other, "rebuilding"),
    ):
        change()
        pair.assert_worked(change, both=["dense_vectors"])
    pair.assert_all_is_done()
