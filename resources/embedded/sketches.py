"""Sketches of vectors: half a byte for each four numbers, in memory beside the vectors. They find candidates.

A search reads all sketches (128 bytes of a vector of 1,024 numbers), takes the rows with the highest estimates, and
computes their exact inner products from the vectors. So scores are exact, and a row is missed only if more rows than
the requested candidates have higher estimates. docs/explanation/embedded-search.md has the measured recall. No Milvus
Lite here.
"""

from __future__ import annotations

import logging
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np

#: Any: its names are made at import, where pyright does not see them.
_faiss: Any = faiss

#: Below this number of rows an exact search is as fast.
FEWEST = 4_000
#: Rows from which the code books are learned, and the steps of learning: 0.4 s of one processor. With 4,000 rows and 25
#: steps, 2 s, the recall was higher by 0.000 among the best 10 rows and by 0.002 among the best 50.
LEARNED, STEPS = 2_000, 10
#: Numbers of a vector for each half byte.
NUMBERS = 4
#: Share of live rows below which an exact search of them is faster.
SPARSE = 0.1

_building = ThreadPoolExecutor(1, thread_name_prefix="sketches")


@dataclass(frozen=True)
class Sketch:
    """`index`: of faiss. `vectors`: the rows that it was made of, [rows, dimension], contiguous float32."""

    index: Any
    vectors: np.ndarray

    @classmethod
    def of(cls, vectors: np.ndarray) -> Sketch | None:
        """Return the sketch of the vectors; None if they are too few, or their dimension is no multiple of four."""
        rows, dimension = vectors.shape
        if rows < FEWEST or dimension % (2 * NUMBERS) or not vectors.flags.c_contiguous:
            return None
        index = _faiss.IndexPQFastScan(
            dimension, dimension // NUMBERS, 4, _faiss.METRIC_INNER_PRODUCT
        )
        chosen = np.random.default_rng(0).choice(rows, min(rows, LEARNED), replace=False)
        index.pq.cp.niter = STEPS
        index.train(vectors[np.sort(chosen)])
        index.add(vectors)
        return cls(index, vectors)

    def nearest(
        self, queries: np.ndarray, top_k: int, mask: np.ndarray | None, candidates: int
    ) -> tuple[np.ndarray, np.ndarray] | None:
        """Return distances (negative inner products) and rows of each query, best first, [queries, top_k].

        None if the mask leaves too few candidates: then the rows must be searched in another way.
        """
        rows, dimension = self.vectors.shape
        share = 1.0 if mask is None else float(mask.mean())
        # Estimates of rows that are not live take places.
        asked = min(rows, int(candidates / max(share, 1e-9)))
        if share < SPARSE or top_k > candidates:
            return None
        _, ids = self.index.search(queries, asked)
        if mask is not None:
            ids = np.where(mask[ids] & (ids >= 0), ids, -1)
            # Where a filter goes with the topic, fewer of the candidates are live than of all rows.
            enough = min(max(candidates // 4, top_k), int(mask.sum()))
            if ((ids >= 0).sum(axis=1) < enough).any():
                return None
        # In the order of memory: two thirds of the time of random order.
        ids = np.sort(ids, axis=1)
        products = np.empty(ids.shape, np.float32)
        _faiss.fvec_inner_products_by_idx(
            _faiss.swig_ptr(products), _faiss.swig_ptr(queries), _faiss.swig_ptr(self.vectors),
            _faiss.swig_ptr(ids), dimension, *ids.shape,
        )  # fmt: skip
        distances = np.where(ids < 0, np.inf, -products)
        if top_k < asked:
            places = np.argpartition(distances, top_k - 1, axis=1)[:, :top_k]
            ids = np.take_along_axis(ids, places, 1)
            distances = np.take_along_axis(distances, places, 1)
        order = np.lexsort((ids, distances), axis=1)
        return np.take_along_axis(distances, order, 1), np.take_along_axis(ids, order, 1)


def begin(vectors: np.ndarray) -> Future[Sketch | None]:
    """Make the sketch in a background thread, one at a time."""
    return _building.submit(_sketch, vectors)


def _sketch(vectors: np.ndarray) -> Sketch | None:
    try:
        return Sketch.of(vectors)
    except Exception:
        # Of any type: faiss and memory. Without a sketch, searches use the index.
        logging.exception("the sketches of %d vectors could not be made", len(vectors))
        return None
