"""Ranking measures, compared with a second implementation of the formulas; exact neighbours, with sums by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_assets.pipeline.nearest import Recall, dense_scores, sparse_scores
from rag_assets.pipeline.relevance import (
    Relevant,
    confidence_interval,
    first_rank,
    query_scores,
    significance,
)
from rag_assets.pipeline.vectors import Sparse

DOCUMENTS = st.sampled_from([f"d{n}" for n in range(14)])
JUDGED = st.dictionaries(DOCUMENTS, st.integers(1, 3), min_size=1, max_size=6)
RANKED = st.lists(DOCUMENTS, unique=True, max_size=12)


@given(queries=st.lists(st.tuples(JUDGED, RANKED), min_size=1, max_size=4))
def test_measures_equal_the_formulas(
    queries: list[tuple[dict[str, int], list[str]]],
) -> None:
    relevant = {
        f"q{n}": [Relevant({document}, gain) for document, gain in judged.items()]
        for n, (judged, _) in enumerate(queries)
    }
    results = {
        f"q{n}": [{document} for document in ranked] for n, (_, ranked) in enumerate(queries)
    }
    scores = query_scores(relevant, results)
    for n, (judged, ranked) in enumerate(queries):
        gains = [judged.get(document, 0) for document in ranked[:10]]
        ideal = sorted(judged.values(), reverse=True)[:10]
        dcg, best = (
            sum(gain / math.log2(rank + 1) for rank, gain in enumerate(ordered, 1))
            for ordered in (gains, ideal)
        )
        expected = {
            f"recall@{k}": sum(gain > 0 for gain in gains[:k]) / len(judged) for k in (1, 5, 10)
        }
        expected["nDCG@10"] = dcg / best
        expected["MRR@10"] = next((1 / rank for rank, gain in enumerate(gains, 1) if gain), 0.0)
        assert scores[f"q{n}"] == pytest.approx(expected, abs=1e-6)


def test_an_item_that_is_found_twice_counts_once() -> None:
    """Two chunks overlap one passage: the second one counts as irrelevant."""
    passage = [Relevant({"c1", "c2"})]
    scores = query_scores({"q": passage}, {"q": [{"c1"}, {"c2"}]})["q"]
    assert scores["nDCG@10"] == scores["recall@1"] == 1
    later = query_scores({"q": passage}, {"q": [{"x"}, {"c2"}, {"c1"}]})["q"]
    assert later["nDCG@10"] == pytest.approx(1 / math.log2(3))
    assert first_rank([{"x"}, {"c2"}], passage) == 2
    assert first_rank([{"x"}], passage) == 0


def test_a_result_is_relevant_by_any_of_its_labels() -> None:
    """A text that several documents contain is one hit, which names them all."""
    scores = query_scores({"q": [Relevant({"b.md"})]}, {"q": [{"a.md", "b.md"}]})["q"]
    assert scores["recall@1"] == 1


def test_an_interval_contains_the_mean_and_narrows_with_more_queries() -> None:
    values = np.random.default_rng(1).random(2000)
    wide, narrow = confidence_interval(values[:50]), confidence_interval(values)
    assert wide[0] < values[:50].mean() < wide[1]
    assert narrow[1] - narrow[0] < (wide[1] - wide[0]) / 3
    # For a mean of uniform numbers: 2 × 1.96 × 0.2887 / √2000.
    assert narrow[1] - narrow[0] == pytest.approx(0.0253, rel=0.1)
    assert confidence_interval(values) == narrow


def test_significance_separates_a_difference_from_noise() -> None:
    rng = np.random.default_rng(2)
    noise = rng.normal(0, 0.2, 300)
    assert significance(noise - noise.mean()) > 0.9
    assert significance(noise - noise.mean() + 0.1) < 0.001
    assert significance(np.zeros(5)) == 1
    # Of the 32 sign combinations of five equal differences, 2 give a mean as large.
    assert significance(np.full(5, 0.3)) == pytest.approx(2 / 32, abs=0.01)


def _sparse(rows: list[dict[int, float]]) -> Sparse:
    rows = [dict(sorted(row.items())) for row in rows]
    return Sparse(
        np.cumsum([0, *map(len, rows)]).astype(np.int64),
        np.array([term for row in rows for term in row], np.uint32),
        np.array([weight for row in rows for weight in row.values()], np.float32),
    )


VECTOR = st.dictionaries(st.integers(0, 20), st.floats(0.125, 4, width=32), max_size=6)


@given(st.lists(VECTOR, min_size=1, max_size=4), st.lists(VECTOR, min_size=1, max_size=6))
def test_sparse_products_are_sums_over_common_terms(
    queries: list[dict[int, float]], rows: list[dict[int, float]]
) -> None:
    expected = [
        [sum(weight * row.get(term, 0) for term, weight in query.items()) for row in rows]
        for query in queries
    ]
    assert sparse_scores(_sparse(queries), _sparse(rows)) == pytest.approx(np.array(expected))


def test_recall_against_exact_search_counts_equally_near_rows() -> None:
    rng = np.random.default_rng(3)
    rows = rng.normal(size=(500, 8)).astype(np.float32)
    # Of two equal rows, either is correct.
    rows[7] = rows[8]
    queries = np.stack([rows[7], rows[20]])
    scores = dense_scores(queries, rows)
    exact = [[str(row) for row in np.argsort(-row_scores)[:10]] for row_scores in scores]

    def recall_in_batches(returned: list[list[str]]) -> float | None:
        recall = Recall(returned, 10)
        for start in range(0, 500, 120):
            batch = slice(start, start + 120)
            recall.add([str(n) for n in range(500)[batch]], scores[:, batch])
        return recall.value()

    assert recall_in_batches(exact) == 1
    farthest = str(np.argmin(scores[0]))
    repeated = exact[0][0]
    for wrong in (farthest, repeated, "deleted"):
        assert recall_in_batches([[*exact[0][:9], wrong], exact[1]]) == pytest.approx(0.95)
    assert recall_in_batches([exact[0][:5], []]) == pytest.approx(0.25)


def test_rows_without_a_common_term_are_no_neighbours() -> None:
    rows = _sparse([{1: 1.0}, {2: 1.0}, {3: 1.0}])
    for returned, expected in ((["0"], 1), ([], 0)):
        recall = Recall([returned, []], 10, only_positive=True)
        recall.add(["0", "1", "2"], sparse_scores(_sparse([{1: 2.0}, {9: 1.0}]), rows))
        assert recall.value() == expected
