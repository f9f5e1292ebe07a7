"""The request of an upsert, encoded by columns.

pymilvus encodes a list of rows value by value, in 0.2 ms a dense row and 0.35 ms a sparse one: as long as it takes to
parse and split the text. By columns the equal request takes a tenth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import orjson
from google.protobuf.wrappers_pb2 import BytesValue

from rag_assets.pipeline.vectors import Kind, Sparse
from resources.milvus.collections import VECTOR_FIELD, scalars
from resources.milvus.driver import (
    DataType,
    FieldData,
    ScalarField,
    StringArray,
    UpsertRequest,
)

#: The field of values that no field is declared for. Rows have none.
_UNDECLARED = "$meta"


def upsert_request(name: str, kind: Kind, rows: Sequence[Mapping[str, Any]]) -> UpsertRequest:
    """Return the request to upsert rows that have all declared fields; a sparse vector is one of `sparse_bytes`."""
    types = {"id": DataType.VARCHAR, **{key: type_ for key, (type_, _) in scalars(kind).items()}}
    fields = [_scalars(key, type_, [row[key] for row in rows]) for key, type_ in types.items()]
    fields.append(_vectors(kind, [row[VECTOR_FIELD] for row in rows]))
    undeclared = FieldData(field_name=_UNDECLARED, type=DataType.JSON.value, is_dynamic=True)
    undeclared.scalars.json_data.data.extend([b"{}"] * len(rows))
    return UpsertRequest(
        collection_name=name, num_rows=len(rows), fields_data=[*fields, undeclared]
    )


def sparse_bytes(vectors: Sparse) -> list[bytes]:
    """Return each vector as pairs (index, value)."""
    pairs = np.empty(len(vectors.indices), [("index", "<u4"), ("value", "<f4")])
    pairs["index"], pairs["value"] = vectors.indices, vectors.values
    return [pairs[start:end].tobytes() for start, end in pairwise(vectors.indptr.tolist())]


def _scalars(name: str, data_type: Any, values: Sequence[Any]) -> FieldData:
    column = FieldData(field_name=name, type=data_type.value)
    match data_type:
        case DataType.VARCHAR:
            column.scalars.string_data.data.extend(values)
        case DataType.INT32:
            column.scalars.int_data.data.extend(values)
        case DataType.INT64:
            column.scalars.long_data.data.extend(values)
        case DataType.JSON:
            column.scalars.json_data.data.extend(orjson.dumps(value) for value in values)
        case _:
            # Arrays of texts.
            column.scalars.array_data.data.extend(
                ScalarField(string_data=StringArray(data=value)) for value in values
            )
    return column


def _vectors(kind: Kind, vectors: Sequence[Any]) -> FieldData:
    if kind == "sparse":
        column = FieldData(field_name=VECTOR_FIELD, type=DataType.SPARSE_FLOAT_VECTOR.value)
        column.vectors.sparse_float_vector.contents.extend(vectors)
        return column
    column = FieldData(field_name=VECTOR_FIELD, type=DataType.FLOAT_VECTOR.value)
    column.vectors.dim = len(vectors[0])
    # On the wire, a list of numbers is written like one value of bytes, which takes no Python number each.
    packed = BytesValue(value=np.asarray(vectors, "<f4").tobytes()).SerializeToString()
    column.vectors.float_vector.MergeFromString(packed)
    return column
