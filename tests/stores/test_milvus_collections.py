"""Collections on a real Milvus Lite: as declared, with differences, and lost."""

from __future__ import annotations

from typing import Any

import pytest
from pymilvus import DataType
from pymilvus.exceptions import MilvusException

from resources.errors import ConfigError, StoreUnavailable
from resources.milvus.capabilities import Capabilities
from resources.milvus.collections import Layout
from resources.milvus.store import MilvusStore
from resources.postgres.connection import Connection
from resources.postgres.vectors.collections import register_collection
from tests.support.milvus_rows import DENSE, MULTI, SPARSE, fields, scanned, vectors
from tests.support.rows import (
    chunks_of,
    collection_of,
    new_acknowledgement,
    new_document,
    new_source,
)


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
        # Milvus Lite does not report these two, so they count as unknown.
        assert facts["shards"].actual is facts["consistency level"].actual is None


def test_each_difference_is_reported(store: MilvusStore) -> None:
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


def test_the_declared_index_replaces_the_old_one_and_rows_stay(store: MilvusStore) -> None:
    store.ensure_collection("a", DENSE)
    rows = fields(20)
    store.upsert_dense("a", rows, vectors(20))
    declared = Layout("dense", 8, {"index_type": "FLAT", "metric_type": "COSINE"})
    for prepare in (lambda: None, lambda: store.client.release_collection("a")):
        prepare()
        store.make_index("a", declared)
        assert differing(store, "a", declared) == []
    assert len(scanned(store, "a")) == 20


def test_a_missing_vector_field_is_reported(store: MilvusStore) -> None:
    schema = store.client.create_schema()
    schema.add_field("key", DataType.VARCHAR, max_length=9, is_primary=True)
    schema.add_field("other", DataType.FLOAT_VECTOR, dim=8)
    store.client.create_collection("a", schema=schema)
    assert {
        ("field vector", "FLOAT_VECTOR", "none"),
        ("primary key", "id", "key"),
        ("field id", "VARCHAR", "none"),
    } <= set(differing(store, "a", DENSE))


def test_an_index_that_cannot_be_built_leaves_no_collection(
    store: MilvusStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that lacks the index is asked before; one that fails to build it must not keep the collection."""

    def fail(*_: object, **__: object) -> None:
        raise MilvusException(65535, "invalid index")

    with monkeypatch.context() as patch:
        patch.setattr(store.client, "create_index", fail)
        with pytest.raises(StoreUnavailable, match="could not prepare collection a: invalid index"):
            store.ensure_collection("a", DENSE)
    assert store.collection_names() == []
    store.__dict__["capabilities"] = Capabilities("v2.3.5-lite")
    with pytest.raises(ConfigError, match=r"no sparse vectors.*Set RAG_VECTORS=dense"):
        store.ensure_collection("s", SPARSE)
    assert store.collection_names() == []


def test_a_collection_without_its_index_gets_it(
    store: MilvusStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process was killed after it had created the collection, and before its index."""
    load = store.client.load_collection

    def load_with_index(name: str, **options: Any) -> None:
        """Milvus loads no collection without an index; Milvus Lite does."""
        if not store.client.list_indexes(name):
            raise MilvusException(700, "index not found")
        load(name, **options)

    store.ensure_collection("a", DENSE)
    store.client.release_collection("a")
    store.client.drop_index("a", "vector")
    assert store.is_empty_and_without_index("a")
    monkeypatch.setattr(store.client, "load_collection", load_with_index)
    store.ensure_collection("a", DENSE)
    assert differing(store, "a", DENSE) == []
    assert not store.is_empty_and_without_index("a")


def test_collections_that_the_server_cannot_index_are_dropped(store: MilvusStore) -> None:
    for name, layout in (("sparse_collection__1", SPARSE), ("dense_collection__1", DENSE)):
        store.ensure_collection(name, layout)
    store.ensure_collection("sparse_collection_of_others", SPARSE)
    assert store.drop_unusable() == []
    store.__dict__["capabilities"] = Capabilities("v2.3.5-lite")
    assert store.drop_unusable() == ["sparse_collection__1"]
    assert sorted(store.collection_names()) == [
        "dense_collection__1",
        "sparse_collection_of_others",
    ]


def test_a_lost_collection_voids_its_acknowledgements(
    store: MilvusStore, connection: Connection
) -> None:
    source = new_source(connection)
    acknowledged, untouched = (new_document(connection, source, key, [key]) for key in ("a", "b"))
    collection = collection_of("dense", store.ensure_collection("a", DENSE))
    register_collection(connection, collection)
    new_acknowledgement(connection, collection.name, chunks_of(connection, acknowledged)[0])
    # Registering the same collection again changes nothing.
    register_collection(connection, collection)
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
    assert statuses == {acknowledged: "pending", untouched: "completed"}
