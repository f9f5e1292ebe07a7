"""Requests of upserts: encoded by columns, they are those that pymilvus makes of the rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pymilvus import DataType
from pymilvus.client.prepare import Prepare

from rag_assets.pipeline.vectors import Kind, Sparse
from resources.milvus.collections import VECTOR_FIELD, scalars
from resources.milvus.upsert_request import sparse_bytes, upsert_request

VECTORS: dict[Kind, list[Any]] = {
    "dense": [np.array(row, np.float32) for row in ([0.25, -0.5, 1e-30], [0.1, 3e38, 0.0])],
    "sparse": [{3: 1e-30, 7: 0.1, 2**31 - 1: 2.5}, {0: 1.0}],
    "multi": [np.array(row, np.float32) for row in ([0.6, 0.8], [0.1, -0.0])],
}
VALUES: dict[DataType, list[Any]] = {
    DataType.VARCHAR: ["", "naïve 文書 🦦"],
    DataType.INT32: [0, 2**31 - 1],
    DataType.INT64: [-1, 2**62],
    DataType.JSON: [[0], [511]],
    DataType.ARRAY: [[], ["a tag", "étiquette"]],
}


@pytest.mark.parametrize("kind", VECTORS)
def test_the_request_is_that_of_pymilvus(kind: Kind) -> None:
    declared = {"id": (DataType.VARCHAR, {}), **scalars(kind)}
    rows = [
        {field: VALUES[data_type][number] for field, (data_type, _) in declared.items()}
        | {VECTOR_FIELD: vector}
        for number, vector in enumerate(VECTORS[kind])
    ]
    vector_type = DataType.SPARSE_FLOAT_VECTOR if kind == "sparse" else DataType.FLOAT_VECTOR
    fields = [
        {"name": field, "type": data_type, "params": {}, **parameters}
        for field, (data_type, parameters) in declared.items()
    ]
    fields.append({"name": VECTOR_FIELD, "type": vector_type, "params": {}})
    expected = Prepare.row_upsert_param("name", rows, "", fields, [], enable_dynamic=True)
    if kind == "sparse":
        for row, vector in zip(rows, sparse_bytes(_csr(VECTORS[kind])), strict=True):
            row[VECTOR_FIELD] = vector
    assert upsert_request("name", kind, rows) == expected


def _csr(vectors: list[dict[int, float]]) -> Sparse:
    return Sparse(
        np.cumsum([0, *map(len, vectors)]),
        np.array([index for vector in vectors for index in vector], np.uint32),
        np.array([value for vector in vectors for value in vector.values()], np.float32),
    )
