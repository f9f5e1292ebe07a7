"""The fit of the constants of `rag_assets/search/calibration.py` to the retrieval sets. `models --fit` prints them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from rag_assets.search.calibration import Calibration
from tests.benchmarks.model_searches import (
    CUTOFF,
    MIXED,
    Floats,
    Pair,
    Search,
    Searches,
    measures,
)
from tests.benchmarks.retrieval import SETS

#: Hits of a query that the fit reads: those that a reader looks at first.
FITTED = 3
#: Sets that have no part in the choice of a constant.
HELD_OUT = {"zh-xquad", "fa-pquad"}
PARALLEL = ("en-xquad", "zh-xquad", "ar-xquad")
#: Corpora in several languages.
MIXTURES = (("en-xquad", "ar-xquad"), PARALLEL)
#: In a corpus of several languages e5 prefers the question's, whatever the constants: no part in its fit.
PREFERS_ITS_LANGUAGE = {"e5"}
#: Models that know one language.
ONLY_ENGLISH = {"minilm"}
#: Ratios of the weight of the coverage to that of the cosine, among which nDCG@10 chooses.
RATIOS = (0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0)
#: Coverages that count as none, among which it chooses too. With more than 0.1, nDCG@10 within Arabic falls by .01.
NOISES = (0.0, 0.05, 0.1)
#: Default of `RAG_MIN_SCORE`.
THRESHOLD = 0.01


@dataclass(frozen=True)
class Samples:
    """The first hits of the questions: their scores, whether they answer, and weights that count each pair equally."""

    features: Floats
    answers: Floats
    weights: Floats


def samples(
    searches: Searches, model: str, pairs: Sequence[Pair], mode: str, order: Calibration, hits: int
) -> Samples:
    features, answers, weights = [], [], []
    for pair in pairs:
        for scene, weight in (("full", 2), ("half", 1), ("articles", 1)):
            found = searches.of(model, pair, scene)
            logits = found.scores(order, mode)
            best = np.argsort(-logits, axis=1, kind="stable")[:, :hits]
            exists = np.take_along_axis(logits, best, axis=1) > -np.inf
            columns = [
                np.take_along_axis(found.dense, best, axis=1)[exists],
                np.maximum(
                    0, np.take_along_axis(found.coverage, best, axis=1)[exists] - order.noise
                ),
                np.broadcast_to(found.familiarity[:, None], best.shape)[exists],
            ]
            features.append(np.stack(columns, axis=1))
            answers.append(np.take_along_axis(found.relevant, best, axis=1)[exists])
            weights.append(np.full(exists.sum(), weight / exists.sum()))
    return Samples(
        np.concatenate(features), np.concatenate(answers).astype(float), np.concatenate(weights)
    )


def fit(searches: Searches, model: str, mode: str) -> Calibration:
    """Choose the ratio of the weights by nDCG@10, then the scale by maximum likelihood.

    The intercept is raised until no more than 1 % of the answered questions of a set are below the threshold.
    """
    pairs = fitted_pairs(model, mode)
    multilingual = any(a != b for a, b in pairs)
    order = {"dense": Calibration(0, dense=1), "sparse": Calibration(0, sparse=1)}.get(mode)
    if order is None:
        mixed = any(b.startswith(MIXED) for _, b in pairs)
        noises = NOISES if mixed else (0.0,)
        orders = [Calibration(0, 1, ratio, noise=noise) for ratio in RATIOS for noise in noises]
        means = [
            np.mean([mean_ndcg(searches, model, p, mode, order) for p in pairs]) for order in orders
        ]
        order = orders[int(np.argmax(means))]
    sample = samples(searches, model, pairs, mode, order, FITTED)
    combined = sample.features[:, :2] @ [order.dense, order.sparse]
    columns = [np.ones(len(combined)), combined]
    if mode == "hybrid" and multilingual:
        columns.append(sample.features[:, 2])
    fitted = _logistic_regression(np.stack(columns, axis=1), sample.answers, sample.weights)
    calibration = Calibration(
        fitted[0],
        fitted[1] * order.dense,
        fitted[1] * order.sparse,
        fitted[2] if len(fitted) > 2 else 0.0,
    )
    calibration = replace(calibration, noise=order.noise)
    low = [
        np.quantile(answered(searches.of(model, p, "full"), calibration, mode)[0], 0.01)
        for p in pairs
    ]
    raised = max(0.0, np.log(THRESHOLD / (1 - THRESHOLD)) - min(low))
    return Calibration(
        round(float(calibration.intercept + raised), 2),
        round(float(calibration.dense), 2),
        round(float(calibration.sparse), 2),
        round(float(calibration.familiar), 2),
        calibration.noise,
    )


def mean_ndcg(
    searches: Searches, model: str, pair: Pair, mode: str, calibration: Calibration
) -> float:
    found = searches.of(model, pair, "full")
    return float(measures(found.scores(calibration, mode), found.relevant)[0].mean())


def _logistic_regression(columns: Floats, answers: Floats, weights: Floats) -> Floats:
    """Return the coefficients of maximum likelihood, by Newton's method."""
    coefficients = np.zeros(columns.shape[1])
    for _ in range(50):
        estimates = 1 / (1 + np.exp(-columns @ coefficients))
        gradient = columns.T @ (weights * (answers - estimates))
        curvature = (columns * (weights * estimates * (1 - estimates))[:, None]).T @ columns
        step = np.linalg.solve(curvature, gradient)
        coefficients += step
        if np.abs(step).max() < 1e-9:
            break
    return coefficients


def answered(found: Search, calibration: Calibration, mode: str) -> tuple[Floats, Floats]:
    """Return the logits of the best answer among the first ten hits, where there is one, and of the first hit of each
    question without an answer."""
    logits = found.scores(calibration, mode)
    best = np.argsort(-logits, axis=1, kind="stable")[:, :CUTOFF]
    first = np.take_along_axis(logits, best, axis=1)
    right = np.where(np.take_along_axis(found.relevant, best, axis=1), first, -np.inf).max(axis=1)
    return right[right > -np.inf], first[~found.answered, 0]


def all_pairs(model: str) -> list[Pair]:
    names = sorted(folder.name for folder in SETS.glob("*/"))
    if model in ONLY_ENGLISH:
        return [("en-xquad", "en-xquad")]
    pairs = [(name, name) for name in ("en-xquad", "ar-xquad", "ja-jsquad", "zh-xquad", "fa-pquad")]
    pairs = [pair for pair in pairs if pair[0] in names]
    if model == "lexical":
        return pairs
    pairs += [(a, b) for a in PARALLEL for b in PARALLEL if a != b]
    return pairs + [(a, MIXED + ",".join(sets)) for sets in MIXTURES for a in sets]


def fitted_pairs(model: str, mode: str) -> list[Pair]:
    """Across languages the sparse vectors know nothing, so a sparse search is not fitted there."""
    return [
        (a, b)
        for a, b in all_pairs(model)
        if not any(name in a + b for name in HELD_OUT)
        and (a == b or mode != "sparse")
        and not (b.startswith(MIXED) and model in PREFERS_ITS_LANGUAGE)
    ]
