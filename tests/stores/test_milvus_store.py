"""MilvusStore and collections on a real Milvus Lite: writes, reads, foreign rows, servers that do not answer."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymilvus import DataType

from rag_assets.pipeline.vectors import Multi, Sparse
from rag_assets.settings import EMBEDDED_INDEX
from resources.embedded import milvus_server
from resources.embedded.stack import MilvusEndpoint, start_milvus, stop
from resources.errors import ConfigError, StoreUnavailable, VectorError
from resources.milvus import reads as reads_module
from resources.milvus.collections import Layout
from resources.milvus.rows import (
    EVERYTHING,
    RowFields,
    Span,
    checked,
    of_no_source,
    of_source,
    row_ids,
    span_filter,
    spans,
)
from resources.milvus.store import MilvusStore
from resources.postgres.collections import register_collection
from resources.postgres.connection import Connection
from tests.stores.rows import (
    chunks_of,
    collection_of,
    new_acknowledgement,
    new_document,
    new_source,
)

HNSW = {"index_type": "HNSW", "metric_type": "IP", "params": {"M": 16, "efConstruction": 256}}
SPARSE_INDEX = {"index_type": "SPARSE_INVERTED_INDEX", "metric_type": "IP", "params": {}}
DENSE = Layout("dense", 8, HNSW)
SPARSE = Layout("sparse", 0, SPARSE_INDEX)
MULTI = Layout("multi", 8, HNSW)


def fields(
    count: int, *, source: str = "docs", fingerprint: str = "a", seed: int = 0
) -> list[RowFields]:
    random = np.random.default_rng(seed)
    return [
        RowFields(
            uuid.UUID(bytes=random.bytes(16)), fingerprint * 32, uuid.uuid4(), "folder", source, None, n, 1, "text",
            None, None, [],
        )
        for n in range(count)
    ]  # fmt: skip


def vectors(count: int, seed: int = 0) -> np.ndarray:
    found = np.random.default_rng(seed).standard_normal((count, 8)).astype(np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def foreign(row_id: str, source: str = "docs", fingerprint: str = "x") -> dict[str, Any]:
    """A row that somebody else put there."""
    return {
        "id": row_id, "vector": [1.0, *[0.0] * 7], "document_id": "", "source_type": "", "source": source,
        "language": "", "chunk_position": 0, "created_timestamp": 0, "row_fingerprint": fingerprint,
        "chunk_type": "", "author": "", "category": "", "tags": [],
    }  # fmt: skip


def scanned(store: MilvusStore, name: str, span: Span = EVERYTHING, where: str = "") -> list[str]:
    return [row_id for bucket in store.scan(name, span, where) for row_id, _ in bucket]


FOREIGN = ["zzz", "!x", "f!", "F0", "~", 'quo"te', "it's", "back\\slash", "új", "東京", "00"]


def test_rows_are_upserted_read_and_deleted(store: MilvusStore) -> None:
    store.ensure_collection("a", DENSE)
    rows, matrix = fields(600), vectors(600)
    assert store.upsert_dense("a", rows, matrix) == [1] * 600
    ids = [f"{row.chunk_id}_dense" for row in rows]
    assert store.fingerprints("a", [*ids, "not there"]) == dict.fromkeys(ids, "a" * 32)
    assert sorted(scanned(store, "a")) == sorted(ids)
    # Again, changed: the same rows.
    store.upsert_dense("a", fields(600, fingerprint="b")[:10], matrix[:10])
    found = store.fingerprints("a", ids)
    assert [found[row_id][0] for row_id in ids] == ["b"] * 10 + ["a"] * 590
    assert store.copies("a", ids[:3]) == dict.fromkeys(ids[:3], 1)
    store.delete_chunks(
        "a", "dense", {row.chunk_id: 1 for row in rows[:300]} | {uuid.uuid4(): None}
    )
    assert sorted(scanned(store, "a")) == sorted(ids[300:])
    (hit, *_) = store.search("a", matrix[400], limit=3, params={"ef": 64})
    assert hit["id"] == ids[400] and hit["distance"] == pytest.approx(1, abs=1e-3)


def test_a_filter_separates_sources(store: MilvusStore) -> None:
    store.ensure_collection("a", DENSE)
    store.upsert_dense("a", fields(3, source="docs", seed=1), vectors(3))
    store.upsert_dense("a", fields(4, source="文書 2", seed=2), vectors(4))
    store.client.insert("a", foreign("x", source='any"thing'))
    assert len(scanned(store, "a", where=of_source("docs"))) == 3
    assert len(scanned(store, "a", where=of_source("文書 2"))) == 4
    assert scanned(store, "a", where=of_no_source(["docs", "文書 2"])) == ["x"]
    assert len(scanned(store, "a", where=of_no_source(["docs"]))) == 5
    assert len(store.search("a", vectors(1)[0], limit=9, params={}, filter=of_source("docs"))) == 3


def test_foreign_ids_are_scanned_read_and_counted(store: MilvusStore) -> None:
    store.ensure_collection("a", DENSE)
    store.client.insert("a", [foreign(row_id) for row_id in FOREIGN])
    assert sorted(scanned(store, "a")) == sorted(FOREIGN)
    assert store.fingerprints("a", FOREIGN) == dict.fromkeys(FOREIGN, "x")
    assert store.copies("a", FOREIGN) == dict.fromkeys(FOREIGN, 1)


def test_a_full_bucket_is_split_and_nothing_is_lost(
    store: MilvusStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.ensure_collection("a", DENSE)
    rows = fields(300)
    store.upsert_dense("a", rows, vectors(300))
    store.client.insert("a", [foreign(row_id) for row_id in FOREIGN])
    ids = [f"{row.chunk_id}_dense" for row in rows] + FOREIGN
    # At 21 rows some of the 16 buckets are split and some are not.
    for limit, ranges in ((21, [EVERYTHING]), (12, [EVERYTHING]), (100, spans(16))):
        monkeypatch.setattr(reads_module, "BUCKET_ROWS", limit)
        found = [row_id for span in ranges for row_id in scanned(store, "a", span)]
        assert sorted(found) == sorted(ids), limit


def test_a_bucket_that_cannot_be_split_is_refused(
    store: MilvusStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.ensure_collection("a", DENSE)
    store.client.insert("a", [foreign(f"zzz{n}") for n in range(5)])
    monkeypatch.setattr(reads_module, "BUCKET_ROWS", 4)
    with pytest.raises(ConfigError, match="4 rows or more"):
        scanned(store, "a")


@given(
    st.text(max_size=4) | st.text("0123456789abcdef" + "!/:`gz~", max_size=9),
    st.integers(1, 40),
    st.sets(st.integers(0, 39)),
)
def test_whatever_buckets_are_split_each_id_is_in_one(
    row_id: str, count: int, split: set[int]
) -> None:
    """By the filter expressions themselves, compared as Milvus compares: bytes."""

    def holds(span: Span) -> bool:
        data = row_id.encode("utf-8", "surrogatepass")
        for condition in filter(None, span_filter(span).split(" and ")):
            _, operator, bound = condition.split(" ")
            limit = bound.strip('"').encode()
            if not (data >= limit if operator == ">=" else data < limit):
                return False
        return True

    whole = spans(count)
    leaves = [
        part
        for number, span in enumerate(whole)
        for part in (spans(4, span) if number in split else [span])
    ]
    assert sum(holds(span) for span in leaves) == 1


def test_sparse_rows_without_terms_take_no_row(store: MilvusStore) -> None:
    store.ensure_collection("s", SPARSE)
    rows = fields(3)
    weights = Sparse(
        np.array([0, 2, 2, 3]),
        np.array([1, 4_000_000_000, 7], np.uint32),
        np.array([0.5, 1, 2], np.float32),
    )
    assert store.upsert_sparse("s", rows, weights) == [1, 0, 1]
    assert sorted(scanned(store, "s")) == sorted(f"{rows[n].chunk_id}_sparse" for n in (0, 2))
    (hit,) = store.search(
        "s", {4_000_000_000: 1.0}, limit=5, params={}, output_fields=["vocabulary_size"]
    )
    assert hit["id"] == f"{rows[0].chunk_id}_sparse" and hit["entity"]["vocabulary_size"] == 2
    empty = Sparse(np.zeros(4, np.int64), np.zeros(0, np.uint32), np.zeros(0, np.float32))
    assert store.upsert_sparse("s", rows, empty) == [0, 0, 0]


def test_multi_rows_are_a_token_each_and_leave_together(store: MilvusStore) -> None:
    store.ensure_collection("m", MULTI)
    rows, tokens = fields(3), vectors(6)
    assert store.upsert_multi("m", rows, Multi(np.array([0, 2, 2, 6]), tokens)) == [2, 0, 4]
    first, none, last = (row.chunk_id for row in rows)
    assert row_ids(first, "multi", 2) == [f"{first}_multi_00000", f"{first}_multi_00001"]
    assert sorted(scanned(store, "m")) == sorted(
        row_ids(first, "multi", 2) + row_ids(last, "multi", 4)
    )
    found = store.token_vectors("m", [str(chunk) for chunk in (first, none, last)])
    assert {chunk: len(matrix) for chunk, matrix in found.items()} == {str(first): 2, str(last): 4}
    assert found[str(first)].sum() == pytest.approx(tokens[:2].sum(), abs=1e-3)
    store.delete_chunks("m", "multi", {last: None})  # how many is not known
    assert sorted(scanned(store, "m")) == row_ids(first, "multi", 2)
    store.delete_chunks("m", "multi", {first: 2})
    assert scanned(store, "m") == []


def test_a_wrong_vector_is_refused_with_its_chunk(store: MilvusStore) -> None:
    for name, layout in (("a", DENSE), ("m", MULTI), ("s", SPARSE)):
        store.ensure_collection(name, layout)
    rows = fields(4)
    for value in (np.nan, np.inf, -np.inf, 0.0):
        matrix = vectors(4)
        matrix[2] = value
        with pytest.raises(VectorError, match=str(rows[2].chunk_id)):
            store.upsert_dense("a", rows, matrix)
        with pytest.raises(
            VectorError, match=str(rows[3].chunk_id)
        ):  # the last three tokens are its
            store.upsert_multi("m", rows, Multi(np.array([0, 1, 1, 1, 4]), matrix))
        if value != 0:
            values = np.array([1, 1, value], np.float32)
            weights = Sparse(np.array([0, 0, 2, 3, 3]), np.arange(3, dtype=np.uint32), values)
            with pytest.raises(VectorError, match=str(rows[2].chunk_id)):
                store.upsert_sparse("s", rows, weights)
    assert all(scanned(store, name) == [] for name in "ams")  # not a part of the batch either


def test_vectors_that_are_slightly_off_are_normalised() -> None:
    matrix = vectors(3)
    assert checked(matrix, ["a", "b", "c"]) is matrix
    rounded = matrix.astype(np.float16).astype(np.float32) * 1.01
    np.testing.assert_allclose(
        np.linalg.norm(checked(rounded, ["a", "b", "c"]), axis=1), 1, rtol=1e-6
    )


def test_a_released_collection_is_loaded_again(store: MilvusStore) -> None:
    store.ensure_collection("a", DENSE)
    rows = fields(2)
    store.upsert_dense("a", rows, vectors(2))
    ids = [f"{row.chunk_id}_dense" for row in rows]
    reads = [
        lambda: len(scanned(store, "a")),
        lambda: len(store.fingerprints("a", ids)),
        lambda: len(store.copies("a", ids)),
        lambda: len(store.search("a", vectors(1)[0], limit=2, params={})),
    ]
    for read in reads:
        store.client.release_collection("a")
        assert read() == 2


def test_aliases_are_pointed_and_moved(store: MilvusStore) -> None:
    store.ensure_collection("one", DENSE)
    store.ensure_collection("two", DENSE)
    assert store.alias_target("dense") is None
    store.point_alias("dense", "one")
    store.point_alias("dense", "one")
    assert store.alias_target("dense") == "one" and store.alias_target("sparse") is None
    store.point_alias("dense", "two")
    assert store.alias_target("dense") == "two"
    store.drop_collection("one")
    assert not store.has_collection("one")


# Collections as declared -------------------------------------------------------------------------------------------


def differing(store: MilvusStore, name: str, layout: Layout) -> list[tuple[str, str, str]]:
    return [
        (fact.fact, str(fact.declared), str(fact.actual))
        for fact in store.compare(name, layout)
        if fact.differs
    ]


def test_a_collection_as_declared_has_no_differences(store: MilvusStore) -> None:
    for name, layout in (("a", DENSE), ("s", SPARSE), ("m", MULTI)):
        assert differing(store, name, layout) == [("collection", name, "none")]
        identity = store.ensure_collection(name, layout)
        assert store.ensure_collection(name, layout) == store.identity(name) == identity
        facts = {fact.fact: fact for fact in store.compare(name, layout)}
        assert not any(fact.differs for fact in facts.values())
        assert facts["field row_fingerprint"].actual == "VARCHAR"
        # Milvus Lite does not say these, and that is said.
        assert facts["shards"].actual is facts["consistency level"].actual is None


def test_each_difference_is_told(store: MilvusStore) -> None:
    store.ensure_collection("a", DENSE)
    declared = Layout("dense", 9, {"index_type": "FLAT", "metric_type": "L2"})
    assert differing(store, "a", declared) == [
        ("dimension", "9", "8"),
        ("index_type", "FLAT", "HNSW"),
        ("metric_type", "L2", "IP"),
    ]
    assert differing(store, "a", SPARSE)[:2] == [
        ("field vector", "SPARSE_FLOAT_VECTOR", "FLOAT_VECTOR"),
        ("field vocabulary_size", "INT32", "none"),
    ]
    store.client.release_collection("a")
    assert differing(store, "a", DENSE) == [("load state", "Loaded", "NotLoad")]
    store.client.drop_index("a", "vector")
    assert ("index", "HNSW", "none") in differing(store, "a", DENSE)


def test_an_index_is_made_the_declared_one_and_rows_stay(store: MilvusStore) -> None:
    store.ensure_collection("a", DENSE)
    rows = fields(20)
    store.upsert_dense("a", rows, vectors(20))
    declared = Layout("dense", 8, {"index_type": "FLAT", "metric_type": "COSINE"})
    for loses in (lambda: None, lambda: store.client.release_collection("a")):
        loses()
        store.make_index("a", declared)
        assert differing(store, "a", declared) == []
    assert len(scanned(store, "a")) == 20


def test_a_collection_without_a_vector_field_is_told(store: MilvusStore) -> None:
    schema = store.client.create_schema()
    schema.add_field("key", DataType.VARCHAR, max_length=9, is_primary=True)
    schema.add_field("other", DataType.FLOAT_VECTOR, dim=8)
    store.client.create_collection("a", schema=schema)
    assert {
        ("field vector", "FLOAT_VECTOR", "none"),
        ("primary key", "id", "key"),
        ("field id", "VARCHAR", "none"),
    } <= set(differing(store, "a", DENSE))


def test_a_collection_that_was_lost_voids_what_it_acknowledged(
    store: MilvusStore, connection: Connection
) -> None:
    source = new_source(connection)
    there, untouched = (new_document(connection, source, key, [key]) for key in ("a", "b"))
    collection = collection_of("dense", store.ensure_collection("a", DENSE))
    register_collection(connection, collection)
    new_acknowledgement(connection, collection.name, chunks_of(connection, there)[0])
    register_collection(connection, collection)  # the same one: nothing happens
    assert connection.execute("SELECT count(*) FROM vector_rows").fetchone() == (1,)

    store.drop_collection("a")
    identity = store.ensure_collection("a", DENSE)
    assert identity != collection.milvus_id
    register_collection(connection, collection_of("dense", identity))
    assert connection.execute("SELECT count(*) FROM vector_rows").fetchone() == (0,)
    assert connection.execute("SELECT milvus_id, state FROM vector_collections").fetchall() == [
        (identity, "building")
    ]
    statuses = dict(connection.execute("SELECT id, indexing_status FROM documents").fetchall())
    assert statuses == {there: "pending", untouched: "completed"}


# Servers that do not answer, and one that was killed ----------------------------------------------------------------


@pytest.fixture
def own_home() -> Iterator[Path]:
    home = Path(tempfile.mkdtemp(prefix="rag-milvus-"))
    yield home
    stop(home)
    shutil.rmtree(home, ignore_errors=True)


def kill(server: MilvusEndpoint) -> None:
    process = psutil.Process(server.pid)
    process.kill()
    process.wait(5)


def test_a_server_that_died_or_hangs_is_unavailable_within_the_timeout(own_home: Path) -> None:
    server = start_milvus(own_home)
    store = MilvusStore(server.uri, timeout=1)
    store.ensure_collection("a", DENSE)
    calls = [
        lambda: scanned(store, "a"),
        lambda: store.upsert_dense("a", fields(2), vectors(2)),
        lambda: store.has_collection("a"),
        lambda: store.compare("a", DENSE),
    ]
    os.kill(server.pid, signal.SIGSTOP)
    try:
        began = time.monotonic()
        with pytest.raises(StoreUnavailable, match="could not look for a"):
            store.has_collection("a")
        assert time.monotonic() - began < 4
    finally:
        os.kill(server.pid, signal.SIGCONT)
    kill(server)
    for call in calls:
        began = time.monotonic()
        with pytest.raises(StoreUnavailable, match=server.uri):
            call()
        assert time.monotonic() - began < 4
    with pytest.raises(StoreUnavailable, match="connect"):
        MilvusStore(server.uri, timeout=1).has_collection("a")


@pytest.mark.parametrize("crash", ["unknown", "known", "known, and another one"])
def test_rows_that_a_kill_in_a_flush_doubled_are_single_again(own_home: Path, crash: str) -> None:
    """The state after such a kill, made by hand: rows are in a segment, their log is still there, and a newer one is.

    A start that knows of the crash mends it before it serves, also one that is itself killed and started again.
    """
    server = start_milvus(own_home)
    store = MilvusStore(server.uri)
    store.ensure_collection("a", DENSE)
    rows = fields(40)
    ids = [f"{row.chunk_id}_dense" for row in rows]
    store.upsert_dense("a", rows[:20], vectors(20))
    logs = {path: path.read_bytes() for path in (own_home / "milvus").rglob("wal/*.arrow")}
    store.client.flush("a")
    store.upsert_dense("a", rows[20:], vectors(20))
    store.delete_ids("a", ids[20:22])
    kill(server)
    store.close()
    for path, data in logs.items():
        path.write_bytes(data)
    if crash == "unknown":
        (own_home / "milvus" / milvus_server.RUNNING).unlink()
    if "another" in crash:
        kill(start_milvus(own_home))
    store = MilvusStore(start_milvus(own_home).uri)
    if crash == "unknown":
        store.client.flush("a")
        assert max(Counter(scanned(store, "a")).values()) == 2  # it is what would be
        return
    live = [*ids[:20], *ids[22:]]
    assert Counter(scanned(store, "a")) == dict.fromkeys(live, 1)
    assert store.copies("a", ids) == dict.fromkeys(live, 1)
    assert store.fingerprints("a", ids) == dict.fromkeys(live, "a" * 32)
    assert store.count("a") == len(live)
    assert not (own_home / "milvus" / milvus_server.REPLAYED).exists()
    store.close()


@pytest.mark.parametrize("crash", ["kill", "power cut"])
def test_an_index_file_that_was_cut_short_is_made_anew(own_home: Path, crash: str) -> None:
    """After a kill the whole ones are kept, since they take seconds to make; after a power cut none is trusted."""
    server = start_milvus(own_home)
    store = MilvusStore(server.uri)
    rows, made = fields(300), vectors(300)
    for name in ("a", "b"):
        store.ensure_collection(name, replace(DENSE, index=EMBEDDED_INDEX))
        store.upsert_dense(name, rows, made)
        store.client.flush(name)
    stop(own_home)
    store.close()
    kill(start_milvus(own_home))
    cut, whole = sorted((own_home / "milvus").rglob("partitions/*/indexes/*.idx"))
    content = whole.read_bytes()
    cut.write_bytes(cut.read_bytes()[:-1])
    os.utime(whole, (1, 1))
    if crash == "power cut":
        (own_home / "milvus" / milvus_server.RUNNING).write_text("another start of the machine")
    store = MilvusStore(start_milvus(own_home).uri)
    for name in ("a", "b"):
        found = store.client.search(name, [made[7].tolist()], limit=1, output_fields=["id"])
        assert found[0][0]["id"] == f"{rows[7].chunk_id}_dense"
    assert cut.stat().st_size == len(content) == whole.stat().st_size
    assert (whole.stat().st_mtime == 1) == (crash == "kill")
    store.close()


def test_a_load_that_lacks_memory_costs_no_index(tmp_path: Path) -> None:
    index = tmp_path / "a" / "partitions" / "p" / "indexes" / "vector.idx"
    index.parent.mkdir(parents=True)
    index.touch()

    class Full:
        """A collection of an engine on a machine without memory."""

        load_state, _data_dir = "released", str(tmp_path / "a")

        def load(self) -> None:
            raise MemoryError

    class Database:
        def list_databases(self) -> list[str]:
            return ["default"]

        def list_collections(self, _: str) -> list[str]:
            return ["a"]

        def get_collection(self, *_: str) -> Full:
            return Full()

    milvus_server._serve_whole(Database(), tmp_path / milvus_server.REPLAYED)
    assert index.exists()
