"""Table `check_results`: the last result of each check of each source, and the repairs that did not fix it.

The readers decide what follows from a result.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Literal

from resources.postgres.connection import Connection
from resources.postgres.queries import fetch_all, scalar

Form = Literal["full", "quick"]
Outcome = Literal["passed", "failed", "undetermined"]

#: Who fixes it: `rag repair` (which a sensor requests), `rag rebuild`, another full check, or a person.
Remedy = Literal["repair", "rebuild", "check", "person"]

#: Chunks and rows whose document or chunk is gone; chunks without their current vector; documents, chunks and counts
#: that contradict each other; collections, indexes and aliases that are not the declared ones.
Inconsistency = Literal["orphaned_chunks", "missing_vectors", "status_mismatches", "index_issues"]
INCONSISTENCIES: tuple[Inconsistency, ...] = (
    "orphaned_chunks",
    "missing_vectors",
    "status_mismatches",
    "index_issues",
)


@dataclass(frozen=True, slots=True)
class CheckRecord:
    """A result to store. `finding`: the digest of the findings' keys.

    `seconds`: the time between the start of the check and the call of `record_results`, which dates the result by it.
    """

    source: str
    asset: str
    check: str
    form: Form
    outcome: Outcome
    sentence: str
    remedy: Remedy | None
    command: str
    inconsistency: Inconsistency | None
    finding: str
    seconds: float


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The last stored result of a check. `since`: outcome and finding have been the same since then."""

    source: str
    asset: str
    check: str
    form: Form
    outcome: Outcome
    sentence: str
    remedy: Remedy | None
    command: str
    inconsistency: Inconsistency | None
    finding: str
    since: datetime
    checked_at: datetime
    repairs: int
    repaired_at: datetime | None


def record_results(connection: Connection, records: Sequence[CheckRecord], run_id: str) -> None:
    """Store results, except those of deleted sources. `connection` must be in autocommit mode.

    A quick form that finds nothing does not replace an earlier one that confirmed a fault: the full form does, whatever
    it finds, and the repairs since then count as repairs of its finding. A stored empty finding equals any other of the
    same outcome: rows from before migration 0018 have none.
    """
    names = [field.name for field in fields(CheckRecord)]
    values = {name: [getattr(record, name) for record in records] for name in names}
    with connection.transaction():
        connection.execute(
            """INSERT INTO check_results (source_id, asset, check_name, form, outcome, sentence, remedy, command,
                 inconsistency, finding, since, checked_at, run_id, repairs, repaired_at, repair_run_id)
               SELECT s.id, f.asset, f.check_name, f.form, f.outcome, f.sentence, f.remedy, f.command,
                 f.inconsistency, f.finding, f.checked_at, f.checked_at, %(run_id)s,
                 coalesce(q.repairs, 0), q.repaired_at, q.repair_run_id
               FROM (SELECT source, asset, check_name, form, outcome, sentence, remedy, command, inconsistency, finding,
                       clock_timestamp() - make_interval(secs => seconds) AS checked_at
                     FROM unnest(%(source)s::text[], %(asset)s::text[], %(check)s::text[], %(form)s::text[],
                       %(outcome)s::text[], %(sentence)s::text[], %(remedy)s::text[], %(command)s::text[],
                       %(inconsistency)s::text[], %(finding)s::text[], %(seconds)s::float8[])
                     AS t (source, asset, check_name, form, outcome, sentence, remedy, command, inconsistency, finding,
                       seconds)) AS f
               JOIN sources s ON s.name = f.source
               LEFT JOIN check_results q ON q.source_id = s.id AND q.check_name = f.check_name AND q.form = 'quick'
                 AND q.outcome = 'failed' AND f.form = 'full' AND f.outcome = 'failed'
               FOR KEY SHARE OF s
               ON CONFLICT (source_id, check_name, form) DO UPDATE SET asset = excluded.asset,
                 outcome = excluded.outcome, sentence = excluded.sentence, remedy = excluded.remedy,
                 command = excluded.command, inconsistency = excluded.inconsistency,
                 finding = excluded.finding, checked_at = excluded.checked_at, run_id = excluded.run_id,
                 (since, repairs, repaired_at, repair_run_id) = (
                   SELECT CASE WHEN same THEN check_results.since ELSE excluded.since END,
                     CASE WHEN same THEN check_results.repairs ELSE excluded.repairs END,
                     CASE WHEN same THEN check_results.repaired_at ELSE excluded.repaired_at END,
                     CASE WHEN same THEN check_results.repair_run_id ELSE excluded.repair_run_id END
                   FROM (SELECT check_results.outcome = excluded.outcome
                     AND check_results.finding IN ('', excluded.finding) AS same) AS compared)
               WHERE check_results.checked_at < excluded.checked_at
                 AND NOT (excluded.form = 'quick' AND check_results.outcome = 'failed'
                   AND excluded.outcome <> 'failed')""",
            {"run_id": run_id, **values},
        )
        connection.execute(
            """DELETE FROM check_results q USING check_results f, sources s
               WHERE q.form = 'quick' AND q.outcome = 'failed' AND f.form = 'full' AND f.run_id = %(run_id)s
                 AND (f.source_id, f.check_name) = (q.source_id, q.check_name) AND f.checked_at > q.checked_at
                 AND s.id = q.source_id AND s.name = ANY(%(source)s)""",
            {"run_id": run_id, "source": values["source"]},
        )


def record_repair(connection: Connection, source_id: uuid.UUID, run_id: str) -> None:
    """Record that a repair of the source begins or ends. A second call by the same run counts as the same repair."""
    connection.execute(
        """UPDATE check_results SET repaired_at = clock_timestamp(), repair_run_id = %(run_id)s,
             repairs = repairs + (repair_run_id IS DISTINCT FROM %(run_id)s)::int
           WHERE source_id = %(source)s AND outcome = 'failed'""",
        {"source": source_id, "run_id": run_id},
    )


def has_results(connection: Connection) -> bool:
    """Return whether the table is there with its present columns: not before migration 0018."""
    return scalar(
        connection,
        """SELECT EXISTS (SELECT FROM pg_attribute
             WHERE attrelid = to_regclass('check_results') AND attname = 'remedy' AND NOT attisdropped)""",
    )


def last_results(connection: Connection, source: str | None = None) -> list[CheckResult]:
    """Return the last result of every check of every source, or of one source."""
    if not has_results(connection):
        return []
    return fetch_all(
        connection,
        CheckResult,
        """SELECT s.name AS source, r.asset, r.check_name AS "check", r.form, r.outcome, r.sentence, r.remedy,
             r.command, r.inconsistency, r.finding, r.since, r.checked_at, r.repairs, r.repaired_at
           FROM check_results r JOIN sources s ON s.id = r.source_id
           WHERE normalize(s.name) = normalize(%(source)s) OR %(source)s::text IS NULL
           ORDER BY s.name, r.asset, r.check_name, r.form""",
        {"source": source},
    )
