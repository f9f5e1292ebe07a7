"""How the syncs of sources went, and when the next is due: the sync columns of table `sources`.

A sync is running from its listing until nothing of its source waits, it failed with a reason, or it waits ("pending").
It is a run, or (`rag_sync()`) the runs of a source's shards: done when all of them are.
When a cron expression comes due is worked out by the sensor (`rag_assets.pipeline.cron`), not here.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from rag_assets.pipeline.shards import Shard, shards_in
from resources.postgres.connection import Connection

#: Seconds until a sync that failed is due again, doubled with each failure in a row.
FIRST_WAIT, LAST_WAIT = 60, 3600

_COUNTED = """SELECT sources.id, count(d.id) AS total,
    count(d.id) FILTER (WHERE 'failed' IN (processing_status, indexing_status)) AS failed
  FROM sources LEFT JOIN documents d ON d.source_uuid = sources.id WHERE sources.id = ANY(%(sources)s)"""


@dataclass(frozen=True, slots=True)
class SyncState:
    """An active source. `waited`: seconds since its due sync was asked for; None: it was not."""

    id: uuid.UUID
    name: str
    schedule: str | None
    status: str
    created_at: datetime
    last_sync_at: datetime | None
    next_sync_at: datetime | None
    error_count: int
    last_error: str | None
    run: str | None
    waited: float | None
    shards: int


def mark_syncing(connection: Connection, source_ids: Sequence[uuid.UUID]) -> None:
    connection.execute(
        """UPDATE sources SET sync_status = 'running', sync_run = rag_sync(), updated_at = now()
           WHERE id = ANY(%s)""",
        [list(source_ids)],
    )


def mark_running_again(connection: Connection, source_ids: Sequence[uuid.UUID]) -> None:
    """A step that failed is tried again by the same run."""
    connection.execute(
        """UPDATE sources SET sync_status = 'running', updated_at = now()
           WHERE id = ANY(%s) AND sync_status IN ('failed', 'pending') AND sync_run = rag_sync()""",
        [list(source_ids)],
    )


def mark_failed(connection: Connection, reasons: Mapping[str, str]) -> None:
    """Records why syncs failed (source's name -> reason): one failure a run, after each of which it waits longer."""
    connection.execute(
        """UPDATE sources s SET sync_status = 'failed', last_error = counted.reason, error_count = failures,
             failed_run = rag_sync(), sync_requested_at = NULL, updated_at = now(),
             next_sync_at = now() + make_interval(secs => least(%(first)s * 2 ^ (least(failures, 20) - 1), %(last)s))
           FROM (SELECT id, reason,
                   error_count + (error_count = 0 OR rag_sync() IS NULL OR failed_run IS DISTINCT FROM rag_sync())::int
                     AS failures
                 FROM sources JOIN unnest(%(names)s::text[], %(reasons)s::text[]) AS failed(name, reason) USING (name)
                ) AS counted
           WHERE s.id = counted.id""",
        {
            "names": list(reasons),
            "reasons": list(reasons.values()),
            "first": FIRST_WAIT,
            "last": LAST_WAIT,
        },
    )


def mark_interrupted(connection: Connection, runs: Mapping[str, str | None], reason: str) -> None:
    """Records the failure of syncs that are still said to be running by these runs (source's name -> run)."""
    with connection.transaction():
        still = connection.execute(
            """SELECT name FROM sources JOIN unnest(%s::text[], %s::text[]) AS seen(name, run) USING (name)
               WHERE sync_status = 'running' AND sync_run IS NOT DISTINCT FROM run FOR UPDATE OF sources""",
            [list(runs), list(runs.values())],
        ).fetchall()
        mark_failed(connection, {name: reason for (name,) in still})


def mark_waiting(connection: Connection, names: Sequence[str]) -> None:
    """The run ends before it was their turn: those of them that were being synced are due again."""
    connection.execute(
        """UPDATE sources SET sync_status = 'pending', next_sync_at = now(), sync_requested_at = NULL,
             updated_at = now()
           WHERE name = ANY(%s) AND sync_status = 'running'""",
        [list(names)],
    )


def record_counts(connection: Connection, source_ids: Sequence[uuid.UUID]) -> None:
    connection.execute(
        f"""UPDATE sources SET total_documents = counts.total, failed_documents = counts.failed,
             successful_documents = counts.total - counts.failed, updated_at = now()
           FROM ({_COUNTED} GROUP BY 1) AS counts WHERE sources.id = counts.id
             AND (total_documents, failed_documents) <> (counts.total, counts.failed)""",
        {"sources": list(source_ids)},
    )


def mark_synced(connection: Connection, source_ids: Sequence[uuid.UUID]) -> None:
    """Ends running syncs of sources of which nothing waits to be parsed, chunked, indexed or deleted."""
    connection.execute(
        f"""UPDATE sources SET sync_status = 'completed', error_count = 0, last_error = NULL, failed_run = NULL,
             last_sync_at = now(), next_sync_at = NULL, sync_requested_at = NULL, total_documents = counts.total,
             failed_documents = counts.failed, successful_documents = counts.total - counts.failed, updated_at = now()
           FROM ({_COUNTED} AND sync_status = 'running' GROUP BY 1) AS counts
           WHERE sources.id = counts.id AND sync_status = 'running'
             AND NOT EXISTS (SELECT FROM documents WHERE source_uuid = sources.id AND indexing_status = 'pending'
               AND processing_status <> 'failed')
             AND NOT EXISTS (SELECT FROM vector_deletions WHERE source_uuid = sources.id)""",
        {"sources": list(source_ids)},
    )


def mark_listed(connection: Connection, source_id: uuid.UUID) -> None:
    """The listing of this sync is complete: its other shards need none."""
    connection.execute(
        "UPDATE sources SET listed_sync = rag_sync(), updated_at = now() WHERE id = %s", [source_id]
    )


def is_listed(connection: Connection, source_id: uuid.UUID) -> bool:
    """Whether a shard of this sync has listed the source."""
    row = connection.execute(
        "SELECT listed_sync = rag_sync() FROM sources WHERE id = %s", [source_id]
    ).fetchone()
    return row is not None and row[0] is True


def mark_shard_synced(connection: Connection, source_id: uuid.UUID, shard: Shard) -> bool:
    """Whether this sync has now done all shards."""
    connection.execute(
        """INSERT INTO synced_shards (source_id, shard, sync) VALUES (%s, %s, rag_sync())
           ON CONFLICT (source_id, shard) DO UPDATE SET sync = excluded.sync""",
        [source_id, shard.number],
    )
    row = connection.execute(
        "SELECT count(*) FROM synced_shards WHERE source_id = %s AND shard <= %s AND sync = rag_sync()",
        [source_id, shard.of],
    ).fetchone()
    assert row is not None
    return row[0] == shard.of


def sync_states(connection: Connection) -> list[SyncState]:
    """Of the active sources, by name."""
    return [
        SyncState(*fields, shards=shards_in(config))
        for *fields, config in connection.execute(
            """SELECT id, name, sync_schedule, sync_status, created_at, last_sync_at, next_sync_at, error_count,
                 last_error, sync_run, extract(epoch FROM now() - sync_requested_at)::float8,
                 connection_config
               FROM sources WHERE is_active ORDER BY name"""
        )
    ]


def failing_sources(connection: Connection) -> set[uuid.UUID]:
    return {row[0] for row in connection.execute("SELECT id FROM sources WHERE error_count > 0")}


def plan_syncs(connection: Connection, due: Mapping[uuid.UUID, datetime]) -> None:
    """Writes when sources are due whose next sync was not known."""
    connection.execute(
        """UPDATE sources s SET next_sync_at = due.at FROM unnest(%s::uuid[], %s::timestamptz[]) AS due(id, at)
           WHERE s.id = due.id AND s.next_sync_at IS NULL""",
        [list(due), list(due.values())],
    )


def mark_requested(connection: Connection, source_ids: Sequence[uuid.UUID]) -> None:
    connection.execute(
        "UPDATE sources SET sync_requested_at = now() WHERE id = ANY(%s)", [list(source_ids)]
    )
