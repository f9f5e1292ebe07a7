"""The request of a search and its answer, encoded and read by columns.

pymilvus makes a request in 0.2 ms of processor time, and an object of each hit: 0.35 ms for 50 of them. The equal
request and the same hits take a tenth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from rag_assets.pipeline.vectors import Kind
from resources.milvus.collections import VECTOR_FIELD
from resources.milvus.driver import (
    GUARANTEE_TIMESTAMP,
    SearchRequest,
    SearchResultData,
    common_pb2,
    construct_guarantee_ts,
)

#: (row id, score) of the nearest rows to a query vector, best first.
Nearest = list[tuple[str, float]]


def search_request(
    name: str,
    kind: Kind,
    queries: Sequence[bytes],
    *,
    limit: int,
    params: Mapping[str, object],
    filter: str,
    consistency: str,
    server: str = "",
    database: str = "",
) -> SearchRequest:
    """Return the request for the ids of the nearest rows to each query: a vector as stored, little-endian.

    `server`, `database`: of the client; consistency level "Session" needs its last write there.
    """
    is_sparse, types = kind == "sparse", common_pb2.PlaceholderType
    vectors = common_pb2.PlaceholderValue(
        tag="$0",
        type=types.SparseFloatVector if is_sparse else types.FloatVector,
        values=queries,
    )
    values = {
        "topk": str(limit),
        "round_decimal": "-1",
        "ignore_growing": "False",
        "metric_type": "IP",
        "anns_field": VECTOR_FIELD,
        "params": orjson.dumps({**params, "metric_type": "IP"}).decode(),
    }
    # pymilvus decides the time of the newest row that must be visible.
    options: dict[str, Any] = {"consistency_level": consistency}
    construct_guarantee_ts(name, options, server, database)
    return SearchRequest(
        collection_name=name,
        output_fields=["id"],
        dsl=filter,
        dsl_type=common_pb2.DslType.BoolExprV1,
        search_params=[common_pb2.KeyValuePair(key=key, value=values[key]) for key in values],
        guarantee_timestamp=options[GUARANTEE_TIMESTAMP],
        consistency_level=options["consistency_level"],
        nq=len(queries),
        placeholder_group=common_pb2.PlaceholderGroup(placeholders=[vectors]).SerializeToString(),
    )


def read_nearest(answer: SearchResultData) -> list[Nearest]:
    """Return the nearest rows to each query of the request."""
    rows = list(zip(answer.ids.str_id.data, answer.scores, strict=True))
    nearest: list[Nearest] = []
    start = 0
    for length in answer.topks:
        nearest.append(rows[start : start + length])
        start += length
    return nearest
