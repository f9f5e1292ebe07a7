"""Findings about the last evaluation of each retrieval set of a source, compared with the accepted one."""

from __future__ import annotations

from collections.abc import Sequence

from rag_assets.consistency.finding import Finding, command_for, conclude
from rag_assets.evaluation.evaluator import ANN_RECALL
from rag_assets.evaluation.quality import LEAST_ANN_RECALL, declines, lost_items, poor_indexes
from resources.postgres.evaluation.evaluations import Evaluation

#: (last evaluation, accepted one) of each set.
Pairs = Sequence[tuple[Evaluation, Evaluation]]


def retrieval_quality_is_kept(source: str, pairs: Pairs, margin: float) -> Finding:
    rows = [
        (latest.set_name, item.mode, item.measure, f"{item.before:.4f}", f"{item.after:.4f}",
         item.queries, accepted.id, latest.id)
        for latest, accepted in pairs
        for item in declines(accepted.modes, latest.modes, margin)
    ]  # fmt: skip
    return conclude(
        "failed" if rows else "passed",
        f"{source}: {len(rows)} measures are more than {margin:g} below the accepted evaluation."
        if rows
        else f"{source}: {len(pairs)} sets, no measure is more than {margin:g} below the accepted evaluation.",
        source=source,
        remedy="person",
        command=_check_or_accept(source),
        key=[" ".join(map(str, row)) for row in rows],
        columns=("set", "mode", "measure", "accepted", "now", "queries", "accepted in", "now in"),
        rows=rows,
        metadata={"sets": len(pairs), "declines": len(rows)},
    )


def indexes_find_nearest_neighbours(source: str, pairs: Pairs, _: float) -> Finding:
    measured = {
        f"{latest.set_name}/{mode}": result.measures[ANN_RECALL].value
        for latest, _ in pairs
        for mode, result in latest.modes.items()
        if ANN_RECALL in result.measures
    }
    rows = [
        (latest.set_name, kind, f"{value:.4f}")
        for latest, _ in pairs
        for kind, value in poor_indexes(latest.modes)
    ]
    least = f", {min(measured.values()):.3f} at least" if measured else ""
    return conclude(
        "failed" if rows else "passed",
        f"{source}: searches find less than {LEAST_ANN_RECALL} of the exact neighbours{least}."
        if rows
        else f"{source}: searches find the exact neighbours{least} (expected {LEAST_ANN_RECALL}).",
        source=source,
        remedy="person",
        command=f"{command_for('check', source)}; if that passes, rag index tune --write",
        key=[" ".join(row) for row in rows],
        inconsistency="index_issues",
        columns=("set", "kind", ANN_RECALL),
        rows=rows,
        metadata=measured,
    )


def known_items_are_found(source: str, pairs: Pairs, _: float) -> Finding:
    lost = [
        (latest.set_name, item)
        for latest, accepted in pairs
        if latest.known_items
        for item in lost_items(accepted.modes, latest.modes)
    ]
    rows = [(name, item.mode, query) for name, item in lost for query in item.queries]
    known = sum(item.known for _, item in lost)
    return conclude(
        "failed" if any(item.too_many for _, item in lost) else "passed",
        f"{source}: {known - len(rows)} of {known} known items that were found are still found.",
        source=source,
        remedy="person",
        command=_check_or_accept(source),
        key=[" ".join(row) for row in rows],
        columns=("set", "mode", "query (its chunk)"),
        rows=rows,
        metadata={"known": known, "lost": len(rows)},
    )


def _check_or_accept(source: str) -> str:
    return f"{command_for('check', source)}; if the change is intended: rag eval accept SET"
