"""What the seven assets have in common: one writer a source, a plan, and evidence in the metadata.

What a stage does is in its own file; nothing here knows of documents or vectors.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

import dagster as dg
import psycopg
from dagster._core.errors import DagsterExecutionInterruptedError
from dagster._core.storage.tags import BACKFILL_ID_TAG

from rag_assets.partitions import SYNC_TAG, shard_of, source_name
from rag_assets.pipeline import progress
from rag_assets.pipeline.plan import Plan
from rag_assets.pipeline.shards import Shard
from resources.dagster_resources import PostgresResource
from resources.errors import ConfigError, Fenced, RagError, StoreUnavailable
from resources.postgres.connection import Connection, Postgres, Writer
from resources.postgres.registry.sources import SourceRow, get_source, list_sources
from resources.postgres.registry.syncs import mark_failed, mark_running_again, mark_waiting
from resources.postgres.scope import SyncScope

#: A store that restarts is back within seconds; what does not heal in half a minute needs a person.
RETRY = dg.RetryPolicy(max_retries=3, delay=2, backoff=dg.Backoff.EXPONENTIAL)

#: In the metadata of a failed step: the partitions for which it failed.
FAILED = "failed"
#: Seconds that a shard waits while another one does what is done once for all: as long as a run may take.
TURN = 24 * 3600

#: Set by Ctrl-C or SIGTERM: the steps of this process that have not begun do not begin.
_interrupted = threading.Event()

COMMON: dict[str, Any] = {
    "group_name": "ingestion",
    "owners": ["team:retrieval"],
    "retry_policy": RETRY,
    "backfill_policy": dg.BackfillPolicy.single_run(),
}


@dataclass
class Stage:
    """One source, or a shard of it, held by this writer for one stage."""

    asset: str
    source: SourceRow
    writer: Writer
    log: dg.DagsterLogManager
    shard: Shard | None = None
    _reported: float = field(default_factory=time.monotonic)

    @property
    def connection(self) -> Connection:
        return self.writer.connection

    @property
    def part(self) -> SyncScope:
        return SyncScope(self.source.id, self.shard)

    def progress(self, done: int, total: int) -> None:
        progress.report(self.asset, self.source.name, done, total)
        if time.monotonic() - self._reported > 10:
            self._reported = time.monotonic()
            self.log.info(f"{self.source.name}: batch {done} of {total}")


L = TypeVar("L")
P = TypeVar("P")


def one_ahead(
    batches: int, load: Callable[[int], L], process: Callable[[L], P]
) -> Iterator[tuple[int, L, P]]:
    """(batch, loaded, processed) of each batch; the next one is processed in a thread while this one is written.

    `load` runs in the caller's thread: it reads what only the writer's session sees.
    """
    with ThreadPoolExecutor(1) as ahead:
        loaded = load(0) if batches else None
        processing = ahead.submit(process, loaded) if loaded is not None else None
        for batch in range(batches):
            assert loaded is not None
            assert processing is not None
            current, done = loaded, processing.result()
            if batch + 1 < batches:
                loaded = load(batch + 1)
                processing = ahead.submit(process, loaded)
            yield batch, current, done


@dataclass(frozen=True)
class Outcome:
    """What a stage did: the plan as applied, the rows it leaves, and what else is worth showing."""

    plan: Plan
    rows: int
    columns: Sequence[tuple[str, str]] = ()
    sample: Sequence[Mapping[str, Any]] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)


#: Asked once for all partitions of a run (partition -> source), before any of them is worked on: what is there of
#: those for which `work` would do nothing, and find nothing that it should report.
Idle = Callable[[Connection, Mapping[str, SourceRow]], Mapping[str, Outcome]]


def run_stage(
    context: dg.AssetExecutionContext,
    postgres: PostgresResource,
    work: Callable[[Stage], Outcome],
    idle: Idle,
    *,
    turns: str = "",
) -> dg.MaterializeResult:
    """Runs `work` for each partition of this run that is not idle, holding it as its only writer.

    A source that fails does not keep the others from their turn; the run fails at the end with what went wrong.
    `turns`: names what the first shard of a source does for all of them, while those that come meanwhile wait.
    """
    if _interrupted.is_set():
        raise _interruption()
    try:
        return _run_partitions(context, postgres, work, idle, turns)
    except (KeyboardInterrupt, DagsterExecutionInterruptedError):
        _interrupted.set()
        _record_end(postgres.open(), context, {})
        raise _interruption() from None


def _run_partitions(
    context: dg.AssetExecutionContext,
    postgres: PostgresResource,
    work: Callable[[Stage], Outcome],
    idle: Idle,
    turns: str,
) -> dg.MaterializeResult:
    errors: dict[str, RagError] = {}
    failed: dict[
        str, str
    ] = {}  # without those that another writer is at: that sync's end is the one to record
    database, keys = postgres.open(), context.partition_keys
    evidence = _evidence_of_idle(context, database, keys, idle)
    for key in keys:
        if key in evidence:
            continue
        started, name, held = time.monotonic(), source_name(key), False
        shard = shard_of(key)
        taken, patience = (f"{name}/{turns}", TURN) if shard and turns else (key, None)
        try:
            with database.writers([taken], patience=patience, run=context.run.run_id) as (writer,):
                source = _source(context, writer.connection, key)
                held = True
                mark_running_again(writer.connection, [source.id])
                asset = context.asset_key.to_user_string()
                outcome = work(Stage(asset, source, writer, context.log, shard))
        except (RagError, psycopg.Error) as error:
            if isinstance(error, psycopg.Error):
                error = StoreUnavailable(f"PostgreSQL refused what was to be written: {error}")
            errors[key] = error
            if held and not isinstance(error, Fenced):
                failed[name] = str(error)
            continue
        seconds = time.monotonic() - started
        context.log.info(f"{key}: {outcome.plan} in {seconds:.2f} s")
        evidence[key] = _evidence(outcome, seconds)
    if errors:
        _record_end(database, context, failed)
        _fail(errors)
    _show(context, evidence)
    return dg.MaterializeResult()


def _source(context: dg.AssetExecutionContext, connection: Connection, key: str) -> SourceRow:
    """The source of a partition. Raises ConfigError for a shard of another number of shards than it has."""
    source, shard = get_source(connection, source_name(key)), shard_of(key)
    if shard is not None:
        if shard.of != source.shards:
            raise ConfigError(
                f"{key} is no partition of {source.name}, which has {source.shards} shards. "
                "The partitions are brought up to date by: rag up"
            )
        _join_sync(context, connection)
    return source


def _join_sync(context: dg.AssetExecutionContext, connection: Connection) -> None:
    """What this session writes of a sync is of the sync that the other shards' runs are of."""
    run = context.run
    sync = run.tags.get(SYNC_TAG) or run.tags.get(BACKFILL_ID_TAG) or run.root_run_id or run.run_id
    connection.execute("SELECT set_config('rag.sync', %s, false)", [sync])


