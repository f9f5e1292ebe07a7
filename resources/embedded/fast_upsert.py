"""Milvus Lite's upserts and flushes without Python for each number: the same log records and files, made by column.

In Milvus Lite 3.2.2 an upsert turns the columns of a request into rows with lists of Python floats, tests each number,
and turns the rows into columns again; a flush does that once more: 15 s of processor time for 20,000 vectors of 1,024
numbers, here 2. docs/explanation/embedded-search.md has the measurements.

By column are upserts of whole rows: every declared field is there for every row, without null or undeclared values.
The original code takes all others, so it also makes every error. From the batch on, everything is Milvus Lite's own:
log, memory, flush, recovery. `install` does nothing with another version of Milvus Lite than the one it was compared
with. The tests compare the batches. Loaded only in the process of Milvus Lite.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
import pyarrow as pa
from google.protobuf.wrappers_pb2 import BytesValue

from resources.embedded import milvus_lite_internals as lite

#: The field of a request with the values that no field is declared for, and the column of such values.
UNDECLARED = "$meta"
#: The highest index of a sparse vector; Milvus reserves the next one.
HIGHEST_INDEX = 2**32 - 2


@dataclass(frozen=True)
class Columns:
    """The columns of a request, which Milvus Lite's service hands on instead of rows."""

    fields: Sequence[Any]
    count: int
    make_rows: Callable[[], list[dict[str, Any]]]


def install() -> bool:
    """Replace upserts and flushes of Milvus Lite in this process. Return False with a version that is not known."""
    if lite.fingerprint(lite.UPSERT_CODE) != lite.KNOWN_UPSERT:
        return False
    cls: Any = lite.Collection
    memory: Any = lite.MemTable
    service = lite.servicer
    make_rows, insert_rows, upsert_rows = service.fields_data_to_records, cls.insert, cls.upsert
    build_table = memory._build_data_table

    def columns(fields: Sequence[Any], count: int, **options: Any) -> Columns:
        return Columns(fields, count, functools.partial(make_rows, fields, count, **options))

    def insert(self: Any, records: Any, partition_name: str = "_default") -> list[Any]:
        rows = records.make_rows() if isinstance(records, Columns) else records
        return insert_rows(self, rows, partition_name=partition_name)

    def upsert(self: Any, records: Any, partition_name: str = "_default") -> list[Any]:
        if isinstance(records, Columns):
            if (batch := batch_of(self, records, partition_name)) is not None:
                return _write(self, batch, partition_name)
            records = records.make_rows()
        return upsert_rows(self, records, partition_name=partition_name)

    def flushed_table(self: Any, rows: Sequence[tuple[int, int]]) -> pa.Table:
        table = take_rows(self._insert_batches, rows, self._data_schema)
        return build_table(self, rows) if table is None else table

    service.fields_data_to_records = columns
    cls.insert, cls.upsert, memory._build_data_table = insert, upsert, flushed_table
    return True


def batch_of(collection: Any, columns: Columns, partition: str) -> pa.RecordBatch | None:
    """Return the batch that Milvus Lite makes of the request; None if only its own code can make it, or an error."""
    schema, count = collection._schema, columns.count
    if (
        not count
        or schema.functions
        or collection._auto_id
        or collection._partition_key_field is not None
        or not collection._manifest.has_partition(partition)
        or _has_undeclared_values(collection)
    ):
        return None
    fields = {field.field_name: field for field in columns.fields}
    if len(fields) < len(columns.fields) or any(field.valid_data for field in columns.fields):
        return None
    undeclared = fields.pop(UNDECLARED, None)
    if undeclared is not None and not _is_empty(undeclared, count):
        return None
    if fields.keys() != {declared.name for declared in schema.fields}:
        return None
    first = collection._next_seq
    arrays = [
        pa.array(np.arange(first, first + count, dtype=np.uint64)),
        pa.array([partition] * count, pa.string()),
    ]
    for declared in schema.fields:
        field, read = fields[declared.name], READERS.get(declared.dtype)
        array = None if read is None or field.is_dynamic else read(declared, field, count)
        if array is None:
            return None
        arrays.append(array)
    if schema.enable_dynamic_field:
        arrays.append(pa.nulls(count, pa.string()))
    return pa.RecordBatch.from_arrays(arrays, schema=collection._wal_data_schema)


def take_rows(
    batches: Sequence[pa.RecordBatch], rows: Sequence[tuple[int, int]], schema: pa.Schema
) -> pa.Table | None:
    """Return the rows (number of the batch, row in it) as one table; None if the batches have other fields."""
    offsets = [0, *accumulate(batch.num_rows for batch in batches)]
    if not rows or any(batch.schema != batches[0].schema for batch in batches):
        return None
    if not set(schema.names) <= set(batches[0].schema.names):
        return None
    table = pa.Table.from_batches(batches).select(schema.names)
    if table.schema != schema:
        return None
    places = pa.array([offsets[batch] + row for batch, row in rows], pa.int64())
    return table.take(places).combine_chunks()


def _write(collection: Any, batch: pa.RecordBatch, partition: str) -> list[Any]:
    """The end of `Collection.insert`."""
    collection._next_seq += batch.num_rows
    collection._apply(lite.InsertOp(partition=partition, batch=batch))
    if collection._should_flush():
        collection._trigger_flush()
    return batch.column(collection._pk_name).to_pylist()


