"""How good rankings are, by what was judged relevant; and how sure a mean or a difference of means is. Pure numbers.

The measures are those of trec_eval, computed by it (ir-measures with pytrec_eval); see Sanderson and Zobel, SIGIR 2005,
and Smucker, Allan and Carterette, CIKM 2007, on what their differences say.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

#: Results of a query that are judged.
CUTOFF = 10
#: Our names of the measures -> those of ir-measures. RR of at most CUTOFF results: its mean is MRR@10.
MEASURES: Mapping[str, str] = {
    "recall@1": "R@1",
    "recall@5": "R@5",
    "recall@10": "R@10",
    "nDCG@10": "nDCG@10",
    "MRR@10": "RR",
}

#: Resamples of a confidence interval, and sign changes of a significance test. Seeded: equal numbers, equal answers.
RESAMPLES, PERMUTATIONS, SEED = 1000, 10_000, 2005


@dataclass(frozen=True)
class Relevant:
    """Something that should be found: it is by a result with any of these labels (a document's key, a chunk's id)."""

    labels: Collection[str]
    gain: int = 1


def first_rank(results: Sequence[Collection[str]], relevant: Sequence[Relevant]) -> int:
    """The rank, from 1, of the first result that is relevant; 0: none is. Each result is given by its labels."""
    wanted = {label for each in relevant for label in each.labels}
    return next((rank for rank, labels in enumerate(results, 1) if wanted & set(labels)), 0)


def query_scores(
    relevant: Mapping[str, Sequence[Relevant]], results: Mapping[str, Sequence[Collection[str]]]
) -> dict[str, dict[str, float]]:
    """query -> measure -> its value, for each query of `relevant`; a query without results has 0."""
    import ir_measures  # 0.1 s, and scipy with it

    judged = {
        query: {str(number): each.gain for number, each in enumerate(wanted)}
        for query, wanted in relevant.items()
    }
    ranked = {
        query: {
            item: float(-rank)
            for rank, item in enumerate(_items(results.get(query, ())[:CUTOFF], wanted))
        }
        for query, wanted in relevant.items()
    }
    names = {ir_measures.parse_measure(theirs): ours for ours, theirs in MEASURES.items()}
    found = {query: dict.fromkeys(MEASURES, 0.0) for query in relevant}
    for value in ir_measures.iter_calc(list(names), judged, ranked):
        found[value.query_id][names[value.measure]] = float(value.value)
    return found


def _items(results: Sequence[Collection[str]], relevant: Sequence[Relevant]) -> list[str]:
    """A name for each result: of the first thing that it is and that was not found before, else one of its own."""
    left = dict(enumerate(relevant))
    items = []
    for rank, labels in enumerate(results):
        number = next((n for n, each in left.items() if set(labels) & set(each.labels)), None)
        left.pop(number, None) if number is not None else None
        items.append(f"other {rank}" if number is None else str(number))
    return items


def confidence_interval(values: NDArray[np.float64]) -> tuple[float, float]:
    """Of the mean, 95 %, by bootstrap percentiles. `values`: one a query, at least one."""
    chance = np.random.default_rng(SEED)
    means = [
        values[chance.integers(len(values), size=len(values))].mean() for _ in range(RESAMPLES)
    ]
    lower, upper = np.percentile(means, [2.5, 97.5])
    return float(lower), float(upper)


def significance(differences: NDArray[np.float64]) -> float:
    """p of a mean difference as large as this one, if it were chance (paired randomisation, two-sided)."""
    differences = differences[differences != 0]  # their sign changes nothing
    if not len(differences):
        return 1.0
    chance, observed, as_large = np.random.default_rng(SEED), abs(differences.sum()), 0
    for _ in range(PERMUTATIONS):
        signs = chance.integers(2, size=len(differences), dtype=np.int8) * 2 - 1
        as_large += abs(float(signs @ differences)) >= observed - 1e-12
    return (as_large + 1) / (PERMUTATIONS + 1)
