"""Which index, and which search parameters: what measurements and a few rules say. Pure numbers.

The rules and where they come from: docs/search-indexes.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Trial:
    """What one set of search parameters found and took. `recall`: of the ten nearest; milliseconds of single searches.

    `best`: no other trial has a higher recall in less time.
    """

    search: Mapping[str, Any]
    recall: float
    p50: float
    p95: float
    best: bool = False

    @property
    def label(self) -> str:
        return ", ".join(f"{name} {value}" for name, value in self.search.items()) or "exact"

    def as_dict(self) -> dict[str, Any]:
        return {
            "search": dict(self.search),
            "recall@10": round(self.recall, 4),
            "p50_ms": round(self.p50, 3),
            "p95_ms": round(self.p95, 3),
            "pareto": self.best,
        }


def pareto(points: Sequence[tuple[float, float]]) -> list[bool]:
    """Of (recall, milliseconds): whether no other point is at least as good in both and better in one."""
    return [
        not any(
            recall >= own_recall and ms <= own_ms and (recall, ms) != (own_recall, own_ms)
            for recall, ms in points
        )
        for own_recall, own_ms in points
    ]


def choose(trials: Sequence[Trial], recall: float) -> Trial:
    """Of trials, the cheapest first, the first one that finds so much; where none does, the one that finds most."""
    enough = (trial for trial in trials if trial.recall >= recall)
    return next(enough, None) or max(trials, key=lambda trial: trial.recall)


# Recommendations ---------------------------------------------------------------------------------------------------

#: Of the memory that is given: Milvus refuses to load beyond 90 % of its own, and an index is there twice while
#: segments are compacted.
USABLE = 0.7
#: Bytes of vectors that a search reads in a millisecond where it reads them all, and milliseconds of any search.
SCANNED, REQUEST_MS = 8e6, 2.0
#: kind -> (recall@10 that search parameters can reach, milliseconds of HNSW's at 0.95 as a multiple). Measured.
REACH: Mapping[str, float] = {
    "FLAT": 1.0,
    "HNSW": 0.99,
    "IVF_FLAT": 0.99,
    "IVF_SQ8": 0.97,
    "HNSW_SQ": 0.97,
    "DISKANN": 0.98,
    "IVF_PQ": 0.6,
    "GPU_BRUTE_FORCE": 1.0,
    "GPU_CAGRA": 0.99,
    "GPU_IVF_PQ": 0.6,
}
