"""Tables `retrieval_evaluations`, `retrieval_measures` and `retrieval_results`: the measurements with a retrieval set.

The readers decide whether a measurement is good or bad.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import Any, LiteralString, NamedTuple

import numpy as np
from numpy.typing import NDArray

from resources.errors import ConfigError
from resources.postgres.connection import Connection
from resources.postgres.queries import Parameters, fetch_all, scalar

#: Evaluations of a set that are kept besides the accepted ones: more than a year of nights.
KEPT = 400


@dataclass(frozen=True, slots=True)
class Measure:
    """`lower` and `upper`: the 95 % confidence interval of a mean over queries."""

    value: float
    lower: float | None = None
    upper: float | None = None


@dataclass(frozen=True)
class ModeResult:
    """The result of one mode. `ranks`: of the first relevant hit (0: none). Ranks and `ndcg` are in the order of
    `query_ids`."""

    mode: str
    measures: Mapping[str, Measure]
    query_ids: Sequence[str] = ()
    ranks: NDArray[np.int32] = field(default_factory=lambda: np.zeros(0, np.int32))
    ndcg: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))


@dataclass(frozen=True)
class Evaluation:
    """One run's measurement with one set. `outdated`: the number of queries whose answers the source no longer has."""

    id: int
    set_name: str
    known_items: bool
    source: str
    run_id: str
    model: str
    measured_at: datetime
    queries: int
    outdated: int
    accepted_at: datetime | None
    modes: Mapping[str, ModeResult]

    def as_dict(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "set": self.set_name,
            "source": self.source,
            "model": self.model,
            "run": self.run_id,
            "measured_at": self.measured_at,
            "accepted_at": self.accepted_at,
            "queries": self.queries,
            "outdated": self.outdated,
            "modes": {
                mode: {
                    name: {"value": measure.value}
                    | (
                        {"lower": measure.lower, "upper": measure.upper}
                        if measure.lower is not None
                        else {}
                    )
                    for name, measure in result.measures.items()
                }
                for mode, result in self.modes.items()
            },
        }


def record_evaluation(
    connection: Connection,
    set_id: uuid.UUID,
    run_id: str,
    model: str,
    results: Sequence[ModeResult],
    queries: int,
    outdated: int,
) -> int:
    """Record an evaluation. Returns its number. The first one of a set is accepted at once; old ones are deleted."""
    with connection.transaction():
        number = scalar(
            connection,
            """INSERT INTO retrieval_evaluations (set_id, run_id, model_fingerprint, queries, outdated, accepted_at)
               SELECT %(set)s, %(run)s, %(model)s, %(queries)s, %(outdated)s, CASE WHEN NOT EXISTS (
                 SELECT FROM retrieval_evaluations WHERE set_id = %(set)s AND accepted_at IS NOT NULL) THEN now() END
               RETURNING id""",
            {
                "set": set_id,
                "run": run_id,
                "model": model,
                "queries": queries,
                "outdated": outdated,
            },
        )
        measures = [
            (result.mode, name, measure.value, measure.lower, measure.upper)
            for result in results
            for name, measure in result.measures.items()
        ]
        connection.execute(
            """INSERT INTO retrieval_measures (evaluation_id, mode, measure, value, lower, upper)
               SELECT %s, * FROM unnest(%s::text[], %s::text[], %s::float8[], %s::float8[], %s::float8[])""",
            [number, *(list(column) for column in zip(*measures))],
        )
        # One row a mode.
        with connection.cursor() as cursor:
            cursor.executemany(
                "INSERT INTO retrieval_results VALUES (%s, %s, %s, %s, %s)",
                [
                    (
                        number,
                        result.mode,
                        list(result.query_ids),
                        result.ranks.tolist(),
                        result.ndcg.tolist(),
                    )
                    for result in results
                ],
            )
        connection.execute(
            """DELETE FROM retrieval_evaluations WHERE set_id = %(set)s AND accepted_at IS NULL AND id <= (
                 SELECT id FROM retrieval_evaluations WHERE set_id = %(set)s
                 ORDER BY id DESC OFFSET %(kept)s LIMIT 1)""",
            {"set": set_id, "kept": KEPT},
        )
    return number


def evaluations(
    connection: Connection,
    set_name: str | None,
    *,
    limit: int | None = None,
    with_queries: bool = False,
) -> list[Evaluation]:
    """Return the evaluations of a set, or of all, the newest first. `with_queries`: with single queries."""
    matching = _evaluations(
        connection,
        "(r.name = %(set)s OR %(set)s::text IS NULL) ORDER BY e.id DESC LIMIT %(limit)s",
        {"set": set_name, "limit": limit},
    )
    return _with_queries(connection, matching) if with_queries else matching


