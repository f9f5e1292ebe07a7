"""What evaluations say beside one another: what declined, what was lost, how sure a difference is.

The asset's checks and the gate before a collection serves judge by the same functions. No store, no Dagster.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rag_assets.evaluation.evaluator import ANN_RECALL
from rag_assets.pipeline.relevance import CUTOFF, significance
from resources.postgres.evaluation.evaluations import ModeResult

#: The share of exact neighbours that an index must find.
LEAST_ANN_RECALL = 0.95

#: The share of known items that may be lost: a corpus that grows pushes one or the other down.
LOST_SHARE = 0.01

#: mode -> what was measured.
Modes = Mapping[str, ModeResult]

NDCG, ANSWERED = "nDCG@10", "answered@10"


@dataclass(frozen=True, slots=True)
class Difference:
    """A measure of one mode in two evaluations, over the queries that both have; `p`: that it is chance."""

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
    """Of one mode, of so many known items."""

    mode: str
    known: int
    queries: Sequence[str]

    @property
    def too_many(self) -> bool:
        return len(self.queries) > LOST_SHARE * self.known


def differences(before: Modes, after: Modes, *, test: bool = False) -> list[Difference]:
    """Of each mode that both have: nDCG@10, and the share of queries with something relevant among ten results."""
    found = []
    for mode in (mode for mode in after if mode in before):
        old, new = _paired(before[mode], after[mode])
        if not len(old.query_ids):
            continue
        for measure, one, two in (
            (NDCG, old.ndcg, new.ndcg),
            (ANSWERED, _answered(old), _answered(new)),
        ):
            p = significance(two - one) if test else None
            means = float(one.mean()), float(two.mean())
            found.append(Difference(mode, measure, len(one), *means, p))
    return found


def declines(accepted: Modes, latest: Modes, margin: float) -> list[Difference]:
    # PostgreSQL keeps float4: what is equal may differ in the seventh digit.
    return [each for each in differences(accepted, latest) if each.change < -margin - 1e-6]


def lost_items(accepted: Modes, latest: Modes) -> list[LostItems]:
    """Of each mode: known items that were among ten results, and those of them that are nowhere near now."""
    found = []
    for mode in (mode for mode in latest if mode in accepted):
        old, new = _paired(accepted[mode], latest[mode])
        known = _answered(old) == 1
        gone = np.flatnonzero(known & (new.ranks == 0))
        found.append(LostItems(mode, int(known.sum()), [old.query_ids[int(at)] for at in gone]))
    return found


def poor_indexes(latest: Modes) -> list[tuple[str, float]]:
    """(kind, ANN recall) where it is too low."""
    found = [
        (mode, result.measures[ANN_RECALL].value)
        for mode, result in latest.items()
        if ANN_RECALL in result.measures
    ]
    return [(mode, value) for mode, value in found if value < LEAST_ANN_RECALL]


def _answered(result: ModeResult) -> np.ndarray:
    return ((result.ranks > 0) & (result.ranks <= CUTOFF)).astype(np.float64)


def _paired(old: ModeResult, new: ModeResult) -> tuple[ModeResult, ModeResult]:
    """Both with the queries that both have, in the same order."""
    places = {query: at for at, query in enumerate(new.query_ids)}
    common = [query for query in old.query_ids if query in places]
    before = {query: at for at, query in enumerate(old.query_ids)}
    return (
        _taken(old, common, [before[query] for query in common]),
        _taken(new, common, [places[query] for query in common]),
    )


def _taken(result: ModeResult, queries: Sequence[str], places: Sequence[int]) -> ModeResult:
    at = np.array(places, np.int64)
    return ModeResult(result.mode, result.measures, queries, result.ranks[at], result.ndcg[at])
