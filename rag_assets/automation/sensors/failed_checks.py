"""The sensor that requests repairs of failed checks, checks again afterwards, and stops if repairs do not help.

The next step follows from table `check_results` alone; the cursor only spaces out requests that changed nothing.
"""

from collections.abc import Sequence
from datetime import UTC, datetime

import dagster as dg

from rag_assets.automation.jobs import check_source, repair_drift
from rag_assets.automation.run_requests import INTERVAL, RequestCursor, sources_in_progress
from rag_assets.consistency.remediation import RemediationStep, gave_up_message, next_steps
from rag_assets.partitions import PARTITION_TAG, SOURCES
from rag_assets.settings.load import load_settings
from resources.dagster_resources import PostgresResource
from resources.partition_keys import partition_key
from resources.postgres.consistency.check_results import last_results
from resources.postgres.registry.sources import list_sources

#: Tags of a requested run: the attempt ("2 of 3"), and the check that caused the request.
ATTEMPT_TAG, CHECK_TAG = "rag/repair_attempt", "rag/check"


@dg.sensor(
    jobs=[repair_drift, check_source],
    minimum_interval_seconds=INTERVAL,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Repairs a source whose check failed, checks it again, and stops after some attempts.",
)
def failed_checks_sensor(
    context: dg.SensorEvaluationContext, postgres: PostgresResource
) -> dg.SensorResult | dg.SkipReason:
    cursor, attempts = RequestCursor.parse(context.cursor), load_settings().repair_attempts
    partitions = set(context.instance.get_dynamic_partitions(SOURCES.name or ""))
    with postgres.open().connect(autocommit=True) as connection:
        active = [source.name for source in list_sources(connection) if source.is_active]
        results = last_results(connection)
    requests, messages, now = [], [], datetime.now(UTC)
    running, _ = sources_in_progress(context.instance)
    for name in active:
        key = partition_key(name)
        steps = next_steps([item for item in results if item.source == name], attempts, now)
        messages += [gave_up_message(step.result) for step in steps if step.action == "give_up"]
        if not steps or steps[0].action == "give_up" or key not in partitions:
            continue
        step = steps[0]
        if cursor.is_due(key, step.state) and name not in running:
            requests.append(_request(key, step, attempts))
            cursor.record_request(key, step.state)
    context.update_cursor(cursor.serialize())
    for message in messages:
        context.log.error(message)
    if not requests:
        return dg.SkipReason(_skip_message(messages, cursor))
    return dg.SensorResult(run_requests=requests)


def _request(key: str, step: RemediationStep, attempts: int) -> dg.RunRequest:
    # Without Dagster's own retries: they would be attempts that are not counted.
    tags = {CHECK_TAG: step.result.check, "dagster/max_retries": "0"}
    if step.action == "repair":
        tags[ATTEMPT_TAG] = f"{step.attempt} of {attempts}"
        return dg.RunRequest(job_name=repair_drift.name, partition_key=key, tags=tags)
    # By its tag: to Dagster, a job of checks alone has no partitions.
    return dg.RunRequest(job_name=check_source.name, tags={**tags, PARTITION_TAG: key})


def _skip_message(messages: Sequence[str], cursor: RequestCursor) -> str:
    waiting = f"Waiting for {', '.join(cursor.current)}." if cursor.current else ""
    return " ".join([*messages, waiting]).strip() or "No check needs a repair or another check."
