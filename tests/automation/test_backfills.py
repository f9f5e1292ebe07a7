"""A run over several sources, as a backfill launches it: one run with metadata for each source.

A source that fails does not stop the others, and sources that have nothing to do are skipped.
"""

from __future__ import annotations

import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, LiteralString

import dagster as dg
import pytest

from rag_assets.assets import retrieval_evaluation, vectors
from rag_assets.assets.stage_metadata import total_metadata
from rag_assets.evaluation.known_items import build_set
from rag_assets.evaluation.measurement import Measurement, measure_set
from rag_assets.ingestion import index
from rag_assets.ingestion.index import find_idle_vectors
from rag_assets.ingestion.stage import Outcome, Stage
from rag_assets.pipeline.vectors import KINDS, Kind
from resources.errors import StoreUnavailable, VectorError
from resources.milvus.store import MilvusStore
from resources.postgres import table_sample
from resources.postgres.idle_sources import listable_sources
from resources.postgres.registry.sources import SourceRow, get_source
from resources.sources.signs import FINE_TICK
from resources.vector_stores import VectorStores
from tests.support.extent import selected
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


class Several:
    """Synced sources, in the order of their names here. A run over all of them shows which stages had work."""

    def __init__(self, world: World, names: Sequence[str]) -> None:
        self.world, self.names = world.configured(vectors=("dense",)), names
        for name in names:
            world.write({f"{n}.md": TEXT + name + n for n in ("one", "two")}, name)
            world.add(name)
        # A file as young as its listing looks changed to the next one.
        time.sleep(2 * FINE_TICK)
        for name in names:
            self.world.fill(name)
        self.metadata: dict[tuple[str, str], dict[str, Any]] = {}
        self.sql = world.connection.execute

    def rows(self, *names: str) -> dict[str, SourceRow]:
        return {name: get_source(self.world.connection, name) for name in names or self.names}

    def run(self) -> set[tuple[str, str]]:
        """Sync all in one run. Returns (partition, asset) of the stages that ran as writers: they show the columns."""
        result = run_range(self.world, "sync_source", self.names[0], self.names[-1])
        assert result.success
        self.metadata = {
            (item.partition or "", item.asset_key.to_user_string()): {
                name: value.value for name, value in item.metadata.items()
            }
            for event in result.all_events
            if event.is_step_materialization
            for item in [event.step_materialization_data.materialization]
        }
        assert len(self.metadata) == 7 * len(self.names)
        return {key for key, values in self.metadata.items() if "dagster/column_schema" in values}

    def epochs(self) -> Counter[str]:
        return Counter(dict(self.sql("SELECT partition, epoch FROM partition_writers").fetchall()))

    def assert_worked(self, stages: Mapping[str, Collection[str]]) -> None:
        """Assert that a run over all executes only these stages of each source."""
        before = self.epochs()
        expected = {(name, stage) for name, worked in stages.items() for stage in worked}
        assert self.run() == {item for item in expected if item[1] != "multi_vectors"}
        assert self.epochs() - before == Counter(partition for partition, _ in expected)

    def assert_all_is_done(self, *names: str) -> None:
        """Assert that no stage has work, and that a skipped stage reports what it would report as a writer."""
        self.assert_worked({})
        states = "SELECT DISTINCT sync_status FROM sources WHERE last_sync_at IS NOT NULL"
        assert self.sql(states).fetchall() == [("completed",)]
        for name in names:
            for asset, plan in self.world.fill(name).items():
                values = self.metadata[name, asset]
                assert (values["plan"], values["dagster/partition_row_count"]) == (
                    plan,
                    plan["kept"],
                ), asset
        urls = (self.world.settings.postgres_url, self.world.settings.milvus_uri)
        assert disagreements(*urls, ("dense",)) == []


