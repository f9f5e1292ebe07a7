"""Each fault is named by exactly the checks that it breaks, and `rag repair` leaves nothing of it.

One deployment for the module: what a test breaks, its repair mends, and the next one begins on whole stores.
What is broken: `faults`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rag_assets.partitions import partition_key
from resources.milvus.store import MilvusStore
from tests.conftest import World, empty_world
from tests.ingestion.test_sync import long_text
from tests.operations.test_repair import repair
from tests.support.check_faults import (
    ALIAS,
    DOCS,
    DOCUMENT,
    FAULTS,
    INDEX,
    KINDS,
    MATCH,
    OUTBOX,
    SEARCH,
    STATUSES,
    declare_again,
    drop_collection,
    enqueue,
    ids,
    of,
    sql,
)

CHECKS = 5 + 5 * len(KINDS)


@pytest.fixture(scope="module")
def whole(
    home: Path, postgres_url: str, milvus_uri: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("checks")
    with empty_world(home, postgres_url, milvus_uri, folder) as bare:
        world = bare.configured(vectors=KINDS, embedder="tests.support.embedders:CountingEmbedder")
        world.write({f"{n}.md": long_text(f"town {n}", 12) for n in range(5)})
        world.add("empty")
        world.add()
        world.sync()
        yield world


@pytest.fixture
def world(whole: World, request: pytest.FixtureRequest) -> Iterator[World]:
    """Acknowledgements younger than a second are not held against a scan."""
    if whole.one("SELECT count(*) FROM documents") < 5:  # a repair reads no source
        whole.sync()
    settle(whole)
    failed = request.session.testsfailed
    yield whole
    if request.session.testsfailed > failed:
        repair(whole)  # so that one failure stays one


def settle(world: World) -> None:
    world.connection.execute("UPDATE vector_rows SET acknowledged_at = now() - interval '1 minute'")


def assert_named(world: World, fails: set[str], says: str = "") -> None:
    found = world.check()
    assert len(found) == CHECKS  # each could be run
    failed = {name: each.description or "" for name, each in found.items() if not each.passed}
    assert failed.keys() == fails, failed
    assert not says or any(says in sentence for sentence in failed.values()), failed
    assert all("mend_with" in each.metadata for each in found.values() if not each.passed)


def assert_mended(world: World) -> None:
    report = repair(world)
    assert report["clean"], report
    settle(world)
    assert world.failed_checks() == {}


def test_whole_stores_pass_and_each_check_says_how_much_it_looked_at(world: World) -> None:
    found = world.check()
    assert {name: each.description for name, each in found.items() if not each.passed} == {}
    assert len(found) == CHECKS
    assert all(any(map(str.isdigit, each.description or "")) for each in found.values())
    facts = found["dense_index_is_as_declared"].metadata["evidence"].value.records  # pyright: ignore
    said = {fact.data["field"]: (fact.data["declared"], fact.data["actual"]) for fact in facts}
    assert said["dimension"] == ("64", "64")
    assert said["shards"] == ("2", "not reported by this server")


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_named_and_mended(world: World, name: str) -> None:
    fault = FAULTS[name]
    fault.inject(world)
    assert_named(world, fault.fails, fault.says)
    assert_mended(world)


def test_a_collection_of_another_dimension_takes_a_new_one(world: World) -> None:
    """A repair does not drop what may be serving."""
    declare_again(world)
    assert_named(world, of("dense", INDEX, ALIAS, MATCH), "expected 64, found 32")
    found = world.check()[INDEX.format("dense")]
    assert found.metadata["mend_with"].value == "rag rebuild milvus"
    drop_collection(world)
    assert_mended(world)


def test_a_second_repair_finds_nothing(world: World) -> None:
    report = repair(world)
    assert report["clean"]
    assert not any(report["also_found"].values())
    assert all(not plan["inserted"] and not plan["replaced"] for plan in report["plan"].values())


def test_a_young_deletion_is_said_and_passes(world: World) -> None:
    sql(enqueue(DOCS, "1 minute"))(world)
    found = world.check()[OUTBOX]
    assert found.passed
    assert "1 deletions wait in the outbox, 0 of them" in (found.description or "")
    assert_mended(world)


def test_work_in_progress_is_no_fault_while_a_run_holds_the_source(world: World) -> None:
    sql(f"UPDATE documents SET indexing_status = 'indexing' WHERE id = {DOCUMENT}")(world)
    with world.postgres.writer(partition_key("empty")):  # another source's run
        assert_named(world, {STATUSES}, "no run is writing")
    with world.postgres.writer(partition_key("docs")):
        found = world.check()[STATUSES]
        assert found.passed
        assert "while a run is writing" in (found.description or "")
    assert_mended(world)


def test_an_id_that_is_there_twice(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fault: a server that shows a row twice until it is written again (Milvus Lite, killed in a flush)."""
    double = set(ids(world, "dense")[:1])
    scan, copies, rewrite = MilvusStore.scan, MilvusStore.copies, MilvusStore.rewrite

    def scan_twice(self: MilvusStore, *arguments: Any, **options: Any):
        for bucket in scan(self, *arguments, **options):
            yield [each for row in bucket for each in [row] * (2 if row[0] in double else 1)]

    def count_twice(self: MilvusStore, *arguments: Any) -> dict[str, int]:
        return {each: n + (each in double) for each, n in copies(self, *arguments).items()}

    def write_once(self: MilvusStore, name: str, rows: Any) -> None:
        rewrite(self, name, rows)
        double.difference_update(rows)

    monkeypatch.setattr(MilvusStore, "scan", scan_twice)
    monkeypatch.setattr(MilvusStore, "copies", count_twice)
    monkeypatch.setattr(MilvusStore, "rewrite", write_once)
    assert_named(world, of("dense", MATCH), "1 duplicate")
    assert_mended(world)


@pytest.mark.parametrize("kind", ["dense", "sparse"])
def test_rows_that_no_search_finds(
    world: World, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fault: an index that lost rows until they are written again. HNSW may leave out some by its nature."""
    there = ids(world, kind)
    hidden = set(there[: 1 if kind == "sparse" else len(there) // 4])
    search_all, upsert_part = MilvusStore.search_all, MilvusStore._upsert

    def search_less(self: MilvusStore, *arguments: Any, **options: Any):
        hits = search_all(self, *arguments, **options)
        return [[hit for hit in each if hit[0] not in hidden] for each in hits]

    def write(self: MilvusStore, name: str, rows: list[dict[str, Any]], fence: Any) -> None:
        upsert_part(self, name, rows, fence)
        hidden.difference_update(row["id"] for row in rows)

    monkeypatch.setattr(MilvusStore, "search_all", search_less)
    monkeypatch.setattr(MilvusStore, "_upsert", write)
    if kind == "sparse":
        assert_named(world, of(kind, SEARCH), f"{len(there) - 1} of {len(there)} rows")
        assert_mended(world)
        return
    assert_named(world, of(kind, SEARCH), "may be out of the reach of an HNSW index")
    found = world.check()[SEARCH.format(kind)]
    assert found.severity.value == "WARN"
    assert '"index_type": "IVF_FLAT"' in str(found.metadata["mend_with"].value)
    hidden.difference_update(there[1:])  # one of so many is no reason to fail
    assert f"{len(there) - 1} of {len(there)}" in (
        world.check()[SEARCH.format(kind)].description or ""
    )
    assert world.failed_checks() == {}
