"""Each fault is reported by exactly the checks that it breaks, and `rag repair` removes all of it.

One deployment for the module: each test's repair leaves clean stores for the next. The faults: `check_faults`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from rag_assets.pipeline.vectors import Kind
from resources.milvus.store import MilvusStore
from resources.partition_keys import partition_key
from tests.support.check_faults import (
    ALIAS,
    DOCS,
    DOCUMENT,
    FAULTS,
    INDEX,
    INDEX_ISSUE,
    KINDS,
    MATCH,
    MISMATCH,
    OUTBOX,
    REPEATED,
    SEARCH,
    STATUSES,
    declare_again,
    drop_collection,
    enqueue,
    ids,
    of,
    sql,
)
from tests.support.checks import run_checks
from tests.support.extent import selected
from tests.support.operations import repair
from tests.support.texts import long_text
from tests.support.world import World, empty_world

CHECKS = 7 + 5 * len(KINDS)


@pytest.fixture(scope="module")
def clean(
    home: Path, postgres_url: str, milvus_uri: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("checks")
    with empty_world(home, postgres_url, milvus_uri, folder) as bare:
        world = bare.configured(vectors=KINDS, embedder="tests.support.embedders:CountingEmbedder")
        world.write({f"{n}.md": long_text(f"town {n}", 12) for n in range(5)})
        world.add("empty")
        world.add()
        world.fill()
        yield world


@pytest.fixture
def world(clean: World, request: pytest.FixtureRequest) -> Iterator[World]:
    # A repair does not read the source.
    if clean.one("SELECT count(*) FROM documents") < 5:
        clean.fill()
    age_acknowledgements(clean)
    failed = request.session.testsfailed
    yield clean
    # So that one failure stays one.
    if request.session.testsfailed > failed:
        repair(clean)


def age_acknowledgements(world: World) -> None:
    """Make acknowledgements older than a second: younger ones are not drift when a scan misses their rows."""
    world.connection.execute("UPDATE vector_rows SET acknowledged_at = now() - interval '1 minute'")


def check(world: World, name: str) -> dg.AssetCheckResult:
    return run_checks(world.resources, "docs", only=[name])[name]


def value(evaluation: dg.AssetCheckResult, name: str) -> Any:
    return evaluation.metadata[name].value if name in evaluation.metadata else None


def assert_reported(
    world: World, fails: Mapping[str, str | None], sentence: str = "", remedy: str = "repair"
) -> None:
    """`fails`: exactly the checks that do not pass -> the inconsistency of their findings."""
    evaluations = world.check()
    # Each check could be run.
    assert len(evaluations) == CHECKS
    not_passed = {name: item for name, item in evaluations.items() if not item.passed}
    sentences = {name: item.description or "" for name, item in not_passed.items()}
    assert {name: value(item, "inconsistency") for name, item in not_passed.items()} == fails, (
        sentences
    )
    assert not sentence or any(sentence in text for text in sentences.values()), sentences
    for item in not_passed.values():
        assert value(item, "outcome") in ("failed", "undetermined")
        assert value(item, "remedy") == remedy
        assert value(item, "command")
        assert value(item, "found") > 0
    assert {value(item, "outcome") for item in evaluations.values() if item.passed} == {"passed"}


def assert_repaired(world: World) -> None:
    """A repair reports clean stores. The next check confirms it: it must report the next fault and nothing else."""
    report = repair(world)
    assert report["clean"], report


def test_clean_stores_pass_and_each_check_names_its_numbers(world: World) -> None:
    evaluations = world.check()
    assert {name: item.description for name, item in evaluations.items() if not item.passed} == {}
    assert len(evaluations) == CHECKS
    assert all(any(map(str.isdigit, item.description or "")) for item in evaluations.values())
    records = evaluations["dense_index_is_as_declared"].metadata["evidence"].value.records  # pyright: ignore
    facts = {row.data["field"]: (row.data["declared"], row.data["actual"]) for row in records}
    assert facts["dimension"] == ("64", "64")
    assert facts["shards"] == ("2", "not reported by this server")


@pytest.mark.parametrize("name", selected(FAULTS, FAULTS.keys() - REPEATED))
def test_a_fault_is_reported_and_repaired(world: World, name: str) -> None:
    fault = FAULTS[name]
    fault.inject(world)
    assert_reported(world, fault.fails, fault.sentence, fault.remedy)
    assert_repaired(world)


def test_a_collection_of_another_dimension_needs_a_rebuild(world: World) -> None:
    """A repair does not drop a collection that may be serving."""
    declare_again(world)
    evaluations = world.check()
    index = evaluations[INDEX.format("dense")]
    assert "expected 64, found 32" in (index.description or "")
    assert (value(index, "remedy"), value(index, "command")) == ("rebuild", "rag rebuild milvus")
    assert {
        name: value(item, "remedy") for name, item in evaluations.items() if not item.passed
    } == {
        INDEX.format("dense"): "rebuild",
        ALIAS.format("dense"): "repair",
        MATCH.format("dense"): "repair",
    }
    drop_collection(world)
    assert_repaired(world)


def test_a_young_deletion_is_reported_and_passes(world: World) -> None:
    sql(enqueue(DOCS, "1 minute"))(world)
    evaluation = check(world, OUTBOX)
    assert evaluation.passed
    assert "1 deletions wait in the outbox, 0 of them" in (evaluation.description or "")
    assert_repaired(world)


def test_work_in_progress_is_no_fault_while_a_run_writes_the_source(world: World) -> None:
    sql(f"UPDATE documents SET indexing_status = 'indexing' WHERE id = {DOCUMENT}")(world)
    # A run of another source.
    with world.postgres.writer(partition_key("empty")):
        assert_reported(world, {STATUSES: MISMATCH}, "no run is writing")
    with world.postgres.writer(partition_key("docs")):
        evaluation = check(world, STATUSES)
        assert evaluation.passed
        assert "while a run is writing" in (evaluation.description or "")
    assert_repaired(world)


def test_an_id_with_two_rows_is_reported_and_repaired(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fault: a server that shows a row twice until it is written again (Milvus Lite, killed in a flush)."""
    double = set(ids(world, "dense")[:1])
    scan, copies, rewrite = MilvusStore.scan, MilvusStore.copies, MilvusStore.rewrite

    def scan_twice(self: MilvusStore, *arguments: Any, **options: Any):
        for bucket in scan(self, *arguments, **options):
            yield [copy for row in bucket for copy in [row] * (2 if row[0] in double else 1)]

    def count_twice(self: MilvusStore, *arguments: Any) -> dict[str, int]:
        counts = copies(self, *arguments)
        return {row_id: count + (row_id in double) for row_id, count in counts.items()}

    def write_once(self: MilvusStore, name: str, rows: Any) -> None:
        rewrite(self, name, rows)
        double.difference_update(rows)

    monkeypatch.setattr(MilvusStore, "scan", scan_twice)
    monkeypatch.setattr(MilvusStore, "copies", count_twice)
    monkeypatch.setattr(MilvusStore, "rewrite", write_once)
    assert_reported(world, of(None, "dense", MATCH), "1 duplicate")
    assert_repaired(world)


