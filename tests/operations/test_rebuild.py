"""Rebuilds: of Milvus from Parquet, behind the alias, while searches go on; and of Parquet from the texts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from rag_assets.consistency.check_target import CheckTarget
from rag_assets.consistency.collection_findings import index_is_as_declared
from rag_assets.consistency.vector_findings import vectors_match_postgres
from rag_assets.ingestion import index
from rag_assets.ingestion.publishing import REBUILD
from rag_assets.job_runs import failures
from rag_assets.operations import rebuild as operation
from rag_assets.pipeline.model_probe import PROBE_TEXTS
from rag_assets.pipeline.vectors import Kind
from rag_assets.search.request import AccessScope, Filters, SearchRequest
from resources.errors import ConfigError
from resources.milvus import collections as milvus
from resources.milvus import upsert_request
from resources.milvus.rows import RowFields
from resources.milvus.store import MilvusStore
from tests.support.embedders import CountingEmbedder
from tests.support.operations import rebuild, repair
from tests.support.oracle import disagreements
from tests.support.searching import searching
from tests.support.stored import (
    age_acknowledgements,
    assert_consistent,
    assert_stores_match,
    collection_states,
    serving_collections,
)
from tests.support.texts import ENGLISH, long_text
from tests.support.world import World


@pytest.fixture
def counted(world: World) -> World:
    """Two sources, indexed by an embedder that counts its texts."""
    counted = world.configured(embedder="tests.support.embedders:CountingEmbedder")
    counted.write({f"{n}.md": long_text(f"town {n}", 6) for n in range(4)})
    counted.write({"b.md": ENGLISH}, "more")
    counted.add()
    counted.add("more")
    counted.fill()
    counted.fill("more")
    return counted


@contextmanager
def earlier_version() -> Iterator[None]:
    """Write collections as versions did whose rows had no metadata of documents to filter searches by."""
    missing = {"author", "category", "tags", "chunk_type"}
    scalars, as_row = milvus.scalars, RowFields.as_row

    def without_missing(fields: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in fields.items() if name not in missing}

    with pytest.MonkeyPatch.context() as patch:
        for module in (milvus, upsert_request):
            patch.setattr(module, "scalars", lambda kind: without_missing(scalars(kind)))
        patch.setattr(
            RowFields, "as_row", lambda self, row_id: without_missing(as_row(self, row_id))
        )
        yield


def test_a_collection_of_an_earlier_version_is_reported_and_only_a_rebuild_repairs_it(
    world: World,
) -> None:
    world = world.configured(vectors=("dense",))
    world.write({"a.md": "---\ntags: [news]\n---\n" + ENGLISH, "b.md": long_text("town", 3)})
    source = world.add()
    with earlier_version():
        world.fill()
    age_acknowledgements(world)
    old = world.store.alias_target("dense") or ""
    row = world.store.client.query(old, "id != ''", output_fields=["*"], limit=1)[0]
    world.store.client.upsert(old, [{**row, "row_fingerprint": "0" * 32}])

    difference = "field tags: expected ARRAY, found none"
    target = CheckTarget("dense", source, world.connection, world.stores)
    for judge, words in ((index_is_as_declared, difference), (vectors_match_postgres, "1 stale")):
        finding = judge(target)
        assert words in finding.sentence
        assert (finding.remedy, finding.command) == ("rebuild", "rag rebuild milvus")
    for work in (world.fill, lambda: repair(world)):
        with pytest.raises(ConfigError) as caught:
            work()
        assert difference in str(caught.value) and "rag rebuild milvus" in str(caught.value)
    searcher = world.searcher()
    owner = AccessScope.owner()
    assert searcher.search(SearchRequest("observatory", k=1), owner)[0].key == "a.md"
    tagged = SearchRequest("observatory", filters=Filters(tags=("news",), language=("en",)))
    with pytest.raises(ConfigError, match=r"filtered by tags.*rag rebuild milvus"):
        searcher.search(tagged, owner)

    rebuild(world)
    tagged = SearchRequest("observatory", filters=Filters(tags=("news",)))
    assert [hit.key for hit in searcher.search(tagged, owner)] == ["a.md"]
    settings = world.settings
    assert disagreements(settings.postgres_url, settings.milvus_uri, ("dense",)) == []


def test_a_rebuild_takes_over_without_a_model_call_while_searches_go_on(
    counted: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = serving_collections(counted)
    with searching(counted) as problems:
        # The searches embed their queries and the known texts; `calls` counts the texts of documents only.
        calls: list[int] = []
        embed = CountingEmbedder.embed
        monkeypatch.setattr(
            CountingEmbedder,
            "embed",
            lambda self, texts, kinds: (
                calls.extend(len(text) for text in texts if text not in PROBE_TEXTS)
                or embed(self, texts, kinds)
            ),
        )
        monkeypatch.setattr(CountingEmbedder, "embed_queries", embed)
        # Two names alternate: after an odd number of rebuilds each collection has another one.
        for _ in range(3):
            report = rebuild(counted)
    assert problems == []
    assert calls == []
    after = serving_collections(counted)
    assert all(after[kind] != before[kind] for kind in before)
    assert set(counted.store.client.list_collections()) == set(after.values())
    assert set(collection_states(counted)) == set(after.values())
    chunks = counted.one("SELECT count(*) FROM document_chunks")
    assert {collection["rows"] for collection in report["collections"].values()} == {chunks}
    for source in ("docs", "more"):
        assert counted.failed_checks(source) == {}
    assert_stores_match(counted)
    # Later syncs write the new collections.
    counted.write({"0.md": long_text("town 0", 7)})
    assert counted.fill()["dense_vectors"]["inserted"] > 0
    assert_stores_match(counted)
    again = counted.fill()
    assert not any(plan["inserted"] or plan["replaced"] for plan in again.values())


def test_a_dry_run_changes_nothing_and_a_rebuild_recreates_lost_collections(counted: World) -> None:
    before = serving_collections(counted), collection_states(counted)
    report = rebuild(counted, dry_run=True)
    chunks = counted.one("SELECT count(*) FROM document_chunks")
    assert {collection["chunks"] for collection in report["collections"].values()} == {chunks}
    assert rebuild(counted, dry_run=True, source="more")["dry_run"]
    assert (serving_collections(counted), collection_states(counted)) == before

    store = counted.store
    for kind, name in serving_collections(counted).items():
        store.client.drop_alias(f"{kind}_collection")
        store.drop_collection(name or "")
    texts = CountingEmbedder.texts
    rebuild(counted)
    assert texts == CountingEmbedder.texts
    assert_consistent(counted)

    counted.connection.execute("DELETE FROM sources")
    result = counted.run("rebuild_milvus", None, raise_on_error=False)
    assert ["There is no source" in message for _, message in failures(result)] == [True]


def test_rows_that_a_sync_writes_during_a_rebuild_are_in_the_new_collection(
    counted: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish = operation.Rebuilder._finish

    def sync_first(self: operation.Rebuilder, *arguments: Any) -> None:
        """Between the first pass and the last: edits, a deletion in SQL that waits in the outbox, a new source."""
        counted.write({"0.md": long_text("town 0", 8), "new.md": ENGLISH.replace("nine", "ten")})
        counted.fill()
        counted.write(
            {"c.md": "# Late\n\nThis source is new while the collections are rebuilt.\n"}, "late"
        )
        counted.add("late")
        counted.fill("late")
        counted.connection.execute("DELETE FROM documents WHERE source_key = '3.md'")
        finish(self, *arguments)

    monkeypatch.setattr(operation.Rebuilder, "_finish", sync_first)
    rebuild(counted)
    # Drains the outbox.
    counted.fill()
    assert_consistent(counted)
    assert counted.failed_checks("late") == {}


def test_a_collection_that_lacks_rows_does_not_serve(
    counted: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = serving_collections(counted)
    upsert = MilvusStore._upsert

    def losing(
        self: MilvusStore, name: str, kind: Kind, rows: list[dict[str, Any]], fence: Any
    ) -> None:
        """The fault: the server acknowledges a row of a new collection and loses it."""
        upsert(self, name, kind, rows, fence)
        if name not in before.values():
            self.client.delete(name, ids=[rows[-1]["id"]])

    monkeypatch.setattr(MilvusStore, "_upsert", losing)
    monkeypatch.setattr(MilvusStore, "_read_back", lambda *arguments: None)
    with searching(counted) as problems:
        refused = rebuild(counted, success=False)
    assert problems == []
    assert "missing" in refused["message"] and "keep serving" in refused["message"]
    assert serving_collections(counted) == before
    assert set(counted.store.client.list_collections()) == set(before.values())
    assert set(collection_states(counted).values()) == {"serving"}
    assert_consistent(counted)


def test_a_rebuild_of_milvus_without_its_embeddings_first_needs_one_of_parquet(
    counted: World, tmp_path: Path
) -> None:
    before = serving_collections(counted)
    files = sorted((tmp_path / "storage" / "embeddings").rglob("*.parquet"))
    assert len(files) == 2
    damaged = bytearray(files[0].read_bytes())
    # Still Parquet, with another vector.
    damaged[len(damaged) // 2] ^= 1
    files[0].write_bytes(damaged)
    files[1].unlink()
    refused = rebuild(counted, success=False)
    assert "2 files are gone or damaged" in refused["message"]
    assert "rag rebuild parquet" in refused["message"]
    assert serving_collections(counted) == before and set(collection_states(counted).values()) == {
        "serving"
    }

    texts = CountingEmbedder.texts
    embedded = 0
    for source in ("docs", "more"):
        result = counted.run("rebuild_parquet", source)
        (report,) = result.output_for_node("embed_what_is_lost")
        assert [file["reason"] for file in report["files"]] in (["gone"], ["its checksum differs"])
        assert report["embedded"] == report["texts"] > 0
        embedded += report["embedded"]
        (second,) = counted.run("rebuild_parquet", source).output_for_node("embed_what_is_lost")
        assert second["texts"] == 0 and second["files"] == []
    assert CountingEmbedder.texts - texts == embedded
    assert embedded == counted.one("SELECT count(DISTINCT text_hash) FROM document_chunks")
    # The rows in Milvus were right: the sync writes none.
    plans = counted.fill()
    assert not any(plan["inserted"] or plan["replaced"] for plan in plans.values())
    rebuild(counted)
    assert_consistent(counted)


def test_one_source_is_written_again_in_place(counted: World) -> None:
    before, store = serving_collections(counted), counted.store
    name = before["dense"] or ""
    mine = store.client.query(name, filter='source == "docs"', output_fields=["*"], limit=1000)
    other = store.client.query(name, filter='source == "more"', output_fields=["*"], limit=1000)
    # Wrong vectors under right fingerprints, which no comparison finds; a lost row; a stray row.
    store.client.upsert(
        name, [{**row, "vector": [1.0] + [0.0] * 63} for row in (mine[0], other[0])]
    )
    store.client.delete(name, ids=[mine[1]["id"]])
    store.client.upsert(name, [{**mine[2], "id": "stray"}])
    report = rebuild(counted, source="docs")
    assert report["refused"] == ""
    assert report["collections"]["dense_collection"]["rows"] == len(mine)
    assert serving_collections(counted) == before
    assert_consistent(counted)
    after = {row["id"]: row for row in store.client.get(name, [mine[0]["id"], other[0]["id"]])}
    assert after[mine[0]["id"]]["vector"] == pytest.approx(mine[0]["vector"], abs=1e-6)
    # Rows of other sources are not touched.
    assert after[other[0]["id"]]["vector"][0] == 1.0


def leave_half_built(world: World, monkeypatch: pytest.MonkeyPatch, batches: int) -> None:
    """Run a rebuild that ends like a killed process after some batches."""

    class Killed(BaseException):
        pass

    passed = 0

    def pass_point(point: str) -> None:
        nonlocal passed
        passed += 1
        if passed > batches:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(operation, "fault_point", pass_point)
        patch.setattr(index, "BATCH_CHUNKS", {"dense": 10, "sparse": 10})
        with pytest.raises(Killed):
            rebuild(world)
    assert "rebuilding" in collection_states(world).values()


def test_a_half_built_collection_is_dropped_by_a_sync_or_finished_by_the_next_rebuild(
    counted: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = serving_collections(counted)
    leave_half_built(counted, monkeypatch, 1)
    # A sync leaves it to a rebuild that runs.
    with counted.postgres.writer(REBUILD):
        counted.fill()
        assert "rebuilding" in collection_states(counted).values()
    counted.fill()
    assert set(collection_states(counted).values()) == {"serving"}
    assert set(counted.store.client.list_collections()) == set(before.values())
    assert_stores_match(counted)

    leave_half_built(counted, monkeypatch, 1)
    kept = counted.one(
        """SELECT count(*) FROM vector_rows r JOIN vector_collections v ON v.name = r.collection
           WHERE v.state = 'rebuilding'"""
    )
    assert kept > 0
    chunks = counted.one("SELECT count(*) FROM document_chunks")
    report = rebuild(counted)
    assert report["collections"]["dense_collection"]["rows"] == chunks - kept
    assert_consistent(counted)
