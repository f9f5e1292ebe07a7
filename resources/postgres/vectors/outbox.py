"""Table `vector_deletions`, the outbox: rows that Milvus must delete. A trigger fills it at each deletion of chunks."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import LiteralString, NamedTuple

from rag_assets.pipeline.vectors import Kind
from resources.postgres.connection import Connection
from resources.postgres.queries import fetch_all, scalars
from resources.postgres.scope import SyncScope, in_scope

#: Outbox entries claimed at a time.
CLAIMED = 1000


class ClaimedDeletions(NamedTuple):
    """`ids`: of the entries. `chunks`: those of their chunks that no longer exist -> their rows in Milvus, if known."""

    ids: list[int]
    chunks: dict[uuid.UUID, int | None]


class _Entry(NamedTuple):
    id: int
    chunk_id: uuid.UUID
    row_count: int | None
    exists: bool


def outbox_entries(source: LiteralString) -> LiteralString:
    """SQL: FROM the outbox entries `v` of the scope, for the collections of %(kind)s."""
    condition = in_scope(source, "v.source_uuid", "coalesce(v.document_id, v.chunk_id)")
    return f"FROM vector_deletions v WHERE {condition} AND v.kind = %(kind)s"


def claim_deletions(connection: Connection, scope: SyncScope, kind: Kind) -> ClaimedDeletions:
    """Claim a batch of the outbox for this transaction.

    A chunk that exists again is claimed, but not among `chunks`: its row is overwritten, not deleted.
    """
    entries = fetch_all(
        connection,
        _Entry,
        f"""SELECT v.id, v.chunk_id, v.row_count,
             EXISTS (SELECT FROM document_chunks c WHERE c.id = v.chunk_id) AS exists
           {outbox_entries("%(source)s")} ORDER BY v.id LIMIT %(limit)s FOR UPDATE OF v SKIP LOCKED""",
        {**scope.parameters(), "kind": kind, "limit": CLAIMED},
    )
    return ClaimedDeletions(
        [entry.id for entry in entries],
        {entry.chunk_id: entry.row_count for entry in entries if not entry.exists},
    )


def confirm_deletions(connection: Connection, outbox_ids: Sequence[int]) -> None:
    connection.execute("DELETE FROM vector_deletions WHERE id = ANY(%s)", [list(outbox_ids)])


def abandoned_deletions(connection: Connection) -> list[tuple[uuid.UUID, Kind]]:
    """Return (source, kind) of the outbox entries of removed sources, which no sync drains."""
    return connection.execute(
        """SELECT DISTINCT source_uuid, kind FROM vector_deletions v
           WHERE NOT EXISTS (SELECT FROM sources s WHERE s.id = v.source_uuid)"""
    ).fetchall()


def leaving_chunks(
    connection: Connection, kind: Kind, chunks: Sequence[uuid.UUID]
) -> set[uuid.UUID]:
    """Return those of `chunks` whose deletion waits in the outbox."""
    return set(
        scalars(
            connection,
            "SELECT chunk_id FROM vector_deletions WHERE kind = %s AND chunk_id = ANY(%s)",
            [kind, list(chunks)],
        )
    )
