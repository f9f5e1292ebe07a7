"""Quality of rankings by relevance judgements; confidence in a mean and in a difference of means. Pure numbers.

The measures are those of trec_eval, computed by it (ir-measures with pytrec_eval). On the meaning of differences, see
Sanderson and Zobel, SIGIR 2005, and Smucker, Allan and Carterette, CIKM 2007.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

#: Results of a query that are evaluated.
CUTOFF = 10
#: Our names of the measures -> those of ir-measures. RR covers at most CUTOFF results, so its mean is MRR@10.
MEASURES: Mapping[str, str] = {
    "recall@1": "R@1",
    "recall@5": "R@5",
    "recall@10": "R@10",
    "nDCG@10": "nDCG@10",
    "MRR@10": "RR",
}

#: Resamples of a confidence interval, and sign changes of a significance test. Seeded: equal inputs, equal results.
RESAMPLES, PERMUTATIONS, SEED = 1000, 10_000, 2005
#: Resamples at a time: each alone costs 20 µs of calls, and all of them need 8 kB a query.
BLOCK = 50


@dataclass(frozen=True)
class Relevant:
    """An item to find. Any result with one of its labels (a document's key, a chunk's id) finds it."""

    labels: Collection[str]
    gain: int = 1


def first_rank(results: Sequence[Collection[str]], relevant: Sequence[Relevant]) -> int:
    """Return the rank, from 1, of the first relevant result; 0 if none is relevant. A result is given by its labels."""
    relevant_labels = {label for item in relevant for label in item.labels}
    return next(
        (rank for rank, labels in enumerate(results, 1) if relevant_labels & set(labels)), 0
    )


def query_scores(
    relevant: Mapping[str, Sequence[Relevant]], results: Mapping[str, Sequence[Collection[str]]]
) -> dict[str, dict[str, float]]:
    """Return query -> measure -> value, for each query of `relevant`; a query without results scores 0."""
    # Takes 0.1 s and imports scipy.
    import ir_measures

    judged = {
        query: {str(number): item.gain for number, item in enumerate(items)}
        for query, items in relevant.items()
    }
    ranked = {
        query: {
            name: float(-rank)
            for rank, name in enumerate(_item_names(results.get(query, ())[:CUTOFF], items))
        }
        for query, items in relevant.items()
    }
    names = {ir_measures.parse_measure(theirs): ours for ours, theirs in MEASURES.items()}
    scores = {query: dict.fromkeys(MEASURES, 0.0) for query in relevant}
    for value in ir_measures.iter_calc(list(names), judged, ranked):
        scores[value.query_id][names[value.measure]] = float(value.value)
    return scores


def _item_names(results: Sequence[Collection[str]], relevant: Sequence[Relevant]) -> list[str]:
    """Return a name for each result: the number of the first item that no earlier result found, else a new name."""
    remaining = dict(enumerate(relevant))
    names = []
    for rank, labels in enumerate(results):
        number = next((n for n, item in remaining.items() if set(labels) & set(item.labels)), None)
        if number is None:
            names.append(f"other {rank}")
        else:
            del remaining[number]
            names.append(str(number))
    return names


def confidence_interval(values: NDArray[np.float64]) -> tuple[float, float]:
    """Return the 95 % interval of the mean by bootstrap percentiles. `values`: one per query, at least one."""
    rng = np.random.default_rng(SEED)
    n = len(values)
    blocks = (rng.integers(n, size=(BLOCK, n)) for _ in range(RESAMPLES // BLOCK))
    means = np.concatenate([values[block].mean(axis=1) for block in blocks])
    lower, upper = np.percentile(means, [2.5, 97.5])
    return float(lower), float(upper)


def significance(differences: NDArray[np.float64]) -> float:
    """Return p: the probability of a mean difference at least as large by chance (paired randomisation, two-sided)."""
    # The sign of a zero does not matter.
    differences = differences[differences != 0]
    if not len(differences):
        return 1.0
    rng, observed, as_large = np.random.default_rng(SEED), abs(differences.sum()), 0
    for _ in range(PERMUTATIONS):
        signs = rng.integers(2, size=len(differences), dtype=np.int8) * 2 - 1
        as_large += abs(float(signs @ differences)) >= observed - 1e-12
    return (as_large + 1) / (PERMUTATIONS + 1)
