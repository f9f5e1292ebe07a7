"""Table `check_results`: what each check last found of each source, and the repairs that did not mend it.

What a result means, and what is done about it, is decided by its readers.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from resources.postgres.connection import Connection

#: What begins so, of the commands that mend, a sensor has done by itself.
REPAIR = "rag repair"

Form = Literal["full", "quick"]
Outcome = Literal["passed", "failed", "undetermined"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found of a source; `seconds` ago it began to look. `finding`: see the table."""

    source: str
    asset: str
    check: str
    form: Form
    outcome: Outcome
    sentence: str
    mend: str
    finding: str
    seconds: float


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The last result of a check."""

    source: str
    asset: str
    check: str
    form: Form
    outcome: Outcome
    sentence: str
    mend: str
    finding: str
    since: datetime
    checked_at: datetime
    repairs: int
    repaired_at: datetime | None


def record_findings(connection: Connection, findings: Sequence[Finding], run_id: str) -> None:
    """Remembers findings, except of sources that are gone. `connection` must be in autocommit mode.

    A quick form that found nothing this time does not take back what an earlier one had confirmed: the full form does,
    whatever it found, and the repairs made meanwhile count as repairs of what it found.
    """
    with connection.transaction():
        connection.execute(
            """INSERT INTO check_results (source_id, asset, check_name, form, outcome, sentence, mend, finding, since,
                 checked_at, run_id, repairs, repaired_at, repair_run_id)
               SELECT s.id, f.asset, f.check_name, f.form, f.outcome, f.sentence, f.mend, f.finding, f.checked_at,
                 f.checked_at, %(run_id)s, coalesce(q.repairs, 0), q.repaired_at, q.repair_run_id
               FROM (SELECT source, asset, check_name, form, outcome, sentence, mend, finding,
                       clock_timestamp() - make_interval(secs => seconds) AS checked_at
                     FROM unnest(%(sources)s::text[], %(assets)s::text[], %(checks)s::text[], %(forms)s::text[],
                       %(outcomes)s::text[], %(sentences)s::text[], %(mends)s::text[], %(findings)s::text[],
                       %(seconds)s::float8[])
                     AS t (source, asset, check_name, form, outcome, sentence, mend, finding, seconds)) AS f
               JOIN sources s ON s.name = f.source
               LEFT JOIN check_results q ON q.source_id = s.id AND q.check_name = f.check_name AND q.form = 'quick'
                 AND q.outcome = 'failed' AND f.form = 'full' AND f.outcome = 'failed'
               FOR KEY SHARE OF s
               ON CONFLICT (source_id, check_name, form) DO UPDATE SET asset = excluded.asset,
                 outcome = excluded.outcome, sentence = excluded.sentence, mend = excluded.mend,
                 finding = excluded.finding, checked_at = excluded.checked_at, run_id = excluded.run_id,
                 (since, repairs, repaired_at, repair_run_id) = (
                   SELECT CASE WHEN same THEN check_results.since ELSE excluded.since END,
                     CASE WHEN same THEN check_results.repairs ELSE excluded.repairs END,
                     CASE WHEN same THEN check_results.repaired_at ELSE excluded.repaired_at END,
                     CASE WHEN same THEN check_results.repair_run_id ELSE excluded.repair_run_id END
                   FROM (SELECT (check_results.outcome, check_results.finding)
                     = (excluded.outcome, excluded.finding) AS same) AS compared)
               WHERE check_results.checked_at < excluded.checked_at
                 AND NOT (excluded.form = 'quick' AND check_results.outcome = 'failed'
                   AND excluded.outcome <> 'failed')""",
            {
                "run_id": run_id,
                "sources": [item.source for item in findings],
                "assets": [item.asset for item in findings],
                "checks": [item.check for item in findings],
                "forms": [item.form for item in findings],
                "outcomes": [item.outcome for item in findings],
                "sentences": [item.sentence for item in findings],
                "mends": [item.mend for item in findings],
                "findings": [item.finding for item in findings],
                "seconds": [item.seconds for item in findings],
            },
        )
        connection.execute(
            """DELETE FROM check_results q USING check_results f, sources s
               WHERE q.form = 'quick' AND q.outcome = 'failed' AND f.form = 'full' AND f.run_id = %(run_id)s
                 AND (f.source_id, f.check_name) = (q.source_id, q.check_name) AND f.checked_at > q.checked_at
                 AND s.id = q.source_id AND s.name = ANY(%(sources)s)""",
            {"run_id": run_id, "sources": [item.source for item in findings]},
        )


def record_repair(connection: Connection, source_id: uuid.UUID, run_id: str) -> None:
    """A repair of the source begins, or ended: said once more by the same run, it is the same repair."""
    connection.execute(
        """UPDATE check_results SET repaired_at = clock_timestamp(), repair_run_id = %(run_id)s,
             repairs = repairs + (repair_run_id IS DISTINCT FROM %(run_id)s)::int
           WHERE source_id = %(source)s AND outcome = 'failed'""",
        {"source": source_id, "run_id": run_id},
    )


def last_results(connection: Connection, source: str | None = None) -> list[CheckResult]:
    """Of every check of every source, or of one. Nothing before the migration that made the table."""
    if connection.execute("SELECT to_regclass('check_results')").fetchone() == (None,):
        return []
    rows = connection.execute(
        """SELECT s.name, r.asset, r.check_name, r.form, r.outcome, r.sentence, r.mend, r.finding, r.since,
             r.checked_at, r.repairs, r.repaired_at
           FROM check_results r JOIN sources s ON s.id = r.source_id
           WHERE s.name = %(source)s OR %(source)s::text IS NULL ORDER BY s.name, r.asset, r.check_name, r.form""",
        {"source": source},
    )
    return [CheckResult(*row) for row in rows]
