"""Validation of stored vectors: finite, of the declared dimension, of norm 1, and close to the embedding of the text.

A row with the right fingerprint may still contain a wrong vector: no hash covers the numbers that a server stores.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from rag_assets.pipeline.vectors import NORM_TOLERANCE

#: Maximum distance of a stored vector from the embedding of its text, relative to the length of the embedding: a cosine
#: of 1 - 1e-3. float16 files cost 5e-4.
DISTANCE_TOLERANCE = math.sqrt(2e-3)

Vector = Sequence[float] | NDArray[np.float32] | Mapping[int, float]


def validate_vector(vector: Vector, *, dimension: int, vocabulary: int | None = None) -> str | None:
    """Return the problem of a stored vector, or None. A mapping (index -> weight) is a sparse vector."""
    if isinstance(vector, Mapping):
        return _validate_sparse(vector, vocabulary)
    numbers = np.asarray(vector, np.float64)
    if numbers.shape != (dimension,):
        return f"expected dimension {dimension}, found {numbers.size}"
    if not np.isfinite(numbers).all():
        return f"expected finite numbers, found {int((~np.isfinite(numbers)).sum())} others"
    norm = float(np.linalg.norm(numbers))
    if abs(norm - 1) > NORM_TOLERANCE:
        return f"expected norm 1, found {norm:.6g}"
    return None


def _validate_sparse(weights: Mapping[int, float], vocabulary: int | None) -> str | None:
    if not weights:
        return "expected at least one term, found none"
    invalid = [weight for weight in weights.values() if not (math.isfinite(weight) and weight > 0)]
    if invalid:
        return f"expected finite weights above 0, found {invalid[0]}"
    if vocabulary is not None and max(weights) >= vocabulary:
        return f"expected terms below {vocabulary}, found {max(weights)}"
    return None


def distance(vector: Vector, embedded: Vector) -> float:
    """Return the distance of a stored vector from the embedding of its text, relative to the embedding's length.

    A dense embedding is scaled to length 1 first, like stored vectors. Infinite if the dimensions differ.
    """
    if isinstance(vector, Mapping) or isinstance(embedded, Mapping):
        assert isinstance(vector, Mapping)
        assert isinstance(embedded, Mapping)
        terms = list(vector.keys() | embedded.keys())
        stored = np.array([vector.get(term, 0.0) for term in terms])
        expected = np.array([embedded.get(term, 0.0) for term in terms])
    else:
        stored, expected = np.asarray(vector, np.float64), np.asarray(embedded, np.float64)
        expected = expected / np.linalg.norm(expected)
    if stored.shape != expected.shape:
        return math.inf
    return float(np.linalg.norm(stored - expected) / np.linalg.norm(expected))


def self_score(vector: Vector) -> float:
    """Return the inner product of a vector with itself: its own score in a search for it."""
    numbers = np.asarray(
        list(vector.values()) if isinstance(vector, Mapping) else vector, np.float64
    )
    return float(numbers @ numbers)


def self_retrieved(
    hits: Sequence[tuple[str, float]], row_id: str, score: float, limit: int
) -> bool:
    """Return whether a search for a row's own vector found the row, or only rows with the same score or a higher one.

    Equal vectors score alike, and under the inner product a longer sparse vector may score higher: both are valid.
    """
    if any(hit_id == row_id for hit_id, _ in hits):
        return True
    return len(hits) >= limit and hits[-1][1] >= score - NORM_TOLERANCE * max(1.0, score)
