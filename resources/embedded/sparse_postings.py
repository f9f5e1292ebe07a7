"""Sparse vectors by dimension, and their inner products with a query. NumPy arrays, no Milvus Lite.

The scores are those of Milvus Lite's `SparseIpIndex` to the last bit, and equal scores are in its order: products are
added in float64 in the order of the query's dimensions, and of equal rows that which a query touches first comes first.
A number costs 8 bytes; as a tuple of Python in Milvus Lite, more than 100.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import compute

#: Any: pyarrow makes these functions at import, where pyright does not see them.
_pc: Any = compute

_PAIR = np.dtype([("dimension", "<u4"), ("weight", "<f4")])
#: The largest dimension is reserved by Milvus.
_RESERVED = 2**32 - 1


@dataclass(frozen=True)
class Postings:
    """`rows` and `weights`: of dimension `dimensions[i]` from `starts[i]` to `starts[i + 1]`, in the order of rows."""

    num_rows: int
    dimensions: np.ndarray
    starts: np.ndarray
    rows: np.ndarray
    weights: np.ndarray

    @classmethod
    def of_column(cls, column: pa.ChunkedArray) -> Postings | None:
        """Return the postings of a column of packed vectors.

        None for values that Milvus Lite does not accept, or that name a dimension twice: only it knows their meaning.
        """
        array = column.combine_chunks()
        array = array if isinstance(array, pa.Array) else pa.concat_arrays(array.chunks)
        if not pa.types.is_binary(array.type):
            return None
        array = array.fill_null(b"")
        lengths = np.asarray(_pc.binary_length(array), np.int64)
        if (lengths % _PAIR.itemsize).any():
            return None
        buffer = array.buffers()[2]
        first = np.frombuffer(array.buffers()[1], np.int32)[array.offset] if len(array) else 0
        pairs = (
            np.frombuffer(buffer, _PAIR, int(lengths.sum()) // _PAIR.itemsize, int(first))
            if buffer is not None and lengths.any()
            else np.empty(0, _PAIR)
        )
        rows = np.repeat(np.arange(len(array), dtype=np.int32), lengths // _PAIR.itemsize)
        dimensions, weights = pairs["dimension"], pairs["weight"]
        if (dimensions == _RESERVED).any() or not (np.isfinite(weights) & (weights >= 0)).all():
            return None
        if not weights.all():
            rows, dimensions, weights = (each[weights != 0] for each in (rows, dimensions, weights))
        order = np.argsort(dimensions, kind="stable")
        rows, dimensions, weights = rows[order], dimensions[order], weights[order]
        changes = np.flatnonzero(dimensions[1:] != dimensions[:-1]) + 1
        twice = (rows[1:] == rows[:-1]) & (dimensions[1:] == dimensions[:-1])
        if twice.any():
            return None
        starts = np.concatenate([[0], changes, [len(rows)]]) if len(rows) else np.zeros(1, int)
        return cls(len(array), dimensions[starts[:-1]], starts, rows, weights)

    def nearest(
        self, query: Mapping[int, float], top_k: int, mask: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return rows and distances (negative scores, float32) of at most `top_k` rows, best first."""
        parts = [
            (part, weight)
            for dimension, weight in query.items()
            if (part := self._part(dimension)) is not None
        ]
        if not parts or top_k <= 0:
            return np.empty(0, np.int64), np.empty(0, np.float32)
        rows = np.concatenate([self.rows[part] for part, _ in parts])
        products = np.concatenate(
            [self.weights[part].astype(np.float64) * weight for part, weight in parts]
        )
        # bincount adds in the order of the products.
        scores = np.bincount(rows, products, self.num_rows)
        if mask is not None:
            scores[~mask] = 0.0
        return self._best(scores, top_k, [self.rows[part] for part, _ in parts])

    def _part(self, dimension: int) -> slice | None:
        at = int(np.searchsorted(self.dimensions, dimension))
        if at == len(self.dimensions) or self.dimensions[at] != dimension:
            return None
        return slice(int(self.starts[at]), int(self.starts[at + 1]))

    @staticmethod
    def _best(
        scores: np.ndarray, top_k: int, touched: list[np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray]:
        found = np.flatnonzero(scores)
        if len(found) > top_k:
            least = np.partition(scores[found], len(found) - top_k)[len(found) - top_k]
            found = found[scores[found] >= least]
        values = scores[found]
        # The first of the query's dimensions that each row has, where it decides.
        firsts = np.zeros(len(found), np.int64)
        if len(np.unique(values)) < len(values):
            firsts[:] = len(touched)
            for number in reversed(range(len(touched))):
                rows = touched[number]
                places = np.minimum(np.searchsorted(rows, found), len(rows) - 1)
                firsts[rows[places] == found] = number
        order = np.lexsort((found, firsts, -values))[:top_k]
        return found[order].astype(np.int64), (-values[order]).astype(np.float32)
