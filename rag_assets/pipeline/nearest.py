"""Exact nearest neighbours: every vector is compared, batch after batch. The reference for measuring an index.

Pure numbers; memory is bounded by a batch and by the queries.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from rag_assets.pipeline.vectors import Sparse

#: Inner products that differ by less are equal: float32 sums depend on their order, and files contain float16.
EPSILON = 1e-4


def dense_scores(queries: NDArray[np.float32], rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Inner products [queries, rows]."""
    return queries @ rows.T


def sparse_scores(queries: Sparse, rows: Sparse) -> NDArray[np.float32]:
    """Inner products [queries, rows]. Takes 4 bytes of memory for each row and term of a query."""
    terms = np.unique(queries.indices)
    return _dense_weights(terms, queries) @ _dense_weights(terms, rows).T


def _dense_weights(terms: NDArray[np.uint32], vectors: Sparse) -> NDArray[np.float32]:
    """Return the weights of these terms (ascending) as a dense matrix [vectors, terms]."""
    matrix = np.zeros((len(vectors), len(terms)), np.float32)
    if not len(terms):
        return matrix
    rows = np.repeat(np.arange(len(vectors)), np.diff(vectors.indptr))
    columns = np.minimum(np.searchsorted(terms, vectors.indices), len(terms) - 1)
    selected = terms[columns] == vectors.indices
    matrix[rows[selected], columns[selected]] = vectors.values[selected]
    return matrix


@dataclass
class Recall:
    """The share of the nearest `k` of each query that an index found. `returned`: for each query, the ids it returned.

    Compares scores, not ids (as ann-benchmarks does): rows that are equally near are interchangeable.
    `only_positive`: rows without a common term are no neighbours (sparse vectors).
    """

    returned: Sequence[Sequence[str]]
    k: int
    only_positive: bool = False
    _nearest: NDArray[np.float32] = field(init=False)
    _scores: list[dict[str, float]] = field(init=False)
    _queries_of: Mapping[str, list[int]] = field(init=False)

    def __post_init__(self) -> None:
        self._nearest = np.full((len(self.returned), 0), -np.inf, np.float32)
        self._scores = [{} for _ in self.returned]
        queries: dict[str, list[int]] = {}
        for query, ids in enumerate(self.returned):
            for row_id in set(ids):
                queries.setdefault(row_id, []).append(query)
        self._queries_of = queries

    def add(self, ids: Sequence[str], scores: NDArray[np.float32]) -> None:
        """Add the exact scores [queries, rows] of the rows with these ids."""
        for column, row_id in enumerate(ids):
            for query in self._queries_of.get(row_id, ()):
                self._scores[query][row_id] = float(scores[query, column])
        nearest = np.concatenate([self._nearest, scores], axis=1)
        if nearest.shape[1] > self.k:
            nearest = np.partition(nearest, -self.k, axis=1)[:, -self.k :]
        self._nearest = nearest

    def value(self) -> float | None:
        """Return the mean over the queries that have neighbours; None if no query has any."""
        shares = []
        for nearest, scores in zip(self._nearest, self._scores):
            neighbours = nearest[nearest > 0] if self.only_positive else nearest
            if not len(neighbours):
                continue
            least = float(neighbours.min())
            threshold = least - EPSILON * max(1.0, abs(least))
            hits = sum(score >= threshold for score in scores.values())
            shares.append(min(hits, len(neighbours)) / len(neighbours))
        return float(np.mean(shares)) if shares else None
