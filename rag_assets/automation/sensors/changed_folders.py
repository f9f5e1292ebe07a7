"""The sensor that syncs a source as soon as its folder or branch differs from the recorded entries."""

import hashlib
import time
from collections.abc import Iterable
from contextlib import closing

import dagster as dg

from rag_assets.assets.failures import as_stage_error
from rag_assets.automation.jobs import sync_source
from rag_assets.automation.run_requests import (
    INTERVAL,
    RequestCursor,
    sources_in_progress,
    sync_requests,
)
from rag_assets.partitions import SOURCES
from resources.dagster_resources import PostgresResource
from resources.errors import SourceError
from resources.partition_keys import partition_key, partition_keys
from resources.postgres.connection import Connection
from resources.postgres.documents.erasures import key_hash, list_erased_key_hashes
from resources.postgres.registry.entries import recorded_tokens
from resources.postgres.registry.sources import SourceRow, list_sources, unfinished_sources
from resources.postgres.registry.syncs import failing_sources, scheduled_sources
from resources.sources.registered import open_registered
from resources.sources.registry import source_type

#: Seconds of listing per tick, so that a tick takes less than one second for any number of sources.
TICK_SECONDS = 0.6
#: Seconds for the listing of one source. Dagster ends a tick after 60 s, without its cursor, and the next one would
#: begin with the same source.
LIST_SECONDS = 15.0
#: Entries between two looks at the time.
LOOK_ENTRIES = 100


@dg.sensor(
    job=sync_source,
    minimum_interval_seconds=INTERVAL,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Syncs each source whose folder or branch differs from the recorded entries, or with unfinished work.",
)
def changed_folders_sensor(
    context: dg.SensorEvaluationContext, postgres: PostgresResource
) -> dg.SensorResult | dg.SkipReason:
    """Request a state that syncs do not change at growing intervals.

    Failing sources belong to due_sources_sensor, unless their folder changed again. So do sources whose sync a person
    canceled: it is not started again before its schedule or a change.

    Listing a folder takes 0.15 s for 2,500 files, so a tick ends after TICK_SECONDS, and the next one continues from
    there.
    """
    cursor = RequestCursor.parse(context.cursor)
    partitions = set(context.instance.get_dynamic_partitions(SOURCES.name or ""))
    running, _ = sources_in_progress(context.instance)
    requests, problems = [], []
    with postgres.open().connect(autocommit=True) as connection:
        failing, scheduled = failing_sources(connection), scheduled_sources(connection)
        unfinished = {
            source: state
            for source, state in unfinished_sources(connection).items()
            if source not in scheduled
        }
        sources = [
            s
            for s in list_sources(connection)
            if s.is_active and partitions.issuperset(partition_keys(s.name, s.shards))
        ]
        deadline = time.monotonic() + TICK_SECONDS
        for source in cursor.from_position(sources, lambda source: partition_key(source.name)):
            key = partition_key(source.name)
            now = time.monotonic()
            if now > deadline:
                cursor.stop_at(key)
                break
            try:
                state = _difference(connection, source, now + LIST_SECONDS)
            except Exception as error:
                # Broad, since no fault of one source may keep the others from being synced.
                problems.append(f"{source.name}: {as_stage_error(error, context.log)}")
                continue
            state = state or unfinished.get(source.id, "")
            if not state or (source.id in failing and cursor.was_requested(key, state)):
                continue
            if cursor.is_due(key, state) and source.name not in running:
                requests += sync_requests(source.name, source.shards)
                cursor.record_request(key, state)
    context.update_cursor(cursor.serialize())
    for problem in problems:
        context.log.warning(problem)
    if not requests:
        return dg.SkipReason("; ".join(problems) or "No folder differs from the recorded entries.")
    return dg.SensorResult(run_requests=requests)


def _difference(connection: Connection, source: SourceRow, deadline: float) -> str:
    """Return a hash of the differences between a listing and the recorded entries.

    Empty if there are none, or if listing this type of source is too expensive. Raises SourceError after the deadline.
    """
    if not source_type(source.source_type).watched:
        return ""
    recorded = dict(recorded_tokens(connection, source.id))
    forgotten = list_erased_key_hashes(connection, source.name)
    changes: list[str] = []
    with closing(open_registered(source)) as opened:
        for number, entry in enumerate(opened.list_quickly()):
            if number % LOOK_ENTRIES == LOOK_ENTRIES - 1 and time.monotonic() > deadline:
                raise SourceError(
                    f"its listing takes longer than {LIST_SECONDS:.0f} s, so a change does not start its sync at once; "
                    "its schedule does"
                )
            if forgotten and key_hash(entry.key) in forgotten:
                continue
            if recorded.pop(entry.key, None) != entry.change_token:
                changes.append(f"{entry.key}\0{entry.change_token}")
    return _hash([*changes, *(f"{key}\0gone" for key in recorded)])


def _hash(changes: Iterable[str]) -> str:
    lines = sorted(changes)
    return (
        hashlib.sha256("\n".join(lines).encode("utf-8", "surrogatepass")).hexdigest()[:16]
        if lines
        else ""
    )
