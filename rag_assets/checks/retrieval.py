"""Checks of the last evaluation of each retrieval set of a source, beside the one that was accepted.

They read what `retrieval_evaluation` recorded and run with it. No repair answers them, so they are not remembered in
`check_results`: the evaluations are, in tables of their own.
"""

from collections.abc import Callable, Sequence

import dagster as dg

from rag_assets.checks.results import of_each_source, result
from rag_assets.evaluation.evaluator import ANN_RECALL
from rag_assets.evaluation.quality import LEAST_ANN_RECALL, declines, lost_items, poor_indexes
from rag_assets.partitions import SOURCES
from resources.dagster_resources import PostgresResource, RetrievalResource
from resources.postgres.connection import Connection
from resources.postgres.evaluation.evaluations import Evaluation, latest_and_accepted

ASSET = "retrieval_evaluation"

#: (last evaluation, accepted one) of each set.
Pairs = Sequence[tuple[Evaluation, Evaluation]]


def _quality(source: str, pairs: Pairs, margin: float) -> dg.AssetCheckResult:
    rows = [
        (latest.set_name, each.mode, each.measure, f"{each.before:.4f}", f"{each.after:.4f}",
         each.queries, accepted.id, latest.id)
        for latest, accepted in pairs
        for each in declines(accepted.modes, latest.modes, margin)
    ]  # fmt: skip
    return result(
        not rows,
        f"{source}: {len(pairs)} sets, nothing is more than {margin:g} below what was accepted."
        if not rows
        else f"{source}: {len(rows)} measures are more than {margin:g} below what was accepted.",
        columns=("set", "mode", "measure", "accepted", "now", "queries", "accepted in", "now in"),
        rows=rows,
        mend=f"rag check --source {source}; if it is meant to be so: rag eval accept SET",
    )


def _indexes(source: str, pairs: Pairs, _: float) -> dg.AssetCheckResult:
    measured = {
        f"{latest.set_name}/{mode}": found.measures[ANN_RECALL].value
        for latest, _ in pairs
        for mode, found in latest.modes.items()
        if ANN_RECALL in found.measures
    }
    rows = [
        (latest.set_name, kind, f"{value:.4f}")
        for latest, _ in pairs
        for kind, value in poor_indexes(latest.modes)
    ]
    least = f", {min(measured.values()):.3f} at least" if measured else ""
    return result(
        not rows,
        f"{source}: searches find the exact neighbours{least} (expected {LEAST_ANN_RECALL})."
        if not rows
        else f"{source}: searches find fewer of the exact neighbours than {LEAST_ANN_RECALL}{least}.",
        columns=("set", "kind", ANN_RECALL),
        rows=rows,
        mend=f"rag check --source {source}; if that passes, rag index tune --write",
        metadata=dict(measured),
    )


def _known_items(source: str, pairs: Pairs, _: float) -> dg.AssetCheckResult:
    lost = [
        (latest.set_name, each)
        for latest, accepted in pairs
        if latest.known_items
        for each in lost_items(accepted.modes, latest.modes)
    ]
    rows = [(name, each.mode, query) for name, each in lost for query in each.queries]
    known = sum(each.known for _, each in lost)
    return result(
        not any(each.too_many for _, each in lost),
        f"{source}: {known - len(rows)} of {known} known items that were found are found.",
        columns=("set", "mode", "query (its chunk)"),
        rows=rows,
        mend=f"rag check --source {source}; if it is meant to be so: rag eval accept SET",
    )


def _check(
    name: str, fact: str, judge: Callable[[str, Pairs, float], dg.AssetCheckResult]
) -> dg.AssetChecksDefinition:
    @dg.asset_check(asset=ASSET, name=name, description=fact, partitions_def=SOURCES)
    def check(
        context: dg.AssetCheckExecutionContext,
        postgres: PostgresResource,
        retrieval: RetrievalResource,
    ) -> dg.AssetCheckResult:
        def of_source(connection: Connection, source: str) -> dg.AssetCheckResult:
            pairs = latest_and_accepted(connection, source)
            if not pairs:
                return result(True, f"{source}: no retrieval set was evaluated.")
            return judge(source, pairs, retrieval.margin)

        return of_each_source(context, postgres, of_source, remembered=False)

    return check


RETRIEVAL_CHECKS: list[dg.AssetChecksDefinition] = [
    _check(
        "retrieval_quality_is_kept",
        "nDCG@10 and the share of answered queries are not below the accepted evaluation by more than the margin.",
        _quality,
    ),
    _check(
        "indexes_find_nearest_neighbours",
        f"Of the ten exact nearest neighbours of real queries an index finds {LEAST_ANN_RECALL:.0%} or more.",
        _indexes,
    ),
    _check(
        "known_items_are_found",
        "What the accepted evaluation found among ten results by a sentence of its own is still found.",
        _known_items,
    ),
]
