"""Publication of a new model's collections: syncs fill them, one gate passes them, all aliases move together."""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from rag_assets.evaluation import evaluator
from rag_assets.evaluation.known_items import build_set
from rag_assets.ingestion import publishing
from rag_assets.ingestion.publishing import PUBLISH, publish_collections
from resources.errors import ConfigError, StoreUnavailable
from resources.milvus.store import MilvusStore
from tests.faults.deployed import Deployed, deployed
from tests.support.extent import only_in_soak
from tests.support.operations import blocked_publication, repair
from tests.support.searching import searching
from tests.support.stored import (
    age_acknowledgements,
    assert_consistent,
    collection_states,
    serving_collections,
)
from tests.support.texts import ENGLISH, long_text, page
from tests.support.world import World

OLD = "tests.support.embedders:CountingEmbedder"
NEW = "tests.support.embedders:OtherEmbedder"
LOG = logging.getLogger("test")


@pytest.fixture
def old(world: World) -> World:
    """Two sources, `docs` and `more`, synced under the old model."""
    world = world.configured(embedder=OLD)
    world.write({f"{n}.md": long_text(f"town {n}", 6) for n in range(3)})
    world.write({"b.md": ENGLISH}, "more")
    for source in ("docs", "more"):
        world.add(source)
        world.fill(source)
    return world


@pytest.fixture
def new(old: World) -> World:
    """The same deployment with the new model configured."""
    return old.configured(embedder=NEW)


def sync_all(world: World) -> None:
    for source in ("docs", "more"):
        world.fill(source)


def building(world: World) -> dict[str, str]:
    """kind -> its collection that is written but does not serve."""
    return {
        name.split("_")[0]: name
        for name, state in collection_states(world).items()
        if state == "building"
    }


def assert_published(world: World, expected: dict[str, str]) -> None:
    """The expected collections serve in both stores, nothing else remains, and the stores match."""
    assert serving_collections(world) == expected
    assert collection_states(world) == dict.fromkeys(expected.values(), "serving")
    assert set(world.store.client.list_collections()) == set(expected.values())
    assert_consistent(world)


# In a sync ----------------------------------------------------------------------------------------------------------


def test_the_first_collection_of_a_kind_serves_in_the_sync(world: World) -> None:
    world.write({"a.md": ENGLISH})
    world.add()
    dense = world.configured(vectors=("dense",))
    dense.fill()
    assert dense.store.alias_target("dense") and not dense.store.alias_target("sparse")
    world.fill()
    assert set(collection_states(world).values()) == {"serving"}
    assert world.search("observatory", k=1)[0].key == "a.md"
    assert world.publish() == {"published": {}, "waiting": {}, "blocked": ""}


def test_a_new_model_is_built_while_the_old_one_serves_and_searches_go_on(
    old: World, new: World
) -> None:
    before = serving_collections(old)
    with searching(old) as problems:
        sync_all(new)
        result = new.run("sync_source")
    assert problems == []
    assert serving_collections(old) == before
    for kind, collection in building(new).items():
        (event,) = result.asset_materializations_for_node(f"{kind}_vectors")
        sentence = event.metadata["publication"].value
        assert sentence == (
            f"{before[kind]} serves until publish_collections replaces it with {collection}"
        )
    with pytest.raises(ConfigError):
        new.search("observatory")
    expected = building(new)
    assert new.publish()["published"] == {
        f"{kind}_collection": collection for kind, collection in expected.items()
    }
    assert_published(new, expected)
    assert new.search("observatory", k=1)


