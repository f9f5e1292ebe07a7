"""Whether stored vectors can be right: finite, of the declared dimension, of norm 1, and those of their texts.

A row whose fingerprint is right may still hold a wrong vector: nobody's hash covers the numbers that a server keeps.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from rag_assets.pipeline.vectors import NORM_TOLERANCE

#: How far a stored vector may be from the embedding of its text, as a share of that one's length: a cosine of 1 - 1e-3.
#: float16 files cost 5e-4.
DISTANCE_TOLERANCE = math.sqrt(2e-3)

Vector = Sequence[float] | NDArray[np.float32] | Mapping[int, float]


def flaw(vector: Vector, *, dimension: int, vocabulary: int | None = None) -> str | None:
    """What is wrong with a stored vector by itself, or None. A mapping (index -> weight) is a sparse one."""
    if isinstance(vector, Mapping):
        return _sparse_flaw(vector, vocabulary)
    numbers = np.asarray(vector, np.float64)
    if numbers.shape != (dimension,):
        return f"expected dimension {dimension}, found {numbers.size}"
    if not np.isfinite(numbers).all():
        return f"expected finite numbers, found {int((~np.isfinite(numbers)).sum())} others"
    norm = float(np.linalg.norm(numbers))
    if abs(norm - 1) > NORM_TOLERANCE:
        return f"expected norm 1, found {norm:.6g}"
    return None


def _sparse_flaw(weights: Mapping[int, float], vocabulary: int | None) -> str | None:
    if not weights:
        return "expected at least one term, found none"
    wrong = [weight for weight in weights.values() if not (math.isfinite(weight) and weight > 0)]
    if wrong:
        return f"expected finite weights above 0, found {wrong[0]}"
    if vocabulary is not None and max(weights) >= vocabulary:
        return f"expected terms below {vocabulary}, found {max(weights)}"
    return None


def distance(vector: Vector, embedded: Vector) -> float:
    """How far a stored vector is from the embedding of its text, as a share of the latter's length.

    A dense embedding is compared at length 1, as it is stored.
    """
    if isinstance(vector, Mapping) or isinstance(embedded, Mapping):
        assert isinstance(vector, Mapping)
        assert isinstance(embedded, Mapping)
        terms = list(vector.keys() | embedded.keys())
        stored = np.array([vector.get(term, 0.0) for term in terms])
        wanted = np.array([embedded.get(term, 0.0) for term in terms])
    else:
        stored, wanted = np.asarray(vector, np.float64), np.asarray(embedded, np.float64)
        wanted = wanted / np.linalg.norm(wanted)
    if stored.shape != wanted.shape:
        return math.inf
    return float(np.linalg.norm(stored - wanted) / np.linalg.norm(wanted))


def own_score(vector: Vector) -> float:
    """The inner product of a vector with itself: what a search for it scores itself at."""
    numbers = np.asarray(
        list(vector.values()) if isinstance(vector, Mapping) else vector, np.float64
    )
    return float(numbers @ numbers)


def finds(hits: Sequence[tuple[str, float]], row_id: str, score: float, limit: int) -> bool:
    """Whether a search for a row's own vector found it: it is there, or only rows as good or better are.

    Equal vectors score alike, and under the inner product a longer sparse vector may score more: these are right.
    """
    if any(found == row_id for found, _ in hits):
        return True
    return len(hits) >= limit and hits[-1][1] >= score - NORM_TOLERANCE * max(1.0, score)
