"""Document frequencies of terms: they give a rare word of a query more weight than a common one.

They weight queries, never stored vectors: a new document must not change the vectors of the others.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from rag_assets.pipeline.vectors import Sparse


@dataclass(frozen=True)
class TermStatistics:
    """`frequencies[i]` (int64) of `texts` texts contain term `terms[i]` (uint32, strictly ascending)."""

    texts: int
    terms: NDArray[np.uint32]
    frequencies: NDArray[np.int64]

    @classmethod
    def none(cls) -> TermStatistics:
        return cls(0, np.zeros(0, np.uint32), np.zeros(0, np.int64))

    @classmethod
    def of(cls, texts: int, indices: NDArray[np.uint32]) -> TermStatistics:
        """Count the concatenated indices of sparse vectors, in each of which a term occurs once."""
        terms, counts = np.unique(indices, return_counts=True)
        return cls(texts, terms.astype(np.uint32), counts.astype(np.int64))

    def merged(self, other: TermStatistics) -> TermStatistics:
        terms, inverse = np.unique(np.concatenate([self.terms, other.terms]), return_inverse=True)
        sums = np.zeros(len(terms), np.int64)
        np.add.at(sums, inverse, np.concatenate([self.frequencies, other.frequencies]))
        return TermStatistics(self.texts + other.texts, terms, sums)

    def rarity(self, indices: NDArray[np.uint32]) -> NDArray[np.float32]:
        """log(1 + (N - n + 0.5) / (n + 0.5)) of each term: BM25's inverse document frequency, in Lucene's form.

        (Robertson and Zaragoza 2009; the 1 keeps it above 0.) All 1 if nothing was counted.
        """
        if not self.texts:
            return np.ones(len(indices), np.float32)
        places, counted = self._places(indices)
        n = np.zeros(len(indices))
        n[counted] = np.minimum(self.frequencies[places[counted]], self.texts)
        return np.log1p((self.texts - n + 0.5) / (n + 0.5)).astype(np.float32)

    def known_share(self, indices: NDArray[np.uint32]) -> float:
        """Return the share of the terms that occur in a text; 0 of none."""
        return float(self._places(indices)[1].mean()) if len(indices) else 0.0

    def _places(self, indices: NDArray[np.uint32]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Return where each term is in `terms`, and whether it is."""
        places = np.searchsorted(self.terms, indices)
        counted = places < len(self.terms)
        counted[counted] = self.terms[places[counted]] == indices[counted]
        return places, counted

    def to_bytes(self) -> bytes:
        """Return the terms and frequencies compressed: about 5 bytes per term."""
        steps = np.diff(self.terms, prepend=np.uint32(0)).astype("<u4")
        counts = np.minimum(self.frequencies, 2**32 - 1).astype("<u4")
        return zlib.compress(steps.tobytes() + counts.tobytes(), 1)

    @classmethod
    def from_bytes(cls, texts: int, packed: bytes) -> TermStatistics:
        numbers = np.frombuffer(zlib.decompress(packed), "<u4")
        half = len(numbers) // 2
        terms = np.cumsum(numbers[:half], dtype=np.uint32)
        return cls(texts, terms, numbers[half:].astype(np.int64))


@runtime_checkable
class WeighsQueries(Protocol):
    """An embedder whose sparse queries must be weighted by the rarity of their terms. (Learned ones need none.)"""

    def weigh_queries(self, queries: Sparse, statistics: TermStatistics) -> Sparse: ...
