"""Exact nearest neighbours by looking at every vector, batch after batch: what an index is measured against.

Pure numbers; memory is bounded by a batch and by the queries.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from rag_assets.pipeline.vectors import Sparse

#: Two inner products this close are equal: float32 sums in another order, and float16 files.
EPSILON = 1e-4


def dense_scores(queries: NDArray[np.float32], rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Inner products [queries, rows]."""
    return queries @ rows.T


def sparse_scores(queries: Sparse, rows: Sparse) -> NDArray[np.float32]:
    """Inner products [queries, rows]. Takes 4 bytes for each row and term of a query."""
    terms = np.unique(queries.indices)
    return _over(terms, queries) @ _over(terms, rows).T


def _over(terms: NDArray[np.uint32], vectors: Sparse) -> NDArray[np.float32]:
    """The weights of these terms (ascending) alone, as a full matrix [vectors, terms]."""
    matrix = np.zeros((len(vectors), len(terms)), np.float32)
    if not len(terms):
        return matrix
    rows = np.repeat(np.arange(len(vectors)), np.diff(vectors.indptr))
    columns = np.minimum(np.searchsorted(terms, vectors.indices), len(terms) - 1)
    among = terms[columns] == vectors.indices
    matrix[rows[among], columns[among]] = vectors.values[among]
    return matrix


@dataclass
class Recall:
    """How many of the nearest `k` of each query an index found. `found`: query by query the ids that it gave.

    By score, not by id (as ann-benchmarks does): one of several rows that are equally near is as good as another.
    `only_positive`: rows without a common term are no neighbours (sparse vectors).
    """

    found: Sequence[Sequence[str]]
    k: int
    only_positive: bool = False
    _nearest: NDArray[np.float32] = field(init=False)
    _scores: list[dict[str, float]] = field(init=False)
    _queries_of: Mapping[str, list[int]] = field(init=False)

    def __post_init__(self) -> None:
        self._nearest = np.full((len(self.found), 0), -np.inf, np.float32)
        self._scores = [{} for _ in self.found]
        queries: dict[str, list[int]] = {}
        for query, ids in enumerate(self.found):
            for row_id in set(ids):
                queries.setdefault(row_id, []).append(query)
        self._queries_of = queries

    def add(self, ids: Sequence[str], scores: NDArray[np.float32]) -> None:
        """The exact scores [queries, rows] of the rows with these ids."""
        for column, row_id in enumerate(ids):
            for query in self._queries_of.get(row_id, ()):
                self._scores[query][row_id] = float(scores[query, column])
        together = np.concatenate([self._nearest, scores], axis=1)
        if together.shape[1] > self.k:
            together = np.partition(together, -self.k, axis=1)[:, -self.k :]
        self._nearest = together

    def value(self) -> float | None:
        """The mean over the queries that have neighbours; None: no query has."""
        shares = []
        for nearest, scores in zip(self._nearest, self._scores):
            neighbours = nearest[nearest > 0] if self.only_positive else nearest
            if not len(neighbours):
                continue
            least = float(neighbours.min())
            enough = least - EPSILON * max(1.0, abs(least))
            hits = sum(score >= enough for score in scores.values())
            shares.append(min(hits, len(neighbours)) / len(neighbours))
        return float(np.mean(shares)) if shares else None
