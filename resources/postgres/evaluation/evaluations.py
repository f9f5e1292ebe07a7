"""Tables `retrieval_evaluations`, `retrieval_measures`, `retrieval_results`: what was measured with a set, and when.

What makes it good or bad is decided by its readers.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resources.errors import ConfigError
from resources.postgres.connection import Connection

#: Evaluations of a set that are kept, besides the accepted ones: more than a year of nights.
KEPT = 400


@dataclass(frozen=True, slots=True)
class Measure:
    """`lower`, `upper`: 95 % confidence interval, of means over queries."""

    value: float
    lower: float | None = None
    upper: float | None = None


@dataclass(frozen=True)
class ModeResult:
    """Of one mode. `ranks` of the first relevant result (0: none) and `ndcg`, in the order of `query_ids`."""

    mode: str
    measures: Mapping[str, Measure]
    query_ids: Sequence[str] = ()
    ranks: NDArray[np.int32] = field(default_factory=lambda: np.zeros(0, np.int32))
    ndcg: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))


@dataclass(frozen=True)
class Evaluation:
    """What one run measured with one set. `outdated`: queries whose answers the source no longer has."""

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
                    name: {"value": found.value}
                    | (
                        {"lower": found.lower, "upper": found.upper}
                        if found.lower is not None
                        else {}
                    )
                    for name, found in result.measures.items()
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
    """Returns its id. The first one of a set is accepted by itself; old ones are forgotten."""
    with connection.transaction():
        row = connection.execute(
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
        ).fetchone()
        assert row is not None
        measures = [
            (result.mode, name, found.value, found.lower, found.upper)
            for result in results
            for name, found in result.measures.items()
        ]
        connection.execute(
            """INSERT INTO retrieval_measures (evaluation_id, mode, measure, value, lower, upper)
               SELECT %s, * FROM unnest(%s::text[], %s::text[], %s::float8[], %s::float8[], %s::float8[])""",
            [row[0], *(list(column) for column in zip(*measures))],
        )
        with connection.cursor() as cursor:  # a row a mode
            cursor.executemany(
                "INSERT INTO retrieval_results VALUES (%s, %s, %s, %s, %s)",
                [
                    (
                        row[0],
                        each.mode,
                        list(each.query_ids),
                        each.ranks.tolist(),
                        each.ndcg.tolist(),
                    )
                    for each in results
                ],
            )
        connection.execute(
            """DELETE FROM retrieval_evaluations WHERE set_id = %(set)s AND accepted_at IS NULL AND id <= (
                 SELECT id FROM retrieval_evaluations WHERE set_id = %(set)s
                 ORDER BY id DESC OFFSET %(kept)s LIMIT 1)""",
            {"set": set_id, "kept": KEPT},
        )
    return row[0]


_EVALUATIONS = """SELECT e.id, r.name, r.known_items, s.name, e.run_id, e.model_fingerprint, e.measured_at, e.queries,
    e.outdated, e.accepted_at
  FROM retrieval_evaluations e JOIN retrieval_sets r ON r.id = e.set_id JOIN sources s ON s.id = r.source_id"""


def evaluations(
    connection: Connection, set_name: str, *, limit: int | None = None
) -> list[Evaluation]:
    """Of one set, the newest first; without what was found query by query."""
    rows = connection.execute(
        _EVALUATIONS + " WHERE r.name = %s ORDER BY e.id DESC LIMIT %s", [set_name, limit]
    ).fetchall()
    return _with_measures(connection, rows)


def latest_and_accepted(
    connection: Connection, source: str, *, set_name: str | None = None
) -> list[tuple[Evaluation, Evaluation]]:
    """Of each evaluated set of a source: its last evaluation, and the one accepted last; query by query."""
    rows = connection.execute(
        _EVALUATIONS
        + """ WHERE s.name = %(source)s AND (r.name = %(set)s OR %(set)s::text IS NULL) AND e.id IN (
               (SELECT max(id) FROM retrieval_evaluations WHERE set_id = r.id),
               (SELECT id FROM retrieval_evaluations WHERE set_id = r.id AND accepted_at IS NOT NULL
                ORDER BY accepted_at DESC LIMIT 1))
             ORDER BY r.name, e.id""",
        {"source": source, "set": set_name},
    ).fetchall()
    of_set: dict[str, list[Evaluation]] = {}
    for each in _with_results(connection, _with_measures(connection, rows)):
        of_set.setdefault(each.set_name, []).append(each)
    return [(found[-1], _accepted(found)) for found in of_set.values()]


def _accepted(found: Sequence[Evaluation]) -> Evaluation:
    return max(
        (each for each in found if each.accepted_at is not None),
        key=lambda each: (each.accepted_at, each.id),
    )


def get_evaluation(connection: Connection, number: int) -> Evaluation:
    """Query by query. Raises ConfigError when there is none of this number."""
    rows = connection.execute(_EVALUATIONS + " WHERE e.id = %s", [number]).fetchall()
    if not rows:
        raise ConfigError(f"There is no evaluation {number}. Their numbers: rag eval list SET")
    return _with_results(connection, _with_measures(connection, rows))[0]


def accept(connection: Connection, number: int) -> None:
    connection.execute(
        "UPDATE retrieval_evaluations SET accepted_at = clock_timestamp() WHERE id = %s", [number]
    )


def _with_measures(connection: Connection, rows: Sequence[tuple[Any, ...]]) -> list[Evaluation]:
    found: dict[int, dict[str, dict[str, Measure]]] = {row[0]: {} for row in rows}
    for number, mode, measure, value, lower, upper in connection.execute(
        """SELECT evaluation_id, mode, measure, value, lower, upper FROM retrieval_measures
           WHERE evaluation_id = ANY(%s) ORDER BY array_position(ARRAY['dense', 'sparse', 'hybrid', 'multi'], mode)""",
        [list(found)],
    ):
        found[number].setdefault(mode, {})[measure] = Measure(value, lower, upper)
    return [
        Evaluation(*row, modes={mode: ModeResult(mode, of) for mode, of in found[row[0]].items()})
        for row in rows
    ]


def _with_results(connection: Connection, without: Sequence[Evaluation]) -> list[Evaluation]:
    known = {each.id: each for each in without}
    modes: dict[int, dict[str, ModeResult]] = {
        number: dict(each.modes) for number, each in known.items()
    }
    for number, mode, queries, ranks, ndcg in connection.execute(
        "SELECT evaluation_id, mode, query_ids, ranks, ndcg FROM retrieval_results WHERE evaluation_id = ANY(%s)",
        [list(known)],
    ):
        measures = modes[number][mode].measures
        modes[number][mode] = ModeResult(
            mode, measures, queries, np.asarray(ranks, np.int32), np.asarray(ndcg, np.float64)
        )
    return [replace(each, modes=modes[each.id]) for each in without]
