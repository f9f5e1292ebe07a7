"""The state of each source's sync, and the time of the next one: the sync columns of table `sources`.

A sync is running from its listing until no work of its source waits, it fails with a reason, or it waits ("pending").
It consists of one run or, with shards, of one run per shard (`rag_sync()`), and ends with the last of them.
The sensor computes when a cron expression is due (`rag_assets.pipeline.cron`).
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, LiteralString, NamedTuple

from rag_assets.pipeline.audit_record import AuditRecord, Outcome
from rag_assets.pipeline.shards import Shard, shards_in
from resources.postgres.connection import Connection, is_written
from resources.postgres.identity.audit_chain import OWNER, append
from resources.postgres.queries import fetch_all, scalar, scalars

#: Seconds until a failed sync is due again: the first wait doubles with each failure in a row, up to the last.
FIRST_WAIT, LAST_WAIT = 60, 3600


def _document_counts(condition: LiteralString) -> LiteralString:
    """SQL: (id, total, failed) of each of the sources `s` in %(sources)s that meets the condition."""
    return f"""SELECT s.id, count(d.id) AS total,
        count(d.id) FILTER (WHERE 'failed' IN (d.processing_status, d.indexing_status)) AS failed
      FROM sources s LEFT JOIN documents d ON d.source_uuid = s.id
      WHERE s.id = ANY(%(sources)s) AND {condition} GROUP BY s.id"""


#: SQL: whether no work of a source waits.
_NOTHING_WAITS: LiteralString = """NOT EXISTS (SELECT FROM documents WHERE source_uuid = sources.id
      AND indexing_status = 'pending' AND processing_status <> 'failed')
    AND NOT EXISTS (SELECT FROM vector_deletions WHERE source_uuid = sources.id)"""

#: SQL: whether a source's sync is running and nothing of the source waits.
_FINISHED: LiteralString = f"sync_status = 'running' AND {_NOTHING_WAITS}"

#: SQL: whether a source's last sync left nothing to the next one, nor a result of these checks, which each sync runs.
_COMPLETE: LiteralString = f"""sync_status = 'completed' AND error_count = 0 AND last_error IS NULL
    AND held_back IS NULL AND {_NOTHING_WAITS}
    AND NOT EXISTS (SELECT FROM left_documents WHERE source_id = sources.id)
    AND NOT EXISTS (SELECT FROM check_results WHERE source_id = sources.id AND check_name = ANY(%(checks)s)
      AND outcome <> 'passed')"""


@dataclass(frozen=True, slots=True)
class SyncState:
    """The sync of an active source. `waited`: seconds since the due sync was requested, or None if it was not."""

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
    """Mark syncs as running again: their run retries a failed step."""
    connection.execute(
        """UPDATE sources SET sync_status = 'running', updated_at = now()
           WHERE id = ANY(%s) AND sync_status IN ('failed', 'pending') AND sync_run = rag_sync()""",
        [list(source_ids)],
    )


def mark_failed(connection: Connection, reasons: Mapping[str, str]) -> None:
    """Record failed syncs (source's name -> reason). A run counts as one failure; each one lengthens the next wait."""
    with connection.transaction():
        ended = fetch_all(
            connection,
            _EndedSync,
            """UPDATE sources s SET sync_status = 'failed', last_error = counted.reason, error_count = failures,
             failed_run = rag_sync(), sync_requested_at = NULL, updated_at = now(),
             next_sync_at = now() + make_interval(secs => least(%(first)s * 2 ^ (least(failures, 20) - 1), %(last)s))
           FROM (SELECT id, reason,
                   error_count + (error_count = 0 OR rag_sync() IS NULL OR failed_run IS DISTINCT FROM rag_sync())::int
                     AS failures
                 FROM sources JOIN unnest(%(names)s::text[], %(reasons)s::text[]) AS failed(name, reason) USING (name)
                ) AS counted
           WHERE s.id = counted.id
           RETURNING s.id, s.name, s.total_documents AS documents, s.failed_documents AS failed, rag_sync() AS run""",
            {
                "names": list(reasons),
                "reasons": list(reasons.values()),
                "first": FIRST_WAIT,
                "last": LAST_WAIT,
            },
        )
        _audit(connection, ended, "failed")


def mark_interrupted(connection: Connection, runs: Mapping[str, str | None], reason: str) -> None:
    """Record the failure of the syncs that are still marked as running by these runs (source's name -> run)."""
    with connection.transaction():
        names = scalars(
            connection,
            """SELECT name FROM sources JOIN unnest(%s::text[], %s::text[]) AS seen(name, run) USING (name)
               WHERE sync_status = 'running' AND sync_run IS NOT DISTINCT FROM run FOR UPDATE OF sources""",
            [list(runs), list(runs.values())],
        )
        mark_failed(connection, dict.fromkeys(names, reason))


def mark_waiting(connection: Connection, names: Sequence[str]) -> None:
    """Make running syncs due again: their run ends before it reaches these sources."""
    connection.execute(
        """UPDATE sources SET sync_status = 'pending', next_sync_at = now(), sync_requested_at = NULL,
             updated_at = now()
           WHERE name = ANY(%s) AND sync_status = 'running'""",
        [list(names)],
    )


def mark_canceled(connection: Connection, names: Sequence[str]) -> None:
    """End running syncs that a person canceled: they are due by their schedule, not at once."""
    connection.execute(
        """UPDATE sources SET sync_status = 'pending', next_sync_at = NULL, sync_requested_at = NULL,
             updated_at = now()
           WHERE name = ANY(%s) AND sync_status = 'running'""",
        [list(names)],
    )


def scheduled_sources(connection: Connection) -> set[uuid.UUID]:
    """Return the sources whose unfinished work waits for their schedule: a person canceled their last sync.

    Also those marked as running: if their run has ended, it is not recorded yet whether a person canceled it.
    """
    return set(
        scalars(
            connection,
            """SELECT id FROM sources WHERE sync_run IS NOT NULL AND (sync_status = 'running'
               OR sync_status = 'pending' AND (next_sync_at IS NULL OR next_sync_at > now()))""",
        )
    )


def record_counts(connection: Connection, source_ids: Sequence[uuid.UUID]) -> None:
    connection.execute(
        f"""UPDATE sources SET total_documents = counts.total, failed_documents = counts.failed,
             successful_documents = counts.total - counts.failed, updated_at = now()
           FROM ({_document_counts("true")}) AS counts WHERE sources.id = counts.id
             AND (total_documents, failed_documents) <> (counts.total, counts.failed)""",
        {"sources": list(source_ids)},
    )


def mark_synced(connection: Connection, source_ids: Sequence[uuid.UUID]) -> None:
    """End the running syncs of sources with nothing left to parse, split, index or delete.

    Those that hold documents back end as failed: a person must decide.
    """
    with connection.transaction():
        ended = fetch_all(
            connection,
            _EndedSync,
            f"""UPDATE sources SET sync_status = 'completed', error_count = 0, last_error = NULL, failed_run = NULL,
             last_sync_at = now(), next_sync_at = NULL, sync_requested_at = NULL, total_documents = counts.total,
             failed_documents = counts.failed, successful_documents = counts.total - counts.failed, updated_at = now()
           FROM ({_document_counts("s.sync_status = 'running'")}) AS counts
           WHERE sources.id = counts.id AND held_back IS NULL AND {_FINISHED}
           RETURNING sources.id, name, total_documents AS documents, failed_documents AS failed, rag_sync() AS run""",
            {"sources": list(source_ids)},
        )
        held_back = connection.execute(
            f"SELECT name, held_back FROM sources WHERE id = ANY(%s) AND held_back IS NOT NULL AND {_FINISHED}",
            [list(source_ids)],
        ).fetchall()
        if held_back:
            mark_failed(connection, dict(held_back))
            record_counts(connection, source_ids)
        _audit(connection, ended, "allowed")


class _EndedSync(NamedTuple):
    id: uuid.UUID
    name: str
    documents: int
    failed: int
    run: str | None


def _audit(connection: Connection, ended: Sequence[_EndedSync], outcome: Outcome) -> None:
    if ended:
        append(
            connection,
            [
                AuditRecord(
                    "source.sync",
                    outcome,
                    OWNER,
                    f"source:{sync.id}",
                    details={
                        "name": sync.name,
                        "documents": sync.documents,
                        "failed": sync.failed,
                        "run": sync.run,
                    },
                )
                for sync in ended
            ],
        )


def complete_sources(
    connection: Connection, source_ids: Sequence[uuid.UUID], checks: Sequence[str]
) -> set[uuid.UUID]:
    """Return the sources whose last sync left nothing to the next one. `checks`: those of each sync."""
    return set(
        scalars(
            connection,
            f"SELECT id FROM sources WHERE id = ANY(%(sources)s) AND {_COMPLETE}",
            {"sources": list(source_ids), "checks": list(checks)},
        )
    )


def mark_unchanged(
    connection: Connection, source_ids: Sequence[uuid.UUID], checks: Sequence[str]
) -> set[uuid.UUID]:
    """Record that complete sources, which no session writes, were found unchanged now. Returns them.

    The planned sync stays: Dagster judges the freshness of its assets by its own runs.
    """
    return set(
        scalars(
            connection,
            f"""UPDATE sources SET last_sync_at = now(), updated_at = now()
                WHERE id = ANY(%(sources)s) AND NOT {is_written("sources.name")} AND {_COMPLETE} RETURNING id""",
            {"sources": list(source_ids), "checks": list(checks)},
        )
    )


def mark_listed(connection: Connection, source_id: uuid.UUID) -> None:
    """Record that the listing of this sync is complete: the sync's other shards need none."""
    connection.execute(
        "UPDATE sources SET listed_sync = rag_sync(), updated_at = now() WHERE id = %s", [source_id]
    )


def is_listed(connection: Connection, source_id: uuid.UUID) -> bool:
    """Return whether a shard of this sync has listed the source."""
    listed = scalar(
        connection, "SELECT listed_sync = rag_sync() FROM sources WHERE id = %s", [source_id]
    )
    return listed is True


def mark_shard_synced(connection: Connection, source_id: uuid.UUID, shard: Shard) -> bool:
    """Record a finished shard. Returns whether this sync has now finished all shards."""
    connection.execute(
        """INSERT INTO synced_shards (source_id, shard, sync) VALUES (%s, %s, rag_sync())
           ON CONFLICT (source_id, shard) DO UPDATE SET sync = excluded.sync""",
        [source_id, shard.number],
    )
    finished = scalar(
        connection,
        "SELECT count(*) FROM synced_shards WHERE source_id = %s AND shard <= %s AND sync = rag_sync()",
        [source_id, shard.of],
    )
    return finished == shard.of


def sync_states(connection: Connection) -> list[SyncState]:
    """Return the states of the active sources, by name."""
    return fetch_all(
        connection,
        _sync_state,
        """SELECT id, name, sync_schedule AS schedule, sync_status AS status, created_at, last_sync_at, next_sync_at,
             error_count, last_error, sync_run AS run, extract(epoch FROM now() - sync_requested_at)::float8 AS waited,
             connection_config AS config
           FROM sources WHERE is_active ORDER BY name""",
    )


def _sync_state(*, config: Mapping[str, Any], **columns: Any) -> SyncState:
    return SyncState(**columns, shards=shards_in(config))


def failing_sources(connection: Connection) -> set[uuid.UUID]:
    return set(scalars(connection, "SELECT id FROM sources WHERE error_count > 0"))


def plan_syncs(connection: Connection, due: Mapping[uuid.UUID, datetime]) -> None:
    """Write the time of the next sync of sources that have none yet."""
    connection.execute(
        """UPDATE sources s SET next_sync_at = due.at FROM unnest(%s::uuid[], %s::timestamptz[]) AS due(id, at)
           WHERE s.id = due.id AND s.next_sync_at IS NULL""",
        [list(due), list(due.values())],
    )


def mark_requested(connection: Connection, source_ids: Sequence[uuid.UUID]) -> None:
    connection.execute(
        "UPDATE sources SET sync_requested_at = now() WHERE id = ANY(%s)", [list(source_ids)]
    )