#: A source that has work of its kind -> the statement that makes the work, and the stages that do it.
IN_SQL: dict[str, tuple[LiteralString, Sequence[str]]] = {
    "a-file-was-not-read": (
        "UPDATE source_entries SET error = 'no answer', content_hash = NULL WHERE source_id = %s",
        ["source_documents"],
    ),
    "a-locator-changed": (
        "UPDATE source_entries SET locator = 'elsewhere' WHERE source_id = %s",
        ["source_documents"],
    ),
    "another-parser": (
        "UPDATE documents SET parser_fingerprint = 'older' WHERE source_uuid = %s",
        ["documents"],
    ),
    "another-chunker": (
        "UPDATE documents SET chunker_fingerprint = 'older' WHERE source_uuid = %s",
        ["document_chunks"],
    ),
    "another-author": (
        "UPDATE documents SET author = 'Somebody' WHERE source_uuid = %s",
        VECTORS,
    ),
    "unfinished-indexing": (
        "UPDATE documents SET indexing_status = 'indexing' WHERE source_uuid = %s",
        VECTORS,
    ),
    "another-model": (
        "UPDATE documents SET indexed_as = 'another model' WHERE source_uuid = %s",
        VECTORS,
    ),
    "outbox-of-a-kind-no-longer-kept": (
        """INSERT INTO vector_deletions (source_uuid, kind, chunk_id)
           SELECT id, 'multi', id FROM sources WHERE id = %s""",
        ["multi_vectors"],
    ),
    "another-language": (
        """UPDATE sources SET connection_config = connection_config || '{"language": "de"}' WHERE id = %s""",
        ["documents", "document_chunks", *VECTORS],
    ),
    "unsigned-documents": (
        "DELETE FROM document_signatures WHERE source_uuid = %s",
        ["documents"],
    ),
    "a-document-deleted-in-sql": (
        "DELETE FROM documents WHERE source_uuid = %s AND source_key = 'one.md'",
        ["dense_vectors"],
    ),
}
#: A source whose folder changed -> the change, and the stages that bring it up to date.
IN_THE_FOLDER: dict[str, tuple[Callable[[Path], object], Sequence[str]]] = {
    "a-new-file": (lambda root: (root / "three.md").write_text(TEXT + "new"), STAGES),
    "an-edited-file": (lambda root: (root / "two.md").write_text(TEXT + "edited"), STAGES),
    "a-touched-file": (lambda root: os.utime(root / "two.md", (1, 1)), ["source_documents"]),
    "a-deleted-file": (
        lambda root: (root / "two.md").unlink(),
        ["source_documents", "documents", "dense_vectors"],
    ),
    "a-file-that-cannot-be-read": (
        lambda root: (root / "torn.pdf").write_bytes(b"%PDF-1.4 no more"),
        ["source_documents", "documents"],
    ),
}


def test_a_range_finds_the_work_of_each_of_its_sources(world: World) -> None:
    several = Several(world, ["unchanged", *IN_SQL, *IN_THE_FOLDER])
    for name, (statement, _) in IN_SQL.items():
        several.sql(statement, [several.rows(name)[name].id])
    for name, (change, _) in IN_THE_FOLDER.items():
        change(world.folder / name)
    several.assert_worked(
        {name: stages for name, (_, stages) in {**IN_SQL, **IN_THE_FOLDER}.items()}
    )
    several.assert_all_is_done("a-document-deleted-in-sql", "a-file-that-cannot-be-read")
    assert "failed_documents" in several.metadata["a-file-that-cannot-be-read", "documents"]
    totals = dict(several.sql("SELECT name, total_documents FROM sources").fetchall())
    assert (totals["unchanged"], totals["a-document-deleted-in-sql"]) == (2, 1)

    ids = {name: row.id for name, row in several.rows("unchanged", "a-new-file").items()}
    with several.world.postgres.writer("a-new-file"):
        assert listable_sources(world.connection, ids, most=10) == ["unchanged"]
    # The other source has three entries.
    assert listable_sources(world.connection, ids, most=2) == ["unchanged"]


def test_a_range_finds_work_that_concerns_all_its_sources(world: World) -> None:
    several = Several(world, ["a", "b"])
    store = several.world.store
    name = store.alias_target("dense")
    assert name is not None

    # A deleted signature, which documents of any source may refer to.
    several.sql("INSERT INTO gone_signatures VALUES (0)")
    several.assert_worked({key: ["documents"] for key in "ab"})
    store.client.drop_alias("dense_collection")
    store.client.drop_collection(name)
    several.assert_worked({key: ["dense_vectors"] for key in "ab"})

    def idle() -> set[str]:
        return set(
            find_idle_vectors(world.connection, several.rows(), "dense", several.world.stores)
        )

    def other(state: str) -> None:
        several.sql(
            """INSERT INTO vector_collections SELECT (jsonb_populate_record(v, jsonb_build_object(
                 'name', 'half_built', 'state', %s::text))).* FROM vector_collections v""",
            [state],
        )

    for change in (
        lambda: store.client.drop_alias("dense_collection"),
        lambda: several.sql("UPDATE vector_collections SET milvus_id = 'another'"),
        partial(other, "retired"),
        partial(other, "rebuilding"),
    ):
        assert idle() == {"a", "b"}
        change()
        assert idle() == set()
        for key in "ab":
            several.world.fill(key)
    several.assert_all_is_done("b")
