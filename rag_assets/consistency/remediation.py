"""What is to be done about what checks found: a repair, another look, or nothing any more. No Dagster, no database.

The sensor does it; `rag status` shows it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from resources.postgres.consistency.check_results import REPAIR, CheckResult

#: Seconds until what is undetermined is looked at again: the first time, and at most.
FIRST_LOOK, LAST_LOOK = 60, 3600


@dataclass(frozen=True, slots=True)
class Step:
    """What is to be done about a source next, because of one check. `stop`: nothing any more, a person is needed."""

    do: Literal["repair", "check", "stop"]
    because: CheckResult
    attempt: int = 0

    @property
    def seen(self) -> str:
        """The same as long as nothing happened: no newer result, no repair."""
        because = self.because
        return f"{self.do} {because.check} {because.checked_at:%m%d%H%M%S%f} {because.repairs}"


def next_steps(results: Sequence[CheckResult], attempts: int, now: datetime) -> list[Step]:
    """One step for each check of a source about which something is to be done; what comes first is most urgent.

    A failed full form outdoes the quick one, which then knows less. What is undetermined is never repaired: a full
    check is to tell, ever more seldom while it cannot.
    """
    full = {result.check: result for result in results if result.form == "full"}
    steps = []
    for result in results:
        settled = full.get(result.check)
        if result.form == "quick" and settled is not None and settled.outcome != "passed":
            continue
        if result.outcome == "undetermined":
            if result.form == "quick":
                # Once for each difference of counts: the full form has the last word on it.
                if settled is None or settled.checked_at < result.since:
                    steps.append(Step("check", result))
            elif (now - result.checked_at).total_seconds() >= _wait(result):
                steps.append(Step("check", result))
        elif result.outcome == "failed" and result.mend.startswith(REPAIR):
            if result.repaired_at is not None and result.repaired_at >= result.checked_at:
                steps.append(Step("check", result))
            elif result.repairs < attempts:
                steps.append(Step("repair", result, result.repairs + 1))
            else:
                steps.append(Step("stop", result))
    order = ("repair", "check", "stop")
    return sorted(steps, key=lambda step: (order.index(step.do), -step.attempt))


def _wait(result: CheckResult) -> float:
    """Seconds between two looks at what stays undetermined: as long as it has been so, so they double."""
    lasted = (result.checked_at - result.since).total_seconds()
    return min(max(lasted, FIRST_LOOK), LAST_LOOK)


def gave_up(stopped: CheckResult) -> str:
    """What is said of a source that is not repaired any more, and what to do."""
    return (
        f"{stopped.source}: {stopped.check} fails after {stopped.repairs} repairs, and no more are requested until "
        f"it passes or finds something else. It says: {stopped.sentence} What to do: docs/operations.md, and "
        f"`{REPAIR} --source {stopped.source} --dry-run`."
    )


def age(at: datetime) -> str:
    """The time since then in its largest unit: `3 h`."""
    seconds = max(0.0, (datetime.now(UTC) - at).total_seconds())
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds // size:.0f} {unit}"
    return f"{seconds:.0f} s"
