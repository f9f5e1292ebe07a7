"""`fast_search` answers as the executors of Milvus Lite that it replaces, in one process and on one snapshot."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from milvus_lite import CollectionSchema, DataType, FieldSchema, MilvusLite
from milvus_lite.adapter.grpc.translators import result
from milvus_lite.exceptions import MilvusLiteError
from pymilvus.client.types import PlaceholderType
from pymilvus.grpc_gen import common_pb2

from resources.embedded import fast_search, search_messages
from resources.embedded import milvus_lite_internals as lite
from resources.embedded.array_filters import evaluate_arrays_by_column
from resources.embedded.live_rows import CollectionRows
from resources.embedded.sketches import Sketch

#: Milvus Lite's own: `fast_search.install` replaces it.
DECODE_QUERIES = lite.search_translator._decode_placeholder_group

DIMENSION = 8
IDS = [f"{number:032x}" for number in range(14)]
PARTITIONS = ("_default", "other")
SCHEMA = [
    FieldSchema("id", DataType.VARCHAR, is_primary=True, max_length=64),
    FieldSchema("vector", DataType.FLOAT_VECTOR, dim=DIMENSION, nullable=True),
    FieldSchema("terms", DataType.SPARSE_FLOAT_VECTOR),
    FieldSchema("tenant", DataType.VARCHAR, max_length=20, nullable=True),
    FieldSchema("number", DataType.INT64, nullable=True),
    FieldSchema(
        "tags", DataType.ARRAY, element_type=DataType.VARCHAR, max_capacity=4, max_length=9
    ),
]
FILTERS = [
    None, 'tenant == "a"', "number > 2", "number is null", "not (number in [1, 2])", "number not in [1]",
    'array_contains_any(tags, ["x", "y"])', 'tenant in ["a", "b"] and array_contains_any(tags, ["x"])',
    'tenant == "nobody"', 'colour == "red"', 'tenant == "a" or number < 3',
]  # fmt: skip
OUTPUTS = [["id"], ["id", "tenant", "tags"], ["colour"], ["*"], ["vector"], None]
INDEXES: list[dict[str, Any] | None] = [
    None,
    {"index_type": "FLAT", "metric_type": "IP"},
    {"index_type": "IVF_FLAT", "metric_type": "IP", "params": {"nlist": 4}},
    {"index_type": "IVF_SQ8", "metric_type": "COSINE", "params": {"nlist": 4}},
    {"index_type": "HNSW", "metric_type": "L2"},
]


@dataclass
class Executors:
    """Those of Milvus Lite and those that replace them; `calls`: of the former."""

    fast: dict[str, Callable[..., Any]] = field(default_factory=dict)
    lite: dict[str, Callable[..., Any]] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)

    def use(self, executors: dict[str, Callable[..., Any]]) -> None:
        lite.engine_collection.execute_search_with_index = executors["dense"]
        for name in ("_search_sparse", "_read_snapshot", "_compile_filter"):
            setattr(lite.Collection, name, executors[name])

    @staticmethod
    def current() -> dict[str, Callable[..., Any]]:
        names = ("_search_sparse", "_read_snapshot", "_compile_filter")
        methods = {name: getattr(lite.Collection, name) for name in names}
        return {"dense": lite.engine_collection.execute_search_with_index, **methods}

    def counting(self, name: str, executor: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            self.calls.append(name)
            return executor(*arguments, **options)

        return call


@pytest.fixture(scope="module")
def executors() -> Iterator[Executors]:
    with pytest.MonkeyPatch.context() as patched:
        for owner, names in (
            (lite.engine_collection, ["execute_search_with_index"]),
            (lite.Collection, ["_search_sparse", "_read_snapshot", "_compile_filter"]),
            (lite.MemTable, ["apply_insert", "apply_delete"]),
            (lite.DeltaIndex, ["add_batch", "gc_below"]),
            (lite.evaluation, ["evaluate_python"]),
            (lite.servicer, ["build_search_result_data"]),
            (lite.search_translator, ["_decode_placeholder_group"]),
        ):
            for name in names:
                # Restored at the end.
                patched.setattr(owner, name, getattr(owner, name))
        made = Executors()
        made.lite = Executors.current()
        for name in ("dense", "_search_sparse"):
            made.lite[name] = made.counting(name, made.lite[name])
        made.use(made.lite)
        evaluate_arrays_by_column()
        assert fast_search.install()
        made.fast = Executors.current()
        yield made


def row(row_id: str, seed: int) -> dict[str, Any]:
    """A row of few possible values, so that rows are equal in some and null in others."""
    random = np.random.default_rng(seed)
    made: dict[str, Any] = {
        "id": row_id,
        "vector": None if seed % 9 == 0 else random.standard_normal(DIMENSION).tolist(),
        "terms": {
            int(dimension): float(weight)
            for dimension, weight in zip(
                random.choice(12, 4, replace=False), random.choice([0.5, 1.0, 0.3], 4), strict=True
            )
        },
        "tenant": [None, "a", "b", "c"][seed % 4],
        "number": [None, 1, 2, 3, 4][seed % 5],
        "tags": [[], ["x"], ["y", "z"], ["z"]][seed % 4],
    }
    return made | ({"colour": "red"} if seed % 2 else {})


steps = st.lists(
    st.one_of(
        st.tuples(
            st.just("upsert"),
            st.lists(st.sampled_from(IDS), min_size=1, max_size=8, unique=True),
            st.sampled_from(PARTITIONS),
            st.integers(0, 40),
        ),
        st.tuples(
            st.just("delete"),
            st.lists(st.sampled_from(IDS), min_size=1, max_size=3, unique=True),
            st.sampled_from([*PARTITIONS, None]),
        ),
        st.tuples(st.just("flush")),
        st.tuples(
            st.just("search"),
            st.sampled_from(FILTERS),
            st.sampled_from([None, ["_default"], ["other"]]),
            st.sampled_from(OUTPUTS),
            st.integers(1, 16),
            st.integers(0, 1000),
        ),
    ),
    min_size=8,
    max_size=40,
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(index=st.sampled_from(INDEXES), steps=steps)
def test_answers_are_those_of_milvus_lite(
    executors: Executors, index: dict[str, Any] | None, steps: list[tuple[Any, ...]]
) -> None:
    with tempfile.TemporaryDirectory() as folder, MilvusLite(folder) as database:
        collection = database.create_collection(
            "t", CollectionSchema(SCHEMA, enable_dynamic_field=True)
        )
        collection.create_partition("other")
        if index is not None:
            collection.create_index("vector", index)
            collection.load()
        for step in [*steps, ("flush",), ("search", None, None, ["id"], 16, 1)]:
            match step:
                case ("upsert", ids, partition, seed):
                    rows = [row(row_id, seed + at) for at, row_id in enumerate(ids)]
                    collection.insert(rows, partition_name=partition)
                case ("delete", ids, partition):
                    collection.delete(ids, partition_name=partition)
                case ("flush",):
                    # The fourth file of a partition is merged with the others.
                    collection.flush()
                    collection._wait_for_bg()
                case ("search", expr, partitions, output, limit, seed):
                    compare(executors, collection, expr, partitions, output, limit, seed)


def compare(
    executors: Executors,
    collection: Any,
    expr: str | None,
    partitions: list[str] | None,
    output: list[str] | None,
    limit: int,
    seed: int,
) -> None:
    random = np.random.default_rng(seed)
    metric = collection.resolve_search_metric("vector")
    dense = random.standard_normal((2, DIMENSION)).tolist()
    sparse = [{int(at): float(at % 3 + 1) / 3 for at in random.choice(12, 5)} for _ in range(2)]
    for name, field_name, queries in (
        ("dense", "vector", dense),
        ("_search_sparse", "terms", sparse),
    ):
        request: dict[str, Any] = {
            "query_vectors": queries, "top_k": limit, "partition_names": partitions, "expr": expr,
            "output_fields": output, "anns_field": field_name,
        }  # fmt: skip
        executors.calls.clear()
        executors.use(executors.fast)
        answers = collection.search(**request)
        assert executors.calls == [], "the replacement did not answer"
        executors.use(executors.lite)
        expected = collection.search(**request)
        assert executors.calls == [name], "Milvus Lite's executor was not called"
        executors.use(executors.fast)
        for hits, right in zip(answers, expected, strict=True):
            if name == "_search_sparse":
                assert hits == right
            else:
                same_hits(hits, right, metric)


def same_hits(hits: list[dict[str, Any]], right: list[dict[str, Any]], metric: str) -> None:
    """Equal, except that rows of equal distance may be in another order, or left out at the end."""
    scores = np.array([hit["distance"] for hit in right])
    np.testing.assert_allclose([hit["distance"] for hit in hits], scores, atol=2e-6)
    by_id = {hit["id"]: hit["entity"] for hit in right}
    for hit in hits:
        if abs(hit["distance"] - scores[-1]) > 2e-6:
            assert by_id[hit["id"]] == hit["entity"]
    assert len({hit["id"] for hit in hits}) == len({hit["id"] for hit in right})


@pytest.mark.parametrize("dynamic", [True, False])
@pytest.mark.parametrize("lengths", [[2, 0, 1], [0], []])
@pytest.mark.parametrize("output", OUTPUTS)
def test_messages_of_hits_are_those_of_milvus_lite(
    output: list[str] | None, lengths: list[int], dynamic: bool
) -> None:
    schema = CollectionSchema(SCHEMA, enable_dynamic_field=dynamic)
    plan = lite.build_projection_plan(output, schema, api_kind="search")
    results = [
        [
            {
                "id": IDS[number],
                "distance": number / 3,
                "entity": lite.project_record(row(IDS[number], number), schema, plan),
            }
            for number in range(length)
        ]
        for length in lengths
    ]
    arguments: dict[str, Any] = {
        "results": results, "schema": schema, "top_k": 7, "pk_name": "id",
        "output_fields": output, "projection_plan": plan,
    }  # fmt: skip
    calls: list[object] = []

    def original(*positional: Any, **options: Any) -> Any:
        calls.append(positional)
        return result.build_search_result_data(*positional, **options)

    for group_by in (None, "tenant"):
        options = {**arguments, "group_by_field": group_by}
        message = search_messages.build_results(**options, original=original)
        assert message == result.build_search_result_data(**options)
    assert len(calls) == (1 if output == ["id"] or (output == ["colour"] and not dynamic) else 2)


@pytest.mark.parametrize(
    "queries",
    [
        (PlaceholderType.FloatVector, [b"\0\0\x80?\xcd\xcc\xcc=", b"\1\0\0\0\xff\xff\x7f\x7f"]),
        (PlaceholderType.FloatVector, [b""]),
        (PlaceholderType.FloatVector, [b"\0\0\x80?", b"odd"]),
        (PlaceholderType.FloatVector, []),
        (PlaceholderType.SparseFloatVector, [b"\3\0\0\0\0\0\x80?"]),
        (PlaceholderType.VARCHAR, [b"text"]),
        (PlaceholderType.Int8Vector, [b"12"]),
        None,
    ],
)
def test_queries_are_read_as_milvus_lite_does(queries: tuple[Any, list[bytes]] | None) -> None:
    placeholders = b""
    if queries is not None:
        value = common_pb2.PlaceholderValue(tag="$0", type=queries[0], values=queries[1])
        placeholders = common_pb2.PlaceholderGroup(placeholders=[value]).SerializeToString()

    def read(decode: Callable[[bytes], list[Any]]) -> object:
        try:
            return [getattr(query, "tolist", lambda q=query: q)() for query in decode(placeholders)]
        except MilvusLiteError as error:
            return str(error)

    decode = functools.partial(search_messages.decode_queries, original=DECODE_QUERIES)
    assert read(decode) == read(DECODE_QUERIES)


def test_the_replaced_code_of_milvus_lite_is_the_known_one() -> None:
    """Fails at the first upgrade that changes a file which `live_rows` or `fast_search` repeats or relies on."""
    assert lite.fingerprint(lite.SEARCH_CODE) == lite.KNOWN_SEARCH, (
        f"milvus-lite {version('milvus-lite')}: compare the files of SEARCH_CODE with their last version, repair "
        "resources/embedded/live_rows.py and fast_search.py, then set KNOWN_SEARCH"
    )


def test_another_milvus_lite_keeps_its_executors(
    executors: Executors, monkeypatch: pytest.MonkeyPatch
) -> None:
    executors.use(executors.lite)
    monkeypatch.setattr(lite, "KNOWN_SEARCH", "another")
    assert not fast_search.install()
    assert Executors.current() == executors.lite


def test_an_unknown_snapshot_is_searched_by_milvus_lite(executors: Executors) -> None:
    calls: list[dict[str, Any]] = []

    def original(**request: Any) -> list[list[dict[str, Any]]]:
        calls.append(request)
        return [[]]

    request = {
        "segments": (), "delta_index": None, "query_vectors": np.ones((1, 2)), "top_k": 1,
        "project_record_fn": dict,
    }  # fmt: skip
    assert fast_search.search_dense(original=original, **request) == [[]]
    assert len(calls) == 1


def test_a_search_after_each_change_sees_it(executors: Executors) -> None:
    """What is kept of a snapshot is never used beyond it, and stays in use until then."""
    executors.use(executors.fast)
    with tempfile.TemporaryDirectory() as folder, MilvusLite(folder) as database:
        collection = database.create_collection(
            "t", CollectionSchema(SCHEMA, enable_dynamic_field=True)
        )

        def found() -> list[str]:
            hits = collection.search([[1.0] * DIMENSION], top_k=20, anns_field="vector")
            return sorted(hit["id"] for hit in hits[0])

        collection.insert([row(row_id, 1) for row_id in IDS])
        assert found() == IDS
        collection.flush()
        assert found() == IDS
        snapshot = collection._read_snapshot()[0]
        assert collection._read_snapshot()[0] is snapshot
        for number, row_id in enumerate(IDS, 1):
            collection.delete([row_id])
            if number % 3 == 0:
                collection.flush()
            assert found() == IDS[number:]
        collection.insert([row(IDS[0], 2)])
        assert found() == IDS[:1]


def test_sketches_find_the_nearest_live_rows() -> None:
    """No dead row, exact scores, and of the nearest rows nearly all; where few rows are live, another search must."""
    random = np.random.default_rng(7)
    topics = random.standard_normal((40, 64))
    topic = random.integers(0, 40, 6000)
    vectors = topics[topic] + random.standard_normal((6000, 64))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    sketch = Sketch.of(vectors)
    assert sketch is not None
    queries = np.ascontiguousarray(vectors[:50])
    for mask in (None, random.random(6000) < 0.5):
        nearest = sketch.nearest(queries, 10, mask, 1000)
        assert nearest is not None
        distances, rows = nearest
        assert mask is None or mask[rows].all()
        products = queries @ vectors.T
        np.testing.assert_allclose(-distances, np.take_along_axis(products, rows, 1), atol=1e-6)
        live = products if mask is None else np.where(mask, products, -1)
        tenth = np.sort(live, axis=1)[:, -10]
        assert (-distances[:, -1] >= tenth - 1e-6).mean() >= 0.98
        assert (np.diff(distances, axis=1) >= 0).all()
    assert sketch.nearest(queries, 10, random.random(6000) < 0.05, 1000) is None
    # A filter that excludes the topic of each query leaves too few of the rows with the highest estimates.
    assert sketch.nearest(queries[:1], 10, topic != topic[0], 20) is None
    assert Sketch.of(vectors[:100]) is None


def test_deletions_are_copied_once_per_change() -> None:
    """The copy costs time for each deleted row."""
    rows, deletions = CollectionRows(), lite.DeltaIndex("id")
    collection = type("Collection", (), {"_segment_cache": {}, "_delta_index": deletions})()
    assert rows.snapshot(collection)[1] is rows.snapshot(collection)[1]