def latest_and_accepted(
    connection: Connection, source: str, *, set_name: str | None = None
) -> list[tuple[Evaluation, Evaluation]]:
    """Return (latest evaluation, the one accepted last) of each evaluated set of a source, with single queries."""
    both = _evaluations(
        connection,
        """normalize(s.name) = normalize(%(source)s) AND (r.name = %(set)s OR %(set)s::text IS NULL) AND e.id IN (
             (SELECT max(id) FROM retrieval_evaluations WHERE set_id = r.id),
             (SELECT id FROM retrieval_evaluations WHERE set_id = r.id AND accepted_at IS NOT NULL
              ORDER BY accepted_at DESC LIMIT 1))
           ORDER BY r.name, e.id""",
        {"source": source, "set": set_name},
    )
    by_set: dict[str, list[Evaluation]] = {}
    for evaluation in _with_queries(connection, both):
        by_set.setdefault(evaluation.set_name, []).append(evaluation)
    return [(of_set[-1], _accepted(of_set)) for of_set in by_set.values()]


def _accepted(of_set: Sequence[Evaluation]) -> Evaluation:
    return max(
        (evaluation for evaluation in of_set if evaluation.accepted_at is not None),
        key=lambda evaluation: (evaluation.accepted_at, evaluation.id),
    )


def get_evaluation(connection: Connection, number: int) -> Evaluation:
    """Return an evaluation with the results of single queries. Raises ConfigError if none has this number."""
    matching = _evaluations(connection, "e.id = %s", [number])
    if not matching:
        raise ConfigError(f"There is no evaluation {number}. Their numbers: rag eval list SET")
    return _with_queries(connection, matching)[0]


def accept_evaluation(connection: Connection, number: int) -> None:
    connection.execute(
        "UPDATE retrieval_evaluations SET accepted_at = clock_timestamp() WHERE id = %s", [number]
    )


class _StoredMeasure(NamedTuple):
    evaluation_id: int
    mode: str
    measure: str
    value: float
    lower: float | None
    upper: float | None


def _evaluations(
    connection: Connection, condition: LiteralString, parameters: Parameters
) -> list[Evaluation]:
    """Return evaluations `e` with their measures. The condition may also name their sets `r` and sources `s`."""
    without_measures = fetch_all(
        connection,
        partial(Evaluation, modes={}),
        f"""SELECT e.id, r.name AS set_name, r.known_items, s.name AS source, e.run_id, e.model_fingerprint AS model,
              e.measured_at, e.queries, e.outdated, e.accepted_at
            FROM retrieval_evaluations e JOIN retrieval_sets r ON r.id = e.set_id JOIN sources s ON s.id = r.source_id
            WHERE {condition}""",
        parameters,
    )
    modes: dict[int, dict[str, dict[str, Measure]]] = {item.id: {} for item in without_measures}
    for stored in fetch_all(
        connection,
        _StoredMeasure,
        """SELECT evaluation_id, mode, measure, value, lower, upper FROM retrieval_measures
           WHERE evaluation_id = ANY(%s) ORDER BY array_position(ARRAY['dense', 'sparse', 'hybrid', 'multi'], mode)""",
        [list(modes)],
    ):
        measures = modes[stored.evaluation_id].setdefault(stored.mode, {})
        measures[stored.measure] = Measure(stored.value, stored.lower, stored.upper)
    return [
        replace(
            item,
            modes={mode: ModeResult(mode, measures) for mode, measures in modes[item.id].items()},
        )
        for item in without_measures
    ]


class _StoredResult(NamedTuple):
    evaluation_id: int
    mode: str
    query_ids: list[str]
    ranks: list[int]
    ndcg: list[float]


def _with_queries(
    connection: Connection, without_queries: Sequence[Evaluation]
) -> list[Evaluation]:
    modes = {item.id: dict(item.modes) for item in without_queries}
    for stored in fetch_all(
        connection,
        _StoredResult,
        "SELECT evaluation_id, mode, query_ids, ranks, ndcg FROM retrieval_results WHERE evaluation_id = ANY(%s)",
        [list(modes)],
    ):
        results = modes[stored.evaluation_id]
        results[stored.mode] = ModeResult(
            stored.mode,
            results[stored.mode].measures,
            stored.query_ids,
            np.asarray(stored.ranks, np.int32),
            np.asarray(stored.ndcg, np.float64),
        )
    return [replace(item, modes=modes[item.id]) for item in without_queries]
