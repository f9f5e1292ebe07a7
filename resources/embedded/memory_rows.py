"""The rows and deletions that Milvus Lite has in memory, as arrays: a copy, which is kept until they change."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from resources.embedded.kept import Kept
from resources.embedded.milvus_lite_internals import evaluate_mask, evaluate_row
from resources.embedded.sparse_postings import Postings


@dataclass
class Memory:
    """The rows in memory, in the order in which Milvus Lite searches them, and the deletions in memory.

    `places`: of each row in `table`, which has all batches that were written, replaced rows too.
    """

    pks: list[Any]
    seqs: np.ndarray
    places: np.ndarray
    table: pa.Table | None
    deletes: dict[Any, tuple[int, str]]
    _filters: Kept[tuple[int, bool], tuple[Any, np.ndarray]] = field(
        default_factory=lambda: Kept(8)
    )
    _postings: dict[str, Postings | None] = field(default_factory=dict)
    _vectors: dict[str, np.ndarray] = field(default_factory=dict)

    @classmethod
    def read(cls, memtable: Any) -> Memory:
        with memtable._lock:
            batches = tuple(memtable._insert_batches)
            positions = list(memtable._pk_index.items())
            deletes = dict(memtable._delete_index)
        offsets = np.cumsum([0, *(batch.num_rows for batch in batches)])
        return cls(
            [pk for pk, _ in positions],
            np.array([seq for _, (_, _, seq) in positions], np.uint64),
            np.array([offsets[batch] + row for _, (batch, row, _) in positions], np.int64),
            pa.Table.from_batches(batches) if batches else None,
            deletes,
        )

    @cached_property
    def partitions(self) -> np.ndarray:
        assert self.table is not None
        names = self.table.column("_partition").to_numpy()
        return names[self.places]

    def inside(self, partitions: frozenset[str] | None) -> np.ndarray:
        if partitions is None or not self.pks:
            return np.ones(len(self.pks), bool)
        return np.isin(self.partitions, list(partitions))

    def filter_mask(self, compiled: Any, *, by_row: bool) -> np.ndarray:
        """Milvus Lite evaluates a filter by column in a dense search, and by row in a sparse one: nulls differ."""

        def evaluate() -> tuple[Any, np.ndarray]:
            assert self.table is not None
            if not by_row:
                return compiled, evaluate_mask(compiled, self.table)[self.places]
            columns = [
                name
                for name in self.table.column_names
                if name in compiled.fields or name == "$meta"
            ]
            rows = self.table.select(columns).take(pa.array(self.places)).to_pylist()
            return compiled, np.array([bool(evaluate_row(compiled.ast, row)) for row in rows], bool)

        return self._filters.get((id(compiled), by_row), evaluate)[1]

    def vectors(self, field_name: str) -> np.ndarray:
        """The vectors of the rows; null is the zero vector, as in Milvus Lite."""
        if field_name not in self._vectors:
            assert self.table is not None
            column = self.table.column(field_name)
            parts = [np.asarray(chunk.flatten(), np.float32) for chunk in _without_nulls(column)]
            vectors = np.concatenate(parts).reshape(-1, column.type.list_size)
            self._vectors[field_name] = vectors[self.places]
        return self._vectors[field_name]

    def postings(self, field_name: str) -> Postings | None:
        if field_name not in self._postings:
            assert self.table is not None
            column = self.table.column(field_name).take(pa.array(self.places))
            self._postings[field_name] = Postings.of_column(column)
        return self._postings[field_name]


def _without_nulls(column: pa.ChunkedArray) -> list[Any]:
    """The chunks of a column of vectors; `flatten` would leave null vectors out."""
    size = column.type.list_size
    zeros = pa.scalar([0.0] * size, column.type)
    return [chunk.fill_null(zeros) if chunk.null_count else chunk for chunk in column.chunks]
