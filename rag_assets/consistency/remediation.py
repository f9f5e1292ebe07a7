"""The next step for each check that did not pass: a repair, another check, or none. No Dagster, no database.

A sensor requests the steps; `rag status` shows them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from rag_assets.consistency.finding import command_for
from resources.postgres.consistency.check_results import CheckResult

#: Seconds until an undetermined result is checked again: the first time, and at most.
FIRST_RECHECK, LAST_RECHECK = 60, 3600


@dataclass(frozen=True, slots=True)
class RemediationStep:
    """The next step for a source because of one check. "give_up": repairs did not help, a person is needed."""

    action: Literal["repair", "check", "give_up"]
    result: CheckResult
    attempt: int = 0

    @property
    def state(self) -> str:
        """Return a text that changes with each newer result and each repair. A sensor's cursor stores it."""
        result = self.result
        return f"{self.action} {result.check} {result.checked_at:%m%d%H%M%S%f} {result.repairs}"


def next_steps(
    results: Sequence[CheckResult], attempts: int, now: datetime
) -> list[RemediationStep]:
    """Return one step for each check of a source that needs one, the most urgent first. `attempts`: maximum repairs.

    A full form that did not pass takes precedence over its quick form. An undetermined result is never repaired: a full
    check follows, at growing intervals while the result stays undetermined.
    """
    full_results = {result.check: result for result in results if result.form == "full"}
    steps = []
    for result in results:
        full = full_results.get(result.check)
        if result.form == "quick" and full is not None and full.outcome != "passed":
            continue
        if result.outcome == "undetermined":
            if result.form == "quick":
                # Once for each difference of counts: the full form decides.
                if full is None or full.checked_at < result.since:
                    steps.append(RemediationStep("check", result))
            elif (now - result.checked_at).total_seconds() >= _interval(result):
                steps.append(RemediationStep("check", result))
        elif result.outcome == "failed" and result.remedy == "repair":
            if result.repaired_at is not None and result.repaired_at >= result.checked_at:
                steps.append(RemediationStep("check", result))
            elif result.repairs < attempts:
                steps.append(RemediationStep("repair", result, result.repairs + 1))
            else:
                steps.append(RemediationStep("give_up", result))
    order = ("repair", "check", "give_up")
    return sorted(steps, key=lambda step: (order.index(step.action), -step.attempt))


def _interval(result: CheckResult) -> float:
    """Return the seconds between two checks of an undetermined result: as long as it has lasted, so they double."""
    lasted = (result.checked_at - result.since).total_seconds()
    return min(max(lasted, FIRST_RECHECK), LAST_RECHECK)


def gave_up_message(result: CheckResult) -> str:
    """Return the message about a check that is no longer repaired, with the commands for a person."""
    return (
        f"{result.source}: {result.check} fails after {result.repairs} repairs, and no more are requested until it "
        f"passes or finds something else. Its finding: {result.sentence} See docs/how-to/repair.md, and run "
        f"`{command_for('repair', result.source)} --dry-run`."
    )


def age(at: datetime) -> str:
    """Return the time since then in its largest unit: `3 h`."""
    seconds = max(0.0, (datetime.now(UTC) - at).total_seconds())
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds // size:.0f} {unit}"
    return f"{seconds:.0f} s"
