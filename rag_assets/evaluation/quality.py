"""Comparison of two evaluations: declines, lost items, and the significance of differences.

The checks of the asset and the gate before a collection serves use the same functions. No store, no Dagster.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rag_assets.evaluation.evaluator import ANN_RECALL
from rag_assets.pipeline.relevance import CUTOFF, significance
from resources.postgres.evaluation.evaluations import ModeResult

#: Minimum share of the exact neighbours that an index must find.
LEAST_ANN_RECALL = 0.95

#: Maximum share of known items that may be lost: a growing corpus pushes some of them down.
LOST_SHARE = 0.01

#: mode -> its result.
Modes = Mapping[str, ModeResult]

NDCG, ANSWERED = "nDCG@10", "answered@10"


@dataclass(frozen=True, slots=True)
class Difference:
    """A measure of one mode in two evaluations, over their common queries. `p`: the probability that it is chance."""

    mode: str
    measure: str
    queries: int
    before: float
    after: float
    p: float | None = None

    @property
    def change(self) -> float:
        return self.after - self.before


@dataclass(frozen=True, slots=True)
class LostItems:
    """The queries of one mode whose items were lost, of `known` items."""

    mode: str
    known: int
    queries: Sequence[str]

    @property
    def too_many(self) -> bool:
        return len(self.queries) > LOST_SHARE * self.known


def differences(before: Modes, after: Modes, *, test: bool = False) -> list[Difference]:
    """Differences of each common mode: nDCG@10, and the share of queries with a relevant result among the first ten.

    `test`: also compute `p`.
    """
    results = []
    for mode in (mode for mode in after if mode in before):
        old, new = _paired(before[mode], after[mode])
        if not len(old.query_ids):
            continue
        for measure, old_scores, new_scores in (
            (NDCG, old.ndcg, new.ndcg),
            (ANSWERED, _answered(old), _answered(new)),
        ):
            p = significance(new_scores - old_scores) if test else None
            means = float(old_scores.mean()), float(new_scores.mean())
            results.append(Difference(mode, measure, len(old_scores), *means, p))
    return results


def declines(accepted: Modes, latest: Modes, margin: float) -> list[Difference]:
    """The differences in which the latest evaluation is worse than the accepted one by more than `margin`."""
    # PostgreSQL stores float4: equal values may differ in the seventh digit.
    return [item for item in differences(accepted, latest) if item.change < -margin - 1e-6]


def lost_items(accepted: Modes, latest: Modes) -> list[LostItems]:
    """For each mode: the known items that were among the first ten results and are not found at all now."""
    lost = []
    for mode in (mode for mode in latest if mode in accepted):
        old, new = _paired(accepted[mode], latest[mode])
        known = _answered(old) == 1
        missing = np.flatnonzero(known & (new.ranks == 0))
        lost.append(LostItems(mode, int(known.sum()), [old.query_ids[int(at)] for at in missing]))
    return lost


def poor_indexes(latest: Modes) -> list[tuple[str, float]]:
    """(kind, ANN recall) of the indexes whose recall is too low."""
    recalls = [
        (mode, result.measures[ANN_RECALL].value)
        for mode, result in latest.items()
        if ANN_RECALL in result.measures
    ]
    return [(mode, value) for mode, value in recalls if value < LEAST_ANN_RECALL]


def _answered(result: ModeResult) -> np.ndarray:
    return ((result.ranks > 0) & (result.ranks <= CUTOFF)).astype(np.float64)


def _paired(old: ModeResult, new: ModeResult) -> tuple[ModeResult, ModeResult]:
    """Both results reduced to their common queries, in the same order."""
    new_places = {query: at for at, query in enumerate(new.query_ids)}
    common = [query for query in old.query_ids if query in new_places]
    old_places = {query: at for at, query in enumerate(old.query_ids)}
    return (
        _selected(old, common, [old_places[query] for query in common]),
        _selected(new, common, [new_places[query] for query in common]),
    )


def _selected(result: ModeResult, queries: Sequence[str], places: Sequence[int]) -> ModeResult:
    at = np.array(places, np.int64)
    return ModeResult(result.mode, result.measures, queries, result.ranks[at], result.ndcg[at])
