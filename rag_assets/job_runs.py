"""Runs of Dagster jobs: execution in this process, the reasons of failed steps, records of earlier runs; partitions."""

from __future__ import annotations

import re
import uuid
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import dagster as dg

#: Classes of drivers' errors that Dagster keeps by name: PostgreSQL, which has its events too, went away.
AWAY: tuple[str, ...] = ("OperationalError", "InterfaceError")


def execute_job(
    job: dg.JobDefinition,
    instance: dg.DagsterInstance,
    partition: str | None,
    ops: Mapping[str, Any],
    tags: Mapping[str, str],
) -> dg.ExecuteInProcessResult:
    """Execute a job in this process. `ops`: op -> its configuration. A failed run is in the result, not raised."""
    from dagster_postgres.utils import DagsterPostgresException
    from sqlalchemy.exc import DBAPIError

    from rag_assets.partitions import MAX_RETRIES_TAG, PARTITION_TAG
    from resources.driver_errors import driver_error
    from resources.errors import StoreUnavailable
    from resources.run_processes import own_command_tags, own_run_tags

    run_id = str(uuid.uuid4())
    try:
        return job.execute_in_process(
            instance=instance,
            # A tag, not partition_key: Dagster refuses the parameter for a job of checks alone.
            tags={
                **own_run_tags(run_id),
                **own_command_tags(),
                # Dagster's daemon cannot start the run of another process again, and would report that it failed.
                MAX_RETRIES_TAG: "0",
                **({PARTITION_TAG: partition} if partition else {}),
                **tags,
            },
            run_config={
                "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
                "ops": {name: {"config": config} for name, config in ops.items()},
            },
            run_id=run_id,
            raise_on_error=False,
        )
    except (DBAPIError, DagsterPostgresException) as error:
        # Dagster keeps its events in PostgreSQL too: without it, the failure of the run cannot be recorded.
        known = driver_error(error)
        if known is not None and not known.transient:
            raise known from error
        # The driver's own words: SQLAlchemy adds the statement, its parameters and a link.
        reason = " ".join(str(getattr(error, "orig", None) or error).split())[:300]
        raise StoreUnavailable(
            f"PostgreSQL could not record the run of {job.name}: {reason}. Committed work is kept; run it again."
        ) from error


def failures(result: dg.ExecuteInProcessResult) -> Sequence[tuple[str, str]]:
    """Return (step, message) of the failed steps, without tracebacks.

    An error that a last step reports has the step in which it occurred.
    """
    messages = []
    for event in result.all_events:
        if event.is_step_failure:
            data = event.step_failure_data
            if data.user_failure_data is not None and data.user_failure_data.description:
                stage = data.user_failure_data.metadata.get("stage")
                step = event.step_key or "" if stage is None else str(stage.value)
                messages.append((step, data.user_failure_data.description))
            elif data.error is not None:
                messages.append((event.step_key or "", _message(data.error.cause or data.error)))
    return messages


def _message(error: Any) -> str:
    """Return the message of an error that Dagster caught. Those of our own classes are sentences without the class."""
    message = re.sub(
        r"^(resources\.errors|rag_assets\.dagster_internals)\.\w+: ", "", error.message.strip()
    )
    if error.cls_name not in AWAY:
        return message
    # SQLAlchemy adds the class of the driver, the statement, its parameters and a link.
    reason = re.split(r"\[SQL:|\(Background on this error", message)[0]
    reason = re.sub(r"^(\(?[\w.]+\.\w+(\)|:) ?)+", "", reason.strip())
    return (
        f"PostgreSQL went away: {' '.join(reason.split()).rstrip('.')}. Committed work is kept; "
        "run the command again."
    )


def set_partitions(instance: dg.DagsterInstance, keys: Sequence[str]) -> None:
    """Make Dagster's partitions of sources equal to these keys."""
    from rag_assets.partitions import SOURCES

    name = SOURCES.name or ""
    existing = set(instance.get_dynamic_partitions(name))
    if missing := [key for key in keys if key not in existing]:
        instance.add_dynamic_partitions(name, missing)
    for key in existing - set(keys):
        instance.delete_dynamic_partition(name, key)


def run_records(
    instance: dg.DagsterInstance, run_ids: Collection[str]
) -> dict[str, dict[str, Any]]:
    """Return run id -> job, status, started_at and url (a path of Dagster's UI). Deleted runs are absent."""
    import dagster as dg

    records = instance.get_run_records(dg.RunsFilter(run_ids=list(run_ids)))
    return {
        record.dagster_run.run_id: {
            "job": record.dagster_run.job_name,
            "status": record.dagster_run.status.value,
            "started_at": datetime.fromtimestamp(record.start_time, UTC)
            if record.start_time
            else record.create_timestamp,
            "url": f"/runs/{record.dagster_run.run_id}",
        }
        for record in records
    }
