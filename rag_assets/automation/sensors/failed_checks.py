"""The sensor that has repaired what checks found, looks again afterwards, and stops where repairs do not help.

What is to be done follows from `check_results` alone; the cursor only makes what a run did not change be asked for
ever more seldom.
"""

from collections.abc import Sequence
from datetime import UTC, datetime

import dagster as dg

from rag_assets.automation.jobs import check_source, repair_drift
from rag_assets.automation.run_requests import INTERVAL, Asked, in_progress
from rag_assets.consistency.remediation import Step, gave_up, next_steps
from rag_assets.partitions import PARTITION_TAG, SOURCES, partition_key
from rag_assets.settings.load import load_settings
from resources.dagster_resources import PostgresResource
from resources.postgres.consistency.check_results import last_results
from resources.postgres.registry.sources import list_sources

#: Tags of a requested run: which attempt it is ("2 of 3"), and the check that asked for it.
ATTEMPT_TAG, CHECK_TAG = "rag/repair_attempt", "rag/check"


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
    working, _ = in_progress(context.instance)
    for name in active:
        key = partition_key(name)
        steps = next_steps([found for found in results if found.source == name], attempts, now)
        stopped += [gave_up(step.because) for step in steps if step.do == "stop"]
        if not steps or steps[0].do == "stop" or key not in known:
            continue
        step = steps[0]
        if asked.due(key, step.seen) and name not in working:
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