@pytest.mark.parametrize("kind", ["dense", "sparse"])
def test_rows_that_no_search_finds_are_reported(
    world: World, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fault: an index that lost rows until they are written again. HNSW may leave out some by its nature."""
    row_ids = ids(world, kind)
    hidden = set(row_ids[: 1 if kind == "sparse" else len(row_ids) // 4])
    search_all, upsert_part = MilvusStore.search_all, MilvusStore._upsert

    def search_less(self: MilvusStore, *arguments: Any, **options: Any):
        hits_of_queries = search_all(self, *arguments, **options)
        return [[hit for hit in hits if hit[0] not in hidden] for hits in hits_of_queries]

    def write(
        self: MilvusStore, name: str, kind: Kind, rows: list[dict[str, Any]], fence: Any
    ) -> None:
        upsert_part(self, name, kind, rows, fence)
        hidden.difference_update(row["id"] for row in rows)

    monkeypatch.setattr(MilvusStore, "search_all", search_less)
    monkeypatch.setattr(MilvusStore, "_upsert", write)
    search = of(INDEX_ISSUE, kind, SEARCH)
    if kind == "sparse":
        assert_reported(world, search, f"{len(row_ids) - 1} of {len(row_ids)} rows")
        assert_repaired(world)
        return
    assert_reported(world, search, "may be out of the reach of an HNSW index", remedy="person")
    evaluation = check(world, SEARCH.format(kind))
    assert evaluation.severity.value == "WARN"
    assert value(evaluation, "outcome") == "undetermined"
    assert '"index_type": "IVF_FLAT"' in value(evaluation, "command")
    # One unreached row among so many does not fail.
    hidden.difference_update(row_ids[1:])
    evaluation = check(world, SEARCH.format(kind))
    assert f"{len(row_ids) - 1} of {len(row_ids)}" in (evaluation.description or "")
    assert evaluation.passed


def test_after_the_last_repair_every_check_passes(world: World) -> None:
    assert world.failed_checks() == {}
