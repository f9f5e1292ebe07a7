"""Fusion of the rankings of several searches, and late interaction. Pure numbers."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

K = TypeVar("K", bound=Hashable)

#: Rank constant of reciprocal-rank fusion: Cormack, Clarke, Büttcher, SIGIR 2009.
RRF_K = 60
#: Score of the last key of a ranking, relative to the first one.
LEAST_PART = 0.001


def reciprocal_rank_fusion(
    rankings: Sequence[Sequence[K]], *, k: int = RRF_K
) -> list[tuple[K, float]]:
    """Fuse rankings (best first, each key once): score = Σ 1 / (k + rank), ranks from 1.

    Returns the best first; ties in order of appearance.
    """
    scores: dict[K, float] = {}
    for ranking in rankings:
        for rank, key in enumerate(ranking, start=1):
            scores[key] = scores.get(key, 0.0) + 1.0 / (k + rank)
    return sorted(scores.items(), key=lambda item: -item[1])


def weighted_fusion(
    rankings: Sequence[Sequence[tuple[K, float]]], weights: Sequence[float]
) -> list[tuple[K, float]]:
    """Fuse scored rankings (best first, each key once): the weighted sum of scores, scaled to 0…1 in each ranking.

    Min-max normalised convex combination (Bruch, Gai, Ingber, TOIS 2023); a key that a ranking lacks scores 0 there.
    The last of a ranking scores LEAST_PART, since it has something in common with the query; a ranking of weight 0
    adds no key. Returns the best first; ties in order of appearance.
    """
    scores: dict[K, float] = {}
    for ranking, weight in zip(rankings, weights, strict=True):
        if weight == 0:
            continue
        for key, part in scaled(ranking).items():
            scores[key] = scores.get(key, 0.0) + weight * part
    return sorted(scores.items(), key=lambda item: -item[1])


def scaled(ranking: Sequence[tuple[K, float]]) -> dict[K, float]:
    """Return the scores of a ranking scaled to LEAST_PART…1; all 1 if they are equal."""
    if not ranking:
        return {}
    best, worst = ranking[0][1], ranking[-1][1]
    span = best - worst
    return {
        key: LEAST_PART + (1 - LEAST_PART) * (score - worst) / span if span > 0 else 1.0
        for key, score in ranking
    }


def maxsim(query: NDArray[np.float32], document: NDArray[np.float32]) -> float:
    """Late interaction (ColBERT, Khattab and Zaharia 2020; BGE-M3 averages over the query's tokens).

    `query` [q, d] and `document` [t, d], rows of norm 1. Returns the mean over query tokens of the best inner product;
    0 if either is empty.
    """
    if not len(query) or not len(document):
        return 0.0
    return float((query @ document.T).max(axis=1).mean())


def rank_by_maxsim(
    query: NDArray[np.float32], documents: Mapping[K, NDArray[np.float32]]
) -> list[tuple[K, float]]:
    """Return the keys with their MaxSim, best first."""
    return sorted(
        ((key, maxsim(query, document)) for key, document in documents.items()),
        key=lambda item: -item[1],
    )
