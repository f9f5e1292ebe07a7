"""Rebuilds: Milvus from Parquet behind the alias while searches go on, Parquet from the texts."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from rag_assets.consistency.check_target import CheckTarget
from rag_assets.consistency.collection_findings import index_is_as_declared
from rag_assets.consistency.vector_findings import vectors_match_postgres
from rag_assets.deployment import failures
from rag_assets.ingestion.publishing import REBUILD
from rag_assets.search.request import AccessScope, Filters, SearchRequest
from resources.errors import ConfigError
from resources.milvus import collections as milvus
from resources.milvus.rows import RowFields
from resources.milvus.store import MilvusStore
from tests.ingestion.test_sync import ENGLISH, assert_equal, long_text
from tests.support.embedders import CountingEmbedder
from tests.support.oracle import disagreements
from tests.support.world import World


def rebuild(world: World, *, success: bool = True, **config: Any) -> dict[str, Any]:
    """The report of a rebuild, or (without `success`) what the failure says and the report with it."""
    ops = {"rebuild_collections": config}
    result = world.run("rebuild_milvus", None, ops, raise_on_error=success)
    if success:
        return result.output_for_node("rebuild_collections")
    (failed,) = [event.step_failure_data for event in result.all_events if event.is_step_failure]
    assert failed.user_failure_data is not None
    found = failed.user_failure_data.metadata.get("rebuild")
    return {"message": failed.user_failure_data.description, "report": found and found.value}


def physical(world: World) -> dict[str, str | None]:
    return {kind: world.store.alias_target(kind) for kind in ("dense", "sparse")}


def states(world: World) -> dict[str, str]:
    return dict(world.connection.execute("SELECT name, state FROM vector_collections").fetchall())


@pytest.fixture
def counted(world: World) -> World:
    """Two sources, indexed by an embedder that counts its texts."""
    counted = world.configured(embedder="tests.support.embedders:CountingEmbedder")
    counted.write({f"{n}.md": long_text(f"town {n}", 6) for n in range(4)})
    counted.write({"b.md": ENGLISH}, "more")
    counted.add()
    counted.add("more")
    counted.sync()
    counted.sync("more")
    return counted


@contextmanager
def earlier_version() -> Iterator[None]:
    """What rows said before searches could be filtered by what documents say of themselves."""
    later, now, as_row = (
        {"author", "category", "tags", "chunk_type"},
        milvus.scalars,
        RowFields.as_row,
    )

    def scalars(kind: Any) -> dict[str, Any]:
        return {name: each for name, each in now(kind).items() if name not in later}

    def row(self: RowFields, row_id: str) -> dict[str, Any]:
        return {name: each for name, each in as_row(self, row_id).items() if name not in later}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(milvus, "scalars", scalars)
        patch.setattr(RowFields, "as_row", row)
        yield


def test_a_collection_of_an_earlier_version_is_told_and_only_a_rebuild_mends_it(
    world: World,
) -> None:
    world = world.configured(vectors=("dense",))
    world.write({"a.md": "---\ntags: [news]\n---\n" + ENGLISH, "b.md": long_text("town", 3)})
    source = world.add()
    with earlier_version():
        world.sync()
    # Acknowledgements younger than a second are not held against a scan.
    world.connection.execute("UPDATE vector_rows SET acknowledged_at = now() - interval '1 minute'")
    old = world.store.alias_target("dense") or ""
    row = world.store.client.query(old, "id != ''", output_fields=["*"], limit=1)[0]
    world.store.client.upsert(old, [{**row, "row_fingerprint": "0" * 32}])

    lacks = "field tags: expected ARRAY, found none"
    target = CheckTarget("dense", source, world.connection, world.stores)
    for judge, words in ((index_is_as_declared, lacks), (vectors_match_postgres, "1 stale")):
        finding = judge(target)
        assert words in finding.sentence
        assert (finding.remedy, finding.command) == ("rebuild", "rag rebuild milvus")
    for job in ("sync_source", "repair_drift"):
        result = world.run(job, raise_on_error=False)
        (failed,) = [event.step_failure_data for event in result.all_events if event.is_step_failure]  # fmt: skip
        assert failed.user_failure_data is not None
        said = failed.user_failure_data.description or ""
        assert lacks in said and "rag rebuild milvus" in said
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


@contextmanager
def searching(world: World) -> Iterator[list[object]]:
    """Searches all the while; the list has what went wrong, and an int: how many were answered."""
    wrong: list[object] = []
    done, answered = threading.Event(), 0
    searcher = world.searcher()

    def search() -> None:
        nonlocal answered
        while not done.is_set():
            try:
                request = SearchRequest("the building of town 1", k=5)
                hits = searcher.search(request, AccessScope.owner())
                if len(hits) != 5:
                    wrong.append(f"{len(hits)} hits")
            except Exception as error:
                wrong.append(error)
            answered += 1

    thread = threading.Thread(target=search)
    thread.start()
    try:
        yield wrong
    finally:
        done.set()
        thread.join()
        searcher.milvus.close()
    assert answered > 5


def test_a_rebuild_takes_over_without_a_model_call_while_searches_go_on(
    counted: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = physical(counted)
    with searching(counted) as wrong:
        # The searches embed their questions; a call for documents would be one too many.
        calls: list[int] = []
        embed = CountingEmbedder.embed
        monkeypatch.setattr(
            CountingEmbedder,
            "embed",
            lambda self, texts, kinds: calls.append(len(texts)) or embed(self, texts, kinds),
        )
        monkeypatch.setattr(CountingEmbedder, "embed_queries", embed)
        for _ in range(3):
            report = rebuild(counted)
    assert wrong == []
    assert calls == []
    after = physical(counted)
    assert all(after[kind] != before[kind] for kind in before)
    assert set(counted.store.client.list_collections()) == set(after.values())
    assert set(states(counted)) == set(after.values())
    chunks = counted.one("SELECT count(*) FROM document_chunks")
    assert {found["rows"] for found in report["collections"].values()} == {chunks}
    for source in ("docs", "more"):
        assert counted.failed_checks(source) == {}
    assert_equal(counted)
    # Whatever comes afterwards writes the new ones.
    counted.write({"0.md": long_text("town 0", 7)})
    assert counted.sync()["dense_vectors"]["inserted"] > 0
    assert_equal(counted)
    again = counted.sync()
    assert not any(plan["inserted"] or plan["replaced"] for plan in again.values())


def test_lost_collections_are_recreated(counted: World) -> None:
    store = counted.store
    for kind, name in physical(counted).items():
        store.client.drop_alias(f"{kind}_collection")
        store.drop_collection(name or "")
    texts = CountingEmbedder.texts
    rebuild(counted)
    assert texts == CountingEmbedder.texts
    assert_equal(counted)


def test_what_a_sync_writes_during_a_rebuild_is_in_the_new_collection(
    counted: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rag_assets.operations.rebuild import Rebuilder

    finish = Rebuilder._finish

    def sync_first(self: Rebuilder, *arguments: Any) -> None:
        """Between the first pass and the last: edits, a deletion in SQL that waits in the outbox, a new source."""
        counted.write({"0.md": long_text("town 0", 8), "new.md": ENGLISH.replace("nine", "ten")})
        counted.sync()
        counted.write(
            {"c.md": "# Late\n\nThis source came while the collections were rebuilt.\n"}, "late"
        )
        counted.add("late")
        counted.sync("late")
        counted.connection.execute("DELETE FROM documents WHERE source_key = '3.md'")
        finish(self, *arguments)

    monkeypatch.setattr(Rebuilder, "_finish", sync_first)
    rebuild(counted)
    counted.sync()  # drains the outbox
    assert_equal(counted)
    assert counted.failed_checks("late") == {}


def test_a_collection_that_does_not_pass_the_check_does_not_serve(
    counted: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = physical(counted)
    upsert = MilvusStore._upsert

    def losing(self: MilvusStore, name: str, rows: list[dict[str, Any]], fence: Any) -> None:
        """The fault: a server that acknowledges a row of a new collection and loses it."""
        upsert(self, name, rows, fence)
        if name not in before.values():
            self.client.delete(name, ids=[rows[-1]["id"]])

    monkeypatch.setattr(MilvusStore, "_upsert", losing)
    monkeypatch.setattr(MilvusStore, "_read_back", lambda *arguments: None)
    with searching(counted) as wrong:
        refused = rebuild(counted, success=False)
    assert wrong == []
    assert "missing" in refused["message"] and "goes on serving" in refused["message"]
    assert physical(counted) == before
    assert set(counted.store.client.list_collections()) == set(before.values())
    assert set(states(counted).values()) == {"serving"}
    assert_equal(counted)


def test_without_its_embeddings_nothing_is_rebuilt_until_parquet_is(
    counted: World, tmp_path: Path
) -> None:
    before = physical(counted)
    files = sorted((tmp_path / "storage" / "embeddings").rglob("*.parquet"))
    assert len(files) == 2
    damaged = bytearray(files[0].read_bytes())
    damaged[len(damaged) // 2] ^= 1  # still Parquet, other vectors
    files[0].write_bytes(damaged)
    files[1].unlink()
    refused = rebuild(counted, success=False)
    assert "2 files are gone or damaged" in refused["message"]
    assert "rag rebuild parquet" in refused["message"]
    assert physical(counted) == before and set(states(counted).values()) == {"serving"}

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
    # Milvus was right all along, and the statuses say so.
    plan = counted.sync()
    assert not any(found["inserted"] or found["replaced"] for found in plan.values())
    rebuild(counted)
    assert_equal(counted)


def test_without_a_source_there_is_nothing_to_rebuild(counted: World) -> None:
    counted.connection.execute("DELETE FROM sources")
    result = counted.run("rebuild_milvus", None, raise_on_error=False)
    assert ["There is no source" in message for _, message in failures(result)] == [True]


def test_one_source_is_written_again_in_place(counted: World) -> None:
    before, store = physical(counted), counted.store
    name = before["dense"] or ""
    mine = store.client.query(name, filter='source == "docs"', output_fields=["*"], limit=1000)
    other = store.client.query(name, filter='source == "more"', output_fields=["*"], limit=1000)
    # Rows as a check cannot tell from right ones; a row that is gone; a stray.
    store.client.upsert(
        name, [{**row, "vector": [1.0] + [0.0] * 63} for row in (mine[0], other[0])]
    )
    store.client.delete(name, ids=[mine[1]["id"]])
    store.client.upsert(name, [{**mine[2], "id": "stray"}])
    report = rebuild(counted, source="docs")
    assert report["refused"] == ""
    assert report["collections"]["dense_collection"]["rows"] == len(mine)
    assert physical(counted) == before
    assert_equal(counted)
    after = {row["id"]: row for row in store.client.get(name, [mine[0]["id"], other[0]["id"]])}
    assert after[mine[0]["id"]]["vector"] == pytest.approx(mine[0]["vector"], abs=1e-6)
    assert after[other[0]["id"]]["vector"][0] == 1.0  # another source's rows are not its business


def test_a_dry_run_changes_nothing(counted: World) -> None:
    before, known = physical(counted), states(counted)
    report = rebuild(counted, dry_run=True)
    chunks = counted.one("SELECT count(*) FROM document_chunks")
    assert {found["chunks"] for found in report["collections"].values()} == {chunks}
    assert rebuild(counted, dry_run=True, source="more")["dry_run"]
    assert (physical(counted), states(counted)) == (before, known)


def half_built(world: World, monkeypatch: pytest.MonkeyPatch, batches: int) -> None:
    """A rebuild that ends with its process after some batches."""
    from rag_assets.assets import vectors
    from rag_assets.operations import rebuild as module

    class Killed(BaseException):
        pass

    passed = 0

    def passage(point: str) -> None:
        nonlocal passed
        passed += 1
        if passed > batches:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(module, "passage", passage)
        patch.setattr(vectors, "BATCH_CHUNKS", {"dense": 10, "sparse": 10})
        with pytest.raises(Killed):
            rebuild(world)
    assert "rebuilding" in states(world).values()


def test_a_half_built_collection_is_finished_by_the_next_rebuild(
    counted: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    half_built(counted, monkeypatch, 1)
    kept = counted.one(
        """SELECT count(*) FROM vector_rows r JOIN vector_collections v ON v.name = r.collection
           WHERE v.state = 'rebuilding'"""
    )
    assert kept > 0
    chunks = counted.one("SELECT count(*) FROM document_chunks")
    report = rebuild(counted)
    assert report["collections"]["dense_collection"]["rows"] == chunks - kept
    assert_equal(counted)


def test_a_half_built_collection_is_dropped_by_the_next_sync_unless_it_is_being_built(
    counted: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = physical(counted)
    half_built(counted, monkeypatch, 1)
    with counted.postgres.writer(REBUILD):
        counted.sync()
        assert "rebuilding" in states(counted).values()
    counted.sync()
    assert set(states(counted).values()) == {"serving"}
    assert set(counted.store.client.list_collections()) == set(before.values())
    assert_equal(counted)


def test_another_model_does_not_take_over_while_its_rows_are_wrong(world: World) -> None:
    """The same gate guards a collection that syncs filled."""
    world.write({"a.md": long_text("x", 6)}, "docs")
    world.write({"b.md": ENGLISH}, "more")
    world.add("docs")
    world.add("more")
    world.sync("docs")
    world.sync("more")
    before = world.store.alias_target("dense")
    other = world.configured(embedder="tests.support.embedders:CountingEmbedder")
    other.sync("docs")
    (new,) = [
        name
        for name, state in states(world).items()
        if state == "building" and name.startswith("dense")
    ]
    lost = other.store.client.query(new, filter='id >= ""', output_fields=["id"], limit=1)
    other.store.client.delete(new, ids=[lost[0]["id"]])
    other.sync("more")
    assert world.store.alias_target("dense") == before
    other.run("repair_drift")
    assert other.store.alias_target("dense") == new
    assert_equal(other)
