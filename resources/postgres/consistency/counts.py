"""How much there is, by PostgreSQL's word (an asset check compares it with what Milvus holds)."""

from __future__ import annotations

import uuid
from datetime import datetime

from resources.postgres.connection import Connection


def count_everything(connection: Connection) -> dict[str, int]:
    """sources, documents, chunks, embeddings, the acknowledged rows of the serving collections, and near-duplicates.
    Zeros before the migration that makes what is counted."""
    names = ("sources", "documents", "chunks", "embeddings", "dense", "sparse", "multi")
    if connection.execute("SELECT to_regclass('vector_rows')").fetchone() == (None,):
        return dict.fromkeys((*names, "near_duplicates"), 0)
    row = connection.execute(
        """SELECT (SELECT count(*) FROM sources), (SELECT count(*) FROM documents),
             (SELECT coalesce(sum(chunk_count), 0)::bigint FROM documents), (SELECT count(*) FROM embeddings)"""
    ).fetchone()
    assert row is not None
    kinds = dict(
        connection.execute(
            """SELECT v.kind, count(r.chunk_id) FROM vector_collections v
               LEFT JOIN vector_rows r ON r.collection = v.name AND r.row_count > 0
               WHERE v.state = 'serving' GROUP BY 1"""
        ).fetchall()
    )
    counts = dict(zip(names, (*row, *(kinds.get(kind, 0) for kind in names[4:]))))
    return counts | {"near_duplicates": _near_duplicates(connection)}


def _near_duplicates(connection: Connection) -> int:
    if connection.execute("SELECT to_regclass('near_duplicates')").fetchone() == (None,):
        return 0
    row = connection.execute("SELECT count(*) FROM near_duplicates").fetchone()
    assert row is not None
    return row[0]


def waiting_deletions(
    connection: Connection, source_id: uuid.UUID, limit: float
) -> list[tuple[str, str, int, int, datetime]]:
    """(source or 'removed', kind, entries, entries older than `limit` seconds, the oldest's time) in the outbox.

    Of this source, and of sources that there are not any more.
    """
    return connection.execute(
        """SELECT coalesce(s.name, 'removed ' || v.source_uuid), v.kind, count(*),
             count(*) FILTER (WHERE v.enqueued_at < now() - %(limit)s * interval '1 second'), min(v.enqueued_at)
           FROM vector_deletions v LEFT JOIN sources s ON s.id = v.source_uuid
           WHERE v.source_uuid = %(source)s OR s.id IS NULL GROUP BY 1, 2 ORDER BY 1, 2""",
        {"source": source_id, "limit": limit},
    ).fetchall()
