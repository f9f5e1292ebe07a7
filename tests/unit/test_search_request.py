"""Requests of searches and their answers: encoded and read by columns, they are those of pymilvus."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pymilvus import DataType
from pymilvus.client import ts_utils
from pymilvus.client.prepare import Prepare
from pymilvus.client.search_result import SearchResult
from pymilvus.grpc_gen.schema_pb2 import FieldData, SearchResultData

from rag_assets.pipeline.vectors import Kind, Sparse
from resources.milvus.collections import VECTOR_FIELD
from resources.milvus.search_request import read_nearest, search_request
from resources.milvus.upsert_request import sparse_bytes

DENSE = np.array([[0.25, -0.5, 1e-30], [0.1, 3e38, 0.0]], np.float32)
SPARSE = Sparse(
    np.array([0, 2, 2, 3]),
    np.array([3, 2**31 - 1, 0], np.uint32),
    np.array([1e-30, 2.5, 1.0], np.float32),
)
SPARSE_ROWS: list[Any] = [{3: 1e-30, 2**31 - 1: 2.5}, {}, {0: 1.0}]
QUERIES: dict[Kind, tuple[list[Any], list[bytes]]] = {
    "dense": (list(DENSE), [row.tobytes() for row in DENSE]),
    "sparse": (SPARSE_ROWS, sparse_bytes(SPARSE)),
    "multi": ([DENSE[1]], [DENSE[1].tobytes()]),
}


@pytest.mark.parametrize("kind", QUERIES)
@pytest.mark.parametrize("consistency", ["Strong", "Session", "Bounded", "Eventually"])
def test_the_request_is_that_of_pymilvus(kind: Kind, consistency: str) -> None:
    ts_utils.update_collection_ts("name", 17, "server", "database")
    rows, queries = QUERIES[kind]
    params: dict[str, object] = {"candidates": 1000, "radius": 0.25}
    expression = 'source in ["naïve 文書"]'
    # As `GrpcHandler.search` does it.
    options: dict[str, Any] = {"consistency_level": consistency}
    use_default = ts_utils.construct_guarantee_ts("name", options, "server", "database")
    expected = Prepare.search_requests_with_expr(
        collection_name="name",
        anns_field=VECTOR_FIELD,
        param={"metric_type": "IP", "params": params},
        limit=50,
        data=rows,
        expr=expression,
        output_fields=["id"],
        use_default_consistency=use_default,
        **options,
    )
    request = search_request(
        "name", kind, queries, limit=50, params=params, filter=expression,
        consistency=consistency, server="server", database="database",
    )  # fmt: skip
    assert request == expected


@pytest.mark.parametrize("lengths", [[2, 0, 1], [0], []])
def test_the_hits_are_those_of_pymilvus(lengths: list[int]) -> None:
    ids = [f"row {number}" for number in range(sum(lengths))]
    column = FieldData(field_name="id", type=DataType.VARCHAR.value)
    column.scalars.string_data.data.extend(ids)
    answer = SearchResultData(
        topks=lengths, scores=[0.1, 0.3, -1e-9][: len(ids)], fields_data=[column]
    )
    answer.ids.str_id.data.extend(ids)
    expected = [[(hit["id"], hit["distance"]) for hit in hits] for hits in SearchResult(answer)]
    assert read_nearest(answer) == expected
