"""A run over several sources, as a backfill launches it: one run with metadata for each source.

A source that fails does not stop the others, and sources that have nothing to do are skipped.
"""

from __future__ import annotations

import shutil
from collections import Counter
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
from resources.vector_stores import VectorStores
from tests.support.extent import selected
from tests.support.oracle import disagreements
from tests.support.ranges import TEXT, run_range
from tests.support.world import World


@pytest.fixture
def sources(world: World) -> World:
    for name in ("a", "b"):
        world.write({f"{name}.md": TEXT + name}, name)
        world.add(name)
    return world


def test_a_range_is_one_run_with_metadata_for_each_source(
    sources: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = run_range(sources, "sync_source", "a", "b")
    assert result.success
    metadata = {
        (item.asset_key.to_user_string(), item.partition): item.metadata
        for event in result.all_events
        if event.is_step_materialization
        for item in [event.step_materialization_data.materialization]
    }
    plans = {key: values["plan"].value for key, values in metadata.items()}
    assert {partition for _, partition in plans} == {"a", "b"}
    # Seven assets for two sources.
    assert len(plans) == 14
    for name in ("a", "b"):
        assert plans["documents", name]["inserted"] == 1  # pyright: ignore
        assert plans["dense_vectors", name]["inserted"] == 1  # pyright: ignore
    # The overview of an asset counts all sources.
    counts = {
        (values["dagster/partition_row_count"].value, values["dagster/row_count"].value)
        for (asset, _), values in metadata.items()
        if asset != "multi_vectors"
    }
    assert counts == {(1, 2)}
    # Statistics know the rows of all collections together. No number is better than that of another table.
    monkeypatch.setattr(table_sample, "COUNTED", 1)
    # In a new database the sync analyzed the table before its insertions were counted, and they count twice.
    sources.connection.execute("ANALYZE document_chunks")
    assert total_metadata(sources.connection, "dense_vectors") == {}
    assert total_metadata(sources.connection, "document_chunks") == {"dagster/row_count": 2}
    assert disagreements(sources.settings.postgres_url, sources.settings.milvus_uri) == []


def test_checks_of_a_range_name_the_source_that_fails(sources: World) -> None:
    for name in ("a", "b"):
        sources.fill(name)
    sources.connection.execute(
        "UPDATE documents SET indexing_status = 'indexing' WHERE source_key = 'b.md'"
    )
    sources.connection.execute("UPDATE documents SET chunk_count = 99 WHERE source_key = 'a.md'")
    evaluations = run_range(sources, "check_source", "a", "b").get_asset_check_evaluations()
    assert len(evaluations) == 22
    failed = {item.check_name: item for item in evaluations if not item.passed}
    reasons = {name: item.description or "" for name, item in failed.items()}
    assert {name: reason[:3] for name, reason in reasons.items()} == {
        "statuses_agree": "b: ",
        # Blocks a sync; on its own it fails as any check does.
        "chunk_positions_are_contiguous": "a: ",
    }
    # Nothing about the source that passes.
    assert not any("\n" in reason for reason in reasons.values())
    severity = failed["chunk_positions_are_contiguous"].severity
    assert severity == dg.AssetCheckSeverity.ERROR


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
    for name in ("a", "b"):
        sources.fill(name)
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


@pytest.mark.parametrize("failing", selected(KINDS, ["sparse"]))
def test_a_source_that_fails_only_in_one_of_the_last_steps_fails_the_run(
    sources: World, failing: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(stage: Stage, kind: Kind, stores: VectorStores) -> Outcome:
        if (stage.source.name, kind) == ("a", failing):
            raise VectorError("The vector is all zeros.")
        return index.sync_vectors(stage, kind, stores)

    # Otherwise a source with nothing to do does not get that far.
    monkeypatch.setattr(vectors, "find_idle_vectors", lambda *_: {})
    monkeypatch.setattr(vectors, "sync_vectors", refuse)
    result = run_range(sources, "sync_source", "a", "b")
    assert not result.success
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
