"""Table `left_documents`: what the last sync of a source left as it was, for a reason that may pass."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import NamedTuple

from rag_assets.pipeline.identity import document_id
from resources.postgres.bulk_copy import copy_rows
from resources.postgres.connection import Connection
from resources.postgres.queries import fetch_all, scalars

#: Of a document that is held back.
HELD_REASON = "many documents turned into its new content; a person must accept it: rag ingest --accept-replacements"


class LeftDocument(NamedTuple):
    source: str
    key: str
    reason: str


def forget_left(connection: Connection, source_ids: Sequence[uuid.UUID]) -> None:
    """Forget what earlier syncs of the sources left."""
    ids = list(source_ids)
    connection.execute("DELETE FROM left_documents WHERE source_id = ANY(%s)", [ids])
    connection.execute(
        """UPDATE sources SET held_back = NULL, updated_at = now()
           WHERE id = ANY(%s) AND held_back IS NOT NULL""",
        [ids],
    )


def record_left(
    connection: Connection, source_id: uuid.UUID, left: Sequence[tuple[str, str]]
) -> None:
    """Record the documents (key, reason) that this sync left as they were."""
    if not left:
        return
    copy_rows(
        connection,
        "left_now",
        {"key": "text", "document_id": "uuid", "reason": "text"},
        ((key, document_id(source_id, key), reason) for key, reason in left),
    )
    connection.execute(
        """INSERT INTO left_documents (source_id, key, document_id, reason)
           SELECT %s, key, document_id, reason FROM pg_temp.left_now""",
        [source_id],
    )


def hold_back(
    connection: Connection, source_id: uuid.UUID, gists: Sequence[str], reason: str
) -> None:
    """Record that the changed documents of this sync with these contents (see `replacements`) keep their former ones
    until a person decides. `reason`: for the source, whose sync ends as failed.
    """
    connection.execute(
        """INSERT INTO left_documents (source_id, key, document_id, reason)
           SELECT e.source_id, e.key, e.document_id, %s
           FROM pg_temp.replacements r JOIN source_entries e ON e.source_id = %s AND e.key = r.key
           WHERE r.gist = ANY(%s)""",
        [HELD_REASON, source_id, list(gists)],
    )
    connection.execute(
        "UPDATE sources SET held_back = %s, updated_at = now() WHERE id = %s", [reason, source_id]
    )


def list_left(connection: Connection, limit: int) -> list[LeftDocument]:
    """Return some of the left documents of all sources."""
    return fetch_all(
        connection,
        LeftDocument,
        """SELECT s.name AS source, l.key, l.reason FROM left_documents l JOIN sources s ON s.id = l.source_id
           ORDER BY s.name, l.key LIMIT %s""",
        [limit],
    )


def count_left(connection: Connection) -> int:
    return scalars(connection, "SELECT count(*) FROM left_documents")[0]
