"""The sensor that has repaired what checks found, looks again afterwards, and stops where repairs do not help.

What is to be done follows from `check_results` alone; the cursor only makes what a run did not change be asked for
ever more seldom.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

import dagster as dg

from rag_assets.automation.jobs import check_source, repair_drift
from rag_assets.automation.requests import FIRST_RETRY, INTERVAL, LAST_RETRY, Asked, busy
from rag_assets.checks.results import REPAIR
from rag_assets.partitions import PARTITION_TAG, SOURCES, partition_key
from rag_assets.settings import load_settings
from resources.configured import PostgresResource
from resources.postgres.check_results import CheckResult, last_results
from resources.postgres.sources import list_sources

#: Tags of a requested run: which attempt it is ("2 of 3"), and the check that asked for it.
ATTEMPT_TAG, CHECK_TAG = "rag/repair_attempt", "rag/check"


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


def next_steps(results: Iterable[CheckResult], attempts: int, now: datetime) -> list[Step]:
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
            if (
                result.form == "quick"
            ):  # once for each difference: the full form has the last word on it
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
    return min(max(lasted, FIRST_RETRY), LAST_RETRY)


def gave_up(stopped: CheckResult) -> str:
    """What is said of a source that is not repaired any more, and what to do."""
    return (
        f"{stopped.source}: {stopped.check} fails after {stopped.repairs} repairs, and no more are requested until "
        f"it passes or finds something else. It says: {stopped.sentence} What to do: docs/operations.md, and "
        f"`{REPAIR} --source {stopped.source} --dry-run`."
    )


@dg.sensor(
    jobs=[repair_drift, check_source],
    minimum_interval_seconds=INTERVAL,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Has a source repaired whose check failed, checks it again afterwards, and stops after some attempts.",
)
def failed_checks_sensor(
    context: dg.SensorEvaluationContext, postgres: PostgresResource
) -> dg.SensorResult | dg.SkipReason:
    asked, attempts = Asked.of(context.cursor), load_settings().repair_attempts
    known = set(context.instance.get_dynamic_partitions(SOURCES.name or ""))
    with postgres.open().connect(autocommit=True) as connection:
        active = [source.name for source in list_sources(connection) if source.is_active]
        results = last_results(connection)
    requests, stopped, now = [], [], datetime.now(UTC)
    for name in active:
        key = partition_key(name)
        steps = next_steps([found for found in results if found.source == name], attempts, now)
        stopped += [gave_up(step.because) for step in steps if step.do == "stop"]
        if not steps or steps[0].do == "stop" or key not in known:
            continue
        step = steps[0]
        if asked.due(key, step.seen) and not busy(context.instance, None, {PARTITION_TAG: key}):
            requests.append(_request(key, step, attempts))
            asked.asked(key, step.seen)
    context.update_cursor(asked.cursor())
    for sentence in stopped:
        context.log.error(sentence)
    if not requests:
        return dg.SkipReason(_skipped(stopped, asked))
    return dg.SensorResult(run_requests=requests)


def _request(key: str, step: Step, attempts: int) -> dg.RunRequest:
    # Dagster's own retries of a run would be attempts that nobody counts.
    tags = {CHECK_TAG: step.because.check, "dagster/max_retries": "0"}
    if step.do == "repair":
        tags[ATTEMPT_TAG] = f"{step.attempt} of {attempts}"
        return dg.RunRequest(job_name=repair_drift.name, partition_key=key, tags=tags)
    # By its tag: a job of checks alone has no partitions for Dagster.
    return dg.RunRequest(job_name=check_source.name, tags={**tags, PARTITION_TAG: key})


def _skipped(stopped: Sequence[str], asked: Asked) -> str:
    waiting = f"Waiting for {', '.join(asked.after)}." if asked.after else ""
    return " ".join([*stopped, waiting]).strip() or "No check waits for a repair or another look."
