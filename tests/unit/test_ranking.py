"""Fusion and late interaction, compared with implementations that a reader can check by eye."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_assets.pipeline.ranking import RRF_K, maxsim, rank_by_maxsim, reciprocal_rank_fusion

RANKINGS = st.lists(st.lists(st.integers(0, 9), unique=True, max_size=10), max_size=4)


@given(RANKINGS, st.integers(1, 100))
def test_fusion_is_the_sum_of_reciprocal_ranks(rankings: list[list[int]], k: int) -> None:
    fused = reciprocal_rank_fusion(rankings, k=k)
    exact = {
        key: sum(
            (Fraction(1, k + ranking.index(key) + 1) for ranking in rankings if key in ranking),
            Fraction(0),
        )
        for ranking in rankings
        for key in ranking
    }
    assert {key for key, _ in fused} == exact.keys() and len(fused) == len(exact)
    for key, score in fused:
        assert score == pytest.approx(float(exact[key]))
    scores = [score for _, score in fused]
    assert scores == sorted(scores, reverse=True)


@given(st.lists(st.integers(), unique=True))
def test_fusion_of_one_ranking_does_not_change_it(ranking: list[int]) -> None:
    assert [key for key, _ in reciprocal_rank_fusion([ranking])] == ranking


def test_fusion_prefers_keys_of_both_rankings_and_keeps_the_order_of_ties() -> None:
    assert RRF_K == 60
    assert [key for key, _ in reciprocal_rank_fusion([["a", "b"], ["c", "b"]])] == ["b", "a", "c"]
    assert reciprocal_rank_fusion([]) == []


def slow_maxsim(query: np.ndarray, document: np.ndarray) -> float:
    best = []
    for q in query.tolist():
        best.append(max(sum(a * b for a, b in zip(q, d)) for d in document.tolist()))
    return sum(best) / len(best)


@given(st.integers(1, 6), st.integers(1, 9), st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_maxsim_is_the_mean_of_the_best_products(q: int, t: int, d: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    query = random.standard_normal((q, d)).astype(np.float32)
    document = random.standard_normal((t, d)).astype(np.float32)
    assert maxsim(query, document) == pytest.approx(slow_maxsim(query, document), abs=1e-4)
    # The order of a document's tokens does not matter: the collection returns them in any order.
    shuffled = random.permutation(document)
    assert maxsim(query, shuffled) == pytest.approx(maxsim(query, document), abs=1e-5)


def test_maxsim_without_tokens_is_zero() -> None:
    empty, full = np.zeros((0, 3), np.float32), np.ones((1, 3), np.float32)
    assert maxsim(empty, full) == maxsim(full, empty) == maxsim(empty, empty) == 0.0


def test_documents_are_ranked_by_maxsim() -> None:
    eye = np.eye(3, dtype=np.float32)
    ranked = rank_by_maxsim(eye[:2], {"one": eye[:1], "none": eye[2:], "both": eye[:2]})
    assert ranked == [("both", 1.0), ("one", 0.5), ("none", 0.0)]