def _evidence_of_idle(
    context: dg.AssetExecutionContext, database: Postgres, keys: Sequence[str], idle: Idle
) -> dict[str, dict[str, Any]]:
    """Partition -> metadata; not of shards. Where it cannot be told who is idle, nobody is: each says what is wrong."""
    started, names = time.monotonic(), {key for key in keys if shard_of(key) is None}
    if not names:
        return {}
    try:
        with database.connect(autocommit=True) as connection:
            connection.execute("SELECT set_config('rag.run', %s, false)", [context.run.run_id])
            sources = {
                source.name: source for source in list_sources(connection) if source.name in names
            }
            mark_running_again(connection, [source.id for source in sources.values()])
            found = idle(connection, sources)
    except (RagError, psycopg.Error) as error:
        context.log.warning(f"Each source is looked at by itself: {error}")
        return {}
    seconds = time.monotonic() - started
    if found:
        context.log.info(
            f"{len(found)} of {len(keys)} have nothing to do; asked in {seconds:.2f} s"
        )
    return {key: _evidence(outcome, seconds / len(found)) for key, outcome in found.items()}


def _show(context: dg.AssetExecutionContext, evidence: Mapping[str, Mapping[str, Any]]) -> None:
    """As `context.add_asset_metadata`, which asks Dagster's database three times (5 ms) for each partition."""
    step = context.get_step_execution_context()
    for key, metadata in evidence.items():
        step._metadata_accumulator = step._metadata_accumulator.with_additional_asset_metadata(
            asset_key=context.asset_key, partition_key=key, metadata=metadata
        )


def is_interrupted() -> bool:
    """Whether this process was told to stop."""
    return _interrupted.is_set()


def _record_end(
    database: Postgres, context: dg.AssetExecutionContext, failed: Mapping[str, str]
) -> None:
    """The run goes no further: why, for the sources that failed (name -> reason); the others wait for the next sync."""
    try:
        with database.connect(autocommit=True) as connection:
            connection.execute("SELECT set_config('rag.run', %s, false)", [context.run.run_id])
            if any(map(shard_of, context.partition_keys)):
                _join_sync(context, connection)
            mark_failed(connection, failed)
            mark_waiting(connection, [source_name(key) for key in context.partition_keys])
    except (RagError, psycopg.Error) as error:
        context.log.warning(f"The end of this sync could not be recorded: {error}")


def _interruption() -> dg.Failure:
    """Without it the retry policy would take an interrupted step up again, and the run would go on with the others."""
    message = "Interrupted. What was committed stays; the next sync goes on from there."
    return dg.Failure(message, allow_retries=False)


def _fail(errors: Mapping[str, RagError]) -> None:
    message = "\n".join(f"{key}: {error}" for key, error in errors.items())
    raise dg.Failure(
        message,
        metadata={FAILED: dg.MetadataValue.json(list(errors))},
        allow_retries=any(error.transient for error in errors.values()),
    )


def _evidence(outcome: Outcome, seconds: float) -> dict[str, Any]:
    found: dict[str, Any] = {
        "plan": dg.MetadataValue.json(outcome.plan.as_dict()),
        **outcome.plan.as_dict(),
        "seconds": round(seconds, 3),
        "dagster/row_count": outcome.rows,
        **outcome.metadata,
    }
    if outcome.columns:
        found["dagster/column_schema"] = dg.TableSchema(
            [dg.TableColumn(name, kind) for name, kind in outcome.columns]
        )
    if outcome.sample:
        found["sample"] = dg.MetadataValue.table(
            [
                dg.TableRecord({name: str(value) for name, value in row.items()})
                for row in outcome.sample
            ],
            schema=dg.TableSchema([dg.TableColumn(name, "string") for name in outcome.sample[0]]),
        )
    return found


def columns_and_sample(
    connection: Connection,
    table: str,
    columns: Sequence[str],
    where: str,
    parameters: Mapping[str, Any],
) -> tuple[list[tuple[str, str]], list[dict[str, Any]]]:
    """The schema of a table, and five of its rows (of `columns`, texts cut to 80 characters)."""
    schema = connection.execute(
        """SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute
           WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum""",
        [table],
    ).fetchall()
    selected = ", ".join(f"left({column}::text, 80)" for column in columns)
    rows = connection.execute(
        f"SELECT {selected} FROM {table} WHERE {where} LIMIT 5",  # pyright: ignore[reportArgumentType]
        parameters,
    ).fetchall()
    return schema, [dict(zip(columns, row)) for row in rows]