def _has_undeclared_values(collection: Any) -> bool:
    """Whether a row has some: an upsert keeps those of the row that it replaces. It replaces all other values."""
    if not collection._schema.enable_dynamic_field:
        return False
    stored = (
        *collection._memtable._insert_batches,
        *(segment.table for segment in collection._segments_snapshot()),
    )
    return any(rows.column(UNDECLARED).null_count < rows.num_rows for rows in stored)


def _is_empty(undeclared: Any, count: int) -> bool:
    values = undeclared.scalars.json_data.data
    return (
        undeclared.type == lite.schema_pb2.JSON
        and len(values) == count
        and all(value == b"{}" for value in values)
    )


def _texts(declared: Any, field: Any, count: int) -> pa.Array | None:
    values = list(field.scalars.string_data.data)
    if field.type != lite.schema_pb2.VarChar or len(values) != count:
        return None
    if declared.max_length is not None and max(map(len, values)) > declared.max_length:
        return None
    return pa.array(values, pa.string())


def _int32s(_declared: Any, field: Any, count: int) -> pa.Array | None:
    values = list(field.scalars.int_data.data)
    if field.type != lite.schema_pb2.Int32 or len(values) != count:
        return None
    return pa.array(values, pa.int32())


def _int64s(_declared: Any, field: Any, count: int) -> pa.Array | None:
    values = list(field.scalars.long_data.data)
    if field.type != lite.schema_pb2.Int64 or len(values) != count:
        return None
    return pa.array(values, pa.int64())


def _json(_declared: Any, field: Any, count: int) -> pa.Array | None:
    """Objects and arrays, written again as Milvus Lite writes them."""
    values = list(field.scalars.json_data.data)
    if field.type != lite.schema_pb2.JSON or len(values) != count:
        return None
    texts: dict[bytes, bytes] = {}
    for value in set(values):
        try:
            read = json.loads(value.decode())
            # Half a surrogate pair has no bytes.
            texts[value] = json.dumps(read, ensure_ascii=False).encode()
        except (ValueError, RecursionError):
            return None
        if not isinstance(read, dict | list):
            return None
    return pa.array([texts[value] for value in values], pa.string())


def _arrays(declared: Any, field: Any, count: int) -> pa.Array | None:
    """Arrays of texts. An array without values may have no type."""
    rows = field.scalars.array_data.data
    if (
        field.type != lite.schema_pb2.Array
        or declared.element_type != lite.DataType.VARCHAR
        or len(rows) != count
        or any(row.WhichOneof("data") not in ("string_data", None) for row in rows)
    ):
        return None
    values = [list(row.string_data.data) for row in rows]
    if declared.max_capacity is not None and max(map(len, values)) > declared.max_capacity:
        return None
    return pa.array(values, pa.list_(pa.string()))


def _dense(declared: Any, field: Any, count: int) -> pa.Array | None:
    """Vectors of finite numbers: the bytes of the request."""
    vectors = field.vectors
    if (
        field.type != lite.schema_pb2.FloatVector
        or vectors.WhichOneof("data") != "float_vector"
        or vectors.dim != declared.dim
    ):
        return None
    # On the wire, a list of numbers is written like one value of bytes, which takes no Python number each.
    packed = BytesValue.FromString(vectors.float_vector.SerializeToString()).value
    numbers = np.frombuffer(packed, "<f4")
    if len(numbers) != count * declared.dim or not np.isfinite(numbers).all():
        return None
    return pa.FixedSizeListArray.from_arrays(pa.array(numbers), declared.dim)


def _sparse(_declared: Any, field: Any, count: int) -> pa.Array | None:
    """Vectors of ascending indexes and positive finite weights: Milvus Lite stores the bytes of the request."""
    contents = list(field.vectors.sparse_float_vector.contents)
    if field.type != lite.schema_pb2.SparseFloatVector or len(contents) != count:
        return None
    if any(not vector or len(vector) % 8 for vector in contents):
        return None
    pairs = np.frombuffer(b"".join(contents), [("index", "<u4"), ("weight", "<f4")])
    indexes, weights = pairs["index"], pairs["weight"]
    ascending = indexes[1:] > indexes[:-1]
    ends = np.cumsum([len(vector) // 8 for vector in contents])[:-1]
    ascending[ends - 1] = True
    if (
        not ascending.all()
        or indexes.max() > HIGHEST_INDEX
        or not ((weights > 0) & (weights < np.inf)).all()
    ):
        return None
    return pa.array(contents, pa.binary())


#: Readers of the columns that are read without rows: (declared field, field of the request, number of rows).
READERS: Mapping[Any, Callable[[Any, Any, int], pa.Array | None]] = {
    lite.DataType.VARCHAR: _texts,
    lite.DataType.INT32: _int32s,
    lite.DataType.INT64: _int64s,
    lite.DataType.JSON: _json,
    lite.DataType.ARRAY: _arrays,
    lite.DataType.FLOAT_VECTOR: _dense,
    lite.DataType.SPARSE_FLOAT_VECTOR: _sparse,
}