def test_a_sync_compares_no_rows_and_measures_no_retrieval(
    new: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_set(new.connection, "known", "docs", 5)

    def fail(*arguments: Any, **options: Any) -> Any:
        raise AssertionError("a sync compared or measured")

    with monkeypatch.context() as patch:
        patch.setattr(publishing, "compare_collection", fail)
        for name in ("Evaluator", "measuring_searcher"):
            patch.setattr(evaluator, name, fail)
        for method in ("scan", "search", "nearest"):
            patch.setattr(MilvusStore, method, fail)
        sync_all(new)
        assert set(building(new)) == {"dense", "sparse"}
        with pytest.raises(AssertionError, match="a sync compared or measured"):
            publish_collections(new.postgres, new.stores, LOG)
    new.publish()


@pytest.mark.parametrize("recover", ["publication", *only_in_soak("sync")])
def test_an_alias_that_moved_without_its_record_is_recorded(new: World, recover: str) -> None:
    sync_all(new)
    expected = building(new)
    for kind, collection in expected.items():
        new.store.point_alias(kind, collection)  # pyright: ignore[reportArgumentType]
    if recover == "sync":
        new.fill("more")
    else:
        assert new.publish()["published"] == {}
    assert_published(new, expected)


# The gate -----------------------------------------------------------------------------------------------------------


def test_aliases_move_together_and_only_when_every_source_is_synced(old: World, new: World) -> None:
    before = serving_collections(old)
    new.fill("docs")
    chunks = new.one(
        "SELECT count(*) FROM document_chunks c JOIN sources s ON s.id = c.source_uuid WHERE s.name = 'more'"
    )
    # A lost alias comes back, in a sync and in a publication, and not to the half-built collection.
    for restore in (lambda: new.fill("docs"), new.publish):
        for kind in before:
            old.store.client.drop_alias(f"{kind}_collection")
        restore()
        assert serving_collections(old) == before
    report = new.publish()
    assert (report["published"], report["blocked"]) == ({}, "")
    assert report["waiting"] == {
        f"{kind}_collection": f"{collection} does not contain {chunks} chunks that are searchable now"
        for kind, collection in building(new).items()
    }
    assert serving_collections(old) == before
    # One complete kind waits for the other.
    new.configured(vectors=("dense",)).fill("more")
    assert list(new.publish()["waiting"]) == ["sparse_collection"]
    assert serving_collections(old) == before
    new.fill("more")
    expected = building(new)
    assert set(new.publish()["published"]) == {"dense_collection", "sparse_collection"}
    assert_published(new, expected)


def test_only_one_publication_moves_the_aliases_and_only_once(new: World) -> None:
    sync_all(new)
    before, expected = serving_collections(new), building(new)
    waiting = new.configured(lock_timeout=0.1)
    with new.postgres.writer(PUBLISH), pytest.raises(StoreUnavailable, match=PUBLISH):
        publish_collections(waiting.postgres, waiting.stores, LOG)
    # A repair leaves the aliases to the publication.
    assert repair(new)["clean"]
    assert serving_collections(new) == before
    check = new.check()["dense_alias_points_to_current_model"]
    assert (check.metadata["remedy"].value, check.metadata["command"].value) == (
        "person",
        "rag ingest",
    )
    assert len(new.publish()["published"]) == 2
    # It is idempotent.
    for _ in range(2):
        assert new.publish() == {"published": {}, "waiting": {}, "blocked": ""}
    assert_published(new, expected)


@pytest.mark.parametrize("source", ["more", *only_in_soak("docs")])
def test_drift_of_any_source_blocks_all_collections(old: World, new: World, source: str) -> None:
    before = serving_collections(old)
    sync_all(new)
    expected = building(new)
    lost = new.store.client.query(
        expected["sparse"], filter=f'source == "{source}"', output_fields=["id"], limit=1
    )
    new.store.client.delete(expected["sparse"], ids=[lost[0]["id"]])
    # Even if the rows were acknowledged a moment ago.
    message = blocked_publication(new)
    assert message.startswith(f"{expected['sparse']}, {source}: ")
    assert "1 missing" in message and "The previous collections keep serving." in message
    assert serving_collections(old) == before
    assert building(new) == expected
    age_acknowledgements(new)
    repair(new, source)
    new.publish()
    assert_published(new, expected)


def test_an_index_that_finds_too_few_neighbours_blocks(
    old: World, new: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows have each other's vectors, which no comparison finds. (Lost known items: tests/evaluation.)"""
    monkeypatch.setattr(MilvusStore, "wait_for_flush", lambda self: None)
    old.write({f"page {n}.md": page(n) for n in range(12)})
    old.fill()
    build_set(old.connection, "known", "docs", 12)
    old.run("evaluate_retrieval")
    before = serving_collections(old)
    write = MilvusStore.upsert_dense

    def shuffled(self: MilvusStore, name: str, rows: Any, vectors: Any, *rest: Any) -> list[int]:
        return write(self, name, rows, vectors[::-1].copy(), *rest)

    with monkeypatch.context() as patch:
        patch.setattr(MilvusStore, "upsert_dense", shuffled)
        sync_all(new)
    expected = building(new)
    message = blocked_publication(new)
    assert f"{expected['dense']}, retrieval set known: " in message
    assert "its dense index finds" in message and "of the exact neighbours" in message
    assert serving_collections(old) == before
    for source in ("docs", "more"):
        repair(new, source)
    new.publish()
    assert_published(new, expected)


# Killed processes ---------------------------------------------------------------------------------------------------

#: The fault, and the work that recovers first.
KILLED = [
    ("collection-loaded:1", "publish"),
    ("alias-moved:1", "sync"),
    ("collection-dropping:1", "sync"),
    *only_in_soak(
        ("collection-loaded:1", "sync"),
        ("collection-loaded:2", "sync"),
        ("collection-loaded:2", "publish"),
        ("alias-moved:1", "publish"),
        ("alias-moved:2", "sync"),
        ("alias-moved:2", "publish"),
        ("collection-dropping:1", "publish"),
        ("collection-dropping:2", "sync"),
        ("collection-dropping:2", "publish"),
    ),
]
#: Both aliases have moved in Milvus.
COMPLETED_BY_A_SYNC = ("alias-moved:2", "collection-dropping:1", "collection-dropping:2")


@pytest.fixture(scope="module")
def deployment() -> Iterator[Deployed]:
    with deployed(embedder=OLD) as deployment:
        yield deployment


@pytest.fixture
def unpublished(deployment: Deployed) -> tuple[Deployed, set[str]]:
    """A deployment whose last sync used the other model, and the collections that wait for their publication."""
    other = NEW if deployment.settings.embedder == OLD else OLD
    deployment.settings = deployment.settings.model_copy(update={"embedder": other})
    served = recorded_collections(deployment, "serving")
    assert deployment.run("sync").outcome == "done"
    waiting = recorded_collections(deployment, "building")
    assert len(waiting) == len(served) == 2
    assert recorded_collections(deployment, "serving") == served
    return deployment, waiting


def recorded_collections(deployment: Deployed, state: str) -> set[str]:
    with psycopg.connect(deployment.up()[0]) as connection:
        rows = connection.execute("SELECT name FROM vector_collections WHERE state = %s", [state])
        return {name for (name,) in rows}


@pytest.mark.parametrize(("fault", "recover"), KILLED)
def test_a_killed_publication_is_finished_by_the_next_sync_or_publication(
    unpublished: tuple[Deployed, set[str]], fault: str, recover: str
) -> None:
    deployment, waiting = unpublished
    end = deployment.run("publish", fault)
    assert end.exit_code == -signal.SIGKILL, end
    deployment.assert_no_lies()
    if recover == "sync":
        # Recovers without a publication, and then has nothing to do.
        deployment.assert_recovers()
        deployment.assert_no_lies()
    end = deployment.run("publish")
    assert end.outcome == "done", end.result
    assert end.result["waiting"] == {} and end.result["blocked"] == ""
    assert set(end.result["published"].values()) <= waiting
    assert recorded_collections(deployment, "serving") == waiting
    deployment.assert_recovers()
    if recover == "sync" and fault in COMPLETED_BY_A_SYNC:
        assert end.result["published"] == {}
