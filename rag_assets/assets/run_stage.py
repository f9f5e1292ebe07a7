"""How a Dagster asset runs a stage: for each partition of the run, as its only writer, with the evidence as metadata.

The stages themselves are in `rag_assets/ingestion`.

A run over several partitions goes on if some of them fail: they are left out from then on, the others are brought up to
date in every stage, and one of the last steps fails the run. So Dagster marks the failed partitions, and only them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import dagster as dg
import psycopg

from rag_assets.assets.failures import (
    RETRY,
    StepError,
    as_stage_error,
    earlier_errors,
    errors_as_failures,
    errors_to_report,
    fail_at_the_end,
    leave_out,
    may_retry,
    report_retry,
    step_failure,
)
from rag_assets.assets.interruptions import end_if_canceled, is_canceled
from rag_assets.assets.run_partitions import join_sync, partitions_of_run, source_of
from rag_assets.assets.stage_metadata import stage_metadata, total_metadata
from rag_assets.dagster_internals import (
    RunInterrupted,
    add_partition_metadata,
    materialize_only,
)
from rag_assets.ingestion.stage import Outcome, Stage
from resources.dagster_resources import PostgresResource
from resources.errors import Fenced, RagError, SourceError
from resources.partition_keys import shard_of, source_name
from resources.postgres.connection import Connection, Postgres, set_run
from resources.postgres.registry.sources import SourceRow, list_sources
from resources.postgres.registry.syncs import (
    is_listed,
    mark_canceled,
    mark_failed,
    mark_running_again,
    mark_waiting,
)
from resources.waiting import while_others_wait

#: Seconds that a shard waits while another one works for all of them: as long as a run may take.
TURN_SECONDS = 24 * 3600

#: Seconds between two looks at whether the run was canceled, in a run over many partitions.
CANCELLATION_SECONDS = 5

COMMON: dict[str, Any] = {
    "group_name": "ingestion",
    "retry_policy": RETRY,
    "backfill_policy": dg.BackfillPolicy.single_run(),
}

#: Asked once for all partitions of a run (partition -> source), before any of them is worked on. Returns the outcome of
#: each partition for which the stage has nothing to do and nothing to report.
FindIdle = Callable[[Connection, Mapping[str, SourceRow]], Mapping[str, Outcome]]


def run_stage(
    context: dg.AssetExecutionContext,
    postgres: PostgresResource,
    work: Callable[[Stage], Outcome],
    find_idle: FindIdle,
    *,
    turns: str = "",
) -> Iterator[dg.MaterializeResult]:
    """Run `work` for each partition of this run that is not idle, as the only writer of its source.

    A partition that fails does not stop the others. `turns` names work that the first shard of a source does for all of
    them, while the other shards wait.
    """
    database, partitions = postgres.open(), ()
    try:
        with errors_as_failures(context):
            partitions = partitions_of_run(context, database)
            yield from _run_partitions(context, database, partitions, work, find_idle, turns)
    except RunInterrupted:
        _record_end(database, context, partitions, {}, canceled=is_canceled(context))
        raise


def _run_partitions(
    context: dg.AssetExecutionContext,
    database: Postgres,
    partitions: Sequence[str],
    work: Callable[[Stage], Outcome],
    find_idle: FindIdle,
    turns: str,
) -> Iterator[dg.MaterializeResult]:
    errors: list[StepError] = []
    # Without the sources that another writer has locked: that sync records its own end.
    failed_sources: dict[str, str] = {}
    asset = context.asset_key.to_user_string()
    keys = [key for key in partitions if key not in earlier_errors(context)]
    metadata = _metadata_of_idle(context, database, keys, find_idle)
    asked = time.monotonic()
    for key in keys:
        if key in metadata:
            continue
        started, name, source = time.monotonic(), source_name(key), None
        if started - asked > CANCELLATION_SECONDS:
            end_if_canceled(context)
            asked = started
        shard = shard_of(key)
        lock, patience = (f"{name}/{turns}", TURN_SECONDS) if shard and turns else (key, None)
        try:
            with database.writers([lock], patience=patience, run=context.run.run_id) as (writer,):
                source = source_of(writer.connection, key)
                if shard is not None:
                    join_sync(context, writer.connection)
                # A shard whose source this sync has not listed ends no sync, so it does not begin one again.
                if shard is None or is_listed(writer.connection, source.id):
                    mark_running_again(writer.connection, [source.id])
                with while_others_wait(len(keys) > 1):
                    outcome = work(Stage(asset, source, writer, context.log, shard))
        except RunInterrupted:
            raise
        except Exception as raised:
            # Broad, since no fault of one source may end the work on the others.
            error = as_stage_error(raised, context.log)
            errors.append(StepError(key, asset, error, source.config if source else {}))
            if source and not isinstance(error, Fenced):
                failed_sources[name] = str(error)
            continue
        seconds = time.monotonic() - started
        context.log.info(f"{key}: {outcome.plan} in {seconds:.2f} s")
        if outcome.error is not None:
            context.log.error(f"{key}: {outcome.error}")
            fail_at_the_end(context, StepError(key, asset, outcome.error, source.config))
        metadata[key] = stage_metadata(asset, outcome, seconds)
    if errors and _ends_now(context, metadata, errors):
        _record_end(database, context, partitions, failed_sources)
        raise _failure(context, errors)
    if errors:
        _record_end(database, context, partitions, failed_sources, others_wait=False)
    yield from materialize(context, metadata, errors, _total(context, database))


def materialize(
    context: dg.AssetExecutionContext,
    metadata: Mapping[str, Mapping[str, Any]],
    errors: Sequence[StepError],
    common: Mapping[str, Any],
) -> Iterator[dg.MaterializeResult]:
    """Materialize the partitions of `metadata`; one of the run's last steps then fails for those of `errors`.

    `common`: metadata of every partition.
    """
    if _ends_now(context, metadata, errors):
        raise _failure(context, errors)
    for item in errors:
        context.log.error(f"{item.partition}: {item.error}")
    leave_out(context, errors)
    if earlier_errors(context):
        materialize_only(context, list(metadata))
    add_partition_metadata(context, metadata)
    yield dg.MaterializeResult(metadata=common)
    if failed := errors_to_report(context):
        # Not tried again: the sensor of due sources syncs the failed ones again, and the others are done.
        others = metadata.keys() - {item.partition for item in failed}
        raise step_failure(failed, retry=False, others=len(others))


def _ends_now(
    context: dg.AssetExecutionContext,
    metadata: Mapping[str, Mapping[str, Any]],
    errors: Sequence[StepError],
) -> bool:
    """Return whether the step fails without a materialization.

    No partition is done, or a store failed, which all sources need, and the step may run again.
    """
    return not metadata or any(
        may_retry(context, item.error) and not isinstance(item.error, SourceError)
        for item in errors
    )


def _failure(context: dg.AssetExecutionContext, errors: Sequence[StepError]) -> dg.Failure:
    """Return the failure of a step that materializes nothing."""
    if retry := any(may_retry(context, item.error) for item in errors):
        report_retry(context, errors[0].error)
    return step_failure([*earlier_errors(context).values(), *errors], retry=retry)


def _metadata_of_idle(
    context: dg.AssetExecutionContext,
    database: Postgres,
    keys: Sequence[str],
    find_idle: FindIdle,
) -> dict[str, dict[str, Any]]:
    """Return partition -> metadata for the idle partitions, shards excepted.

    After an error nobody counts as idle: each source is then worked on and reports its own error.
    """
    started, names = time.monotonic(), {key for key in keys if shard_of(key) is None}
    if not names:
        return {}
    try:
        with database.connect(autocommit=True) as connection:
            set_run(connection, context.run.run_id)
            sources = {
                source.name: source for source in list_sources(connection) if source.name in names
            }
            mark_running_again(connection, [source.id for source in sources.values()])
            outcomes = find_idle(connection, sources)
    except RunInterrupted:
        raise
    except Exception as error:
        # Broad, since one source may be the cause: its writer meets the error again and reports it.
        context.log.warning(f"Idle sources are not known, so each one is checked: {error}")
        return {}
    seconds = time.monotonic() - started
    if outcomes:
        context.log.info(
            f"{len(outcomes)} of {len(keys)} have nothing to do; found in {seconds:.2f} s"
        )
    asset = context.asset_key.to_user_string()
    return {
        key: stage_metadata(asset, outcome, seconds / len(outcomes))
        for key, outcome in outcomes.items()
    }


def _record_end(
    database: Postgres,
    context: dg.AssetExecutionContext,
    partitions: Sequence[str],
    failed_sources: Mapping[str, str],
    *,
    others_wait: bool = True,
    canceled: bool = False,
) -> None:
    """Record failed sources (name -> reason).

    `others_wait`: the run ends here; the other sources wait for the next one, or, if a person canceled this one, for
    their schedule.
    """
    try:
        with database.connect(autocommit=True) as connection:
            set_run(connection, context.run.run_id)
            if any(map(shard_of, partitions)):
                join_sync(context, connection)
            mark_failed(connection, failed_sources)
            if others_wait:
                names = [source_name(key) for key in partitions]
                (mark_canceled if canceled else mark_waiting)(connection, names)
    except (RagError, psycopg.Error) as error:
        context.log.warning(f"The end of this sync could not be recorded: {error}")


def _total(context: dg.AssetExecutionContext, database: Postgres) -> dict[str, Any]:
    try:
        with database.connect(autocommit=True) as connection:
            return total_metadata(connection, context.asset_key.to_user_string())
    except (RagError, psycopg.Error) as error:
        context.log.warning(f"The rows of all sources could not be counted: {error}")
        return {}
