"""The part of `rag status` that tells when each source was last checked, how that ended, and what is open."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from rag_assets.cli.output import out, table
from rag_assets.consistency.remediation import age, gave_up, next_steps
from resources.postgres.connection import Connection
from resources.postgres.consistency.check_results import CheckResult, Form, last_results
from resources.postgres.registry.sources import list_sources

#: The worst first.
_OUTCOMES = ("failed", "undetermined", "passed")


def last_checks(connection: Connection, attempts: int) -> list[dict[str, Any]]:
    """Of each source. `checked_at`: since then every check has been made. Nothing before the first migration."""
    if connection.execute("SELECT to_regclass('check_results')").fetchone() == (None,):
        return []
    results = last_results(connection)
    return [
        _of_source(
            source.name, [found for found in results if found.source == source.name], attempts
        )
        for source in list_sources(connection)
    ]


def _of_source(name: str, results: list[CheckResult], attempts: int) -> dict[str, Any]:
    steps = {step.because: step for step in next_steps(results, attempts, datetime.now(UTC))}
    return {
        "source": name,
        "full": _summary(results, "full"),
        "quick": _summary(results, "quick"),
        "open": [
            {
                "check": found.check,
                "form": found.form,
                "outcome": found.outcome,
                "since": found.since,
                "found": found.sentence,
                "mend_with": found.mend,
                "repairs": found.repairs,
                "gave_up": found in steps and steps[found].do == "stop",
            }
            for found in results
            if found.outcome != "passed"
        ],
        "gave_up": [gave_up(step.because) for step in steps.values() if step.do == "stop"],
    }


def _summary(results: list[CheckResult], form: Form) -> dict[str, Any] | None:
    """When the oldest of these results was found, and the worst of them; None: never."""
    made = [found for found in results if found.form == form]
    if not made:
        return None
    return {
        "checked_at": min(found.checked_at for found in made),
        "outcome": next(o for o in _OUTCOMES if any(found.outcome == o for found in made)),
    }


def show_checks(checks: list[dict[str, Any]]) -> None:
    def cell(summary: dict[str, Any] | None) -> str:
        return f"{age(summary['checked_at'])} ago: {summary['outcome']}" if summary else "never"

    table(
        "Last checked",
        ("source", "fully", "quickly", "open"),
        [
            (
                item["source"],
                cell(item["full"]),
                cell(item["quick"]),
                ", ".join(sorted({found["check"] for found in item["open"]})) or "nothing",
            )
            for item in checks
        ],
    )
    for item in checks:
        for sentence in item["gave_up"]:
            out.print(sentence, markup=False, soft_wrap=True, style="bold red")
