"""How a Dagster asset runs a stage: for each partition of the run, as its only writer, with the evidence as metadata.

The stages themselves are in `rag_assets/ingestion`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import dagster as dg
import psycopg

from rag_assets.dagster_internals import (
    BACKFILL_ID_TAG,
    DagsterExecutionInterruptedError,
    add_partition_metadata,
)
from rag_assets.ingestion.stage import Outcome, Stage
from rag_assets.partitions import SYNC_TAG
from rag_assets.settings.load import load_settings
from resources.dagster_resources import PostgresResource
from resources.errors import ConfigError, Fenced, RagError, StoreUnavailable
from resources.partition_keys import shard_of, source_name
from resources.postgres.connection import Connection, Postgres, set_run, set_sync
from resources.postgres.registry.sources import SourceRow, get_source, list_sources
from resources.postgres.registry.syncs import mark_failed, mark_running_again, mark_waiting

#: A store that restarts is back within seconds; a fault that lasts half a minute needs a person.
RETRY = dg.RetryPolicy(
    max_retries=3, delay=load_settings().retry_delay, backoff=dg.Backoff.EXPONENTIAL
)

#: In the metadata of a failed step: the partitions for which it failed.
FAILED = "failed"
#: Seconds that a shard waits while another one works for all of them: as long as a run may take.
TURN_SECONDS = 24 * 3600

#: Set by Ctrl-C or SIGTERM: steps of this process that have not begun do not begin.
_interrupted = threading.Event()

COMMON: dict[str, Any] = {
    "group_name": "ingestion",
    "owners": ["team:retrieval"],
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
) -> dg.MaterializeResult:
    """Run `work` for each partition of this run that is not idle, as the only writer of its source.

    A source that fails does not stop the others; the run fails at the end and names each error. `turns` names work that
    the first shard of a source does for all of them, while the other shards wait.
    """
    if _interrupted.is_set():
        raise _interruption()
    try:
        return _run_partitions(context, postgres, work, find_idle, turns)
    except (KeyboardInterrupt, DagsterExecutionInterruptedError):
        _interrupted.set()
        _record_end(postgres.open(), context, {})
        raise _interruption() from None


def _run_partitions(
    context: dg.AssetExecutionContext,
    postgres: PostgresResource,
    work: Callable[[Stage], Outcome],
    find_idle: FindIdle,
    turns: str,
) -> dg.MaterializeResult:
    errors: dict[str, RagError] = {}
    # Without the sources that another writer has locked: that sync records its own end.
    failed_sources: dict[str, str] = {}
    database, keys = postgres.open(), context.partition_keys
    metadata = _metadata_of_idle(context, database, keys, find_idle)
    for key in keys:
        if key in metadata:
            continue
        started, name, locked = time.monotonic(), source_name(key), False
        shard = shard_of(key)
        lock, patience = (f"{name}/{turns}", TURN_SECONDS) if shard and turns else (key, None)
        try:
            with database.writers([lock], patience=patience, run=context.run.run_id) as (writer,):
                source = _source(context, writer.connection, key)
                locked = True
                mark_running_again(writer.connection, [source.id])
                asset = context.asset_key.to_user_string()
                outcome = work(Stage(asset, source, writer, context.log, shard))
        except (RagError, psycopg.Error) as error:
            if isinstance(error, psycopg.Error):
                error = StoreUnavailable(f"PostgreSQL refused a write: {error}")
            errors[key] = error
            if locked and not isinstance(error, Fenced):
                failed_sources[name] = str(error)
            continue
        seconds = time.monotonic() - started
        context.log.info(f"{key}: {outcome.plan} in {seconds:.2f} s")
        metadata[key] = _metadata(outcome, seconds)
    if errors:
        _record_end(database, context, failed_sources)
        _fail(errors)
    add_partition_metadata(context, metadata)
    return dg.MaterializeResult()


def _source(context: dg.AssetExecutionContext, connection: Connection, key: str) -> SourceRow:
    """Return the source of a partition. Raises ConfigError for a shard of another number of shards than it has."""
    source, shard = get_source(connection, source_name(key)), shard_of(key)
    if shard is not None:
        if shard.of != source.shards:
            raise ConfigError(
                f"{key} is no partition of {source.name}, which has {source.shards} shards. "
                "Update the partitions with: rag up"
            )
        _join_sync(context, connection)
    return source


def _join_sync(context: dg.AssetExecutionContext, connection: Connection) -> None:
    """Make this session's writes belong to the sync that the runs of the other shards belong to."""
    run = context.run
    sync = run.tags.get(SYNC_TAG) or run.tags.get(BACKFILL_ID_TAG) or run.root_run_id or run.run_id
    set_sync(connection, sync)


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
    except (RagError, psycopg.Error) as error:
        context.log.warning(f"Idle sources are not known, so each one is checked: {error}")
        return {}
    seconds = time.monotonic() - started
    if outcomes:
        context.log.info(
            f"{len(outcomes)} of {len(keys)} have nothing to do; found in {seconds:.2f} s"
        )
    return {key: _metadata(outcome, seconds / len(outcomes)) for key, outcome in outcomes.items()}


@contextmanager
def errors_as_failures() -> Iterator[None]:
    """Turn a RagError into a failed step with its message, retried only if the error is transient."""
    try:
        yield
    except RagError as error:
        raise dg.Failure(str(error), allow_retries=error.transient) from error


def is_interrupted() -> bool:
    """Return whether this process was told to stop."""
    return _interrupted.is_set()


def _record_end(
    database: Postgres, context: dg.AssetExecutionContext, failed_sources: Mapping[str, str]
) -> None:
    """Record the failed sources of a run that ends early (name -> reason); its other sources wait for the next sync."""
    try:
        with database.connect(autocommit=True) as connection:
            set_run(connection, context.run.run_id)
            if any(map(shard_of, context.partition_keys)):
                _join_sync(context, connection)
            mark_failed(connection, failed_sources)
            mark_waiting(connection, [source_name(key) for key in context.partition_keys])
    except (RagError, psycopg.Error) as error:
        context.log.warning(f"The end of this sync could not be recorded: {error}")


def _interruption() -> dg.Failure:
    """Return a failure without retries: the retry policy would otherwise resume an interrupted step."""
    message = "Interrupted. Committed work is kept; the next sync continues from there."
    return dg.Failure(message, allow_retries=False)


def _fail(errors: Mapping[str, RagError]) -> None:
    message = "\n".join(f"{key}: {error}" for key, error in errors.items())
    raise dg.Failure(
        message,
        metadata={FAILED: dg.MetadataValue.json(list(errors))},
        allow_retries=any(error.transient for error in errors.values()),
    )


def _metadata(outcome: Outcome, seconds: float) -> dict[str, Any]:
    values: dict[str, Any] = {
        "plan": dg.MetadataValue.json(outcome.plan.as_dict()),
        **outcome.plan.as_dict(),
        "seconds": round(seconds, 3),
        "dagster/row_count": outcome.rows,
        **outcome.metadata,
    }
    for name, rows in outcome.tables.items():
        values[name] = dg.MetadataValue.table([dg.TableRecord(dict(row)) for row in rows])
    if outcome.columns:
        values["dagster/column_schema"] = dg.TableSchema(
            [dg.TableColumn(name, kind) for name, kind in outcome.columns]
        )
    if outcome.sample:
        values["sample"] = dg.MetadataValue.table(
            [
                dg.TableRecord({name: str(value) for name, value in row.items()})
                for row in outcome.sample
            ],
            schema=dg.TableSchema([dg.TableColumn(name, "string") for name in outcome.sample[0]]),
        )
    return values
