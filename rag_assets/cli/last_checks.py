"""The part of `rag status` about checks: when each source was last checked, the outcome, and what is still open."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from rag_assets.cli.output import out, table
from rag_assets.consistency.remediation import age, gave_up_message, next_steps
from resources.postgres.connection import Connection
from resources.postgres.consistency.check_results import (
    CheckResult,
    Form,
    has_results,
    last_results,
)
from resources.postgres.registry.sources import list_sources

#: The checks that every sync runs, because they block it.
IN_EVERY_SYNC = frozenset({"chunks_have_documents", "chunk_positions_are_contiguous"})
#: The worst first.
_OUTCOMES = ("failed", "undetermined", "passed")


def last_checks(connection: Connection, attempts: int) -> list[dict[str, Any]]:
    """Return the last checks of each source; none before the migrations. `attempts`: maximum repairs of a finding."""
    if not has_results(connection):
        return []
    results = last_results(connection)
    return [
        _of_source(source.name, [item for item in results if item.source == source.name], attempts)
        for source in list_sources(connection)
    ]


def _of_source(name: str, results: list[CheckResult], attempts: int) -> dict[str, Any]:
    steps = next_steps(results, attempts, datetime.now(UTC))
    gave_up = [step.result for step in steps if step.action == "give_up"]
    return {
        "source": name,
        "full": _summary(results, "full"),
        "quick": _summary(results, "quick"),
        "open": [
            {
                "check": result.check,
                "form": result.form,
                "outcome": result.outcome,
                "since": result.since,
                "found": result.sentence,
                "remedy": result.remedy,
                "command": result.command,
                "inconsistency": result.inconsistency,
                "repairs": result.repairs,
                "gave_up": result in gave_up,
            }
            for result in results
            if result.outcome != "passed"
        ],
        "gave_up": [gave_up_message(result) for result in gave_up],
    }


def _summary(results: list[CheckResult], form: Form) -> dict[str, Any] | None:
    """Return the time of the oldest of these results, and the worst outcome; None if there are none.

    A sync alone runs the checks that block it: they are no full check.
    """
    of_form = [result for result in results if result.form == form]
    of_checks = [result for result in of_form if result.check not in IN_EVERY_SYNC]
    if not of_checks:
        return None
    outcomes = {result.outcome for result in of_form}
    return {
        "checked_at": min(result.checked_at for result in of_checks),
        "outcome": next(outcome for outcome in _OUTCOMES if outcome in outcomes),
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
                ", ".join(sorted({result["check"] for result in item["open"]})) or "nothing",
            )
            for item in checks
        ],
    )
    for item in checks:
        for message in item["gave_up"]:
            out.print(message, markup=False, soft_wrap=True, style="bold red")
