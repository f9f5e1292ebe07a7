"""Column `document_chunks.rejected_as`: texts that a model could not embed. They are not tried again for this model.

Another text, another chunking, another model or other kinds of vectors are a new attempt; `forget_rejections` allows
one for the same.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import LiteralString

from resources.postgres.bulk_copy import copy_rows
from resources.postgres.connection import Connection
from resources.postgres.queries import scalar
from resources.postgres.vectors.target import Target, is_dirty, is_in_scope

#: Longest reason that is stored.
REASON_CHARS = 1000


def record_rejections(connection: Connection, target: Target, reasons: Mapping[str, str]) -> None:
    """Mark the chunks of a source whose texts could not be embedded (text hash -> reason) as failed."""
    rows = [(text_hash, _storable(reason)) for text_hash, reason in reasons.items()]
    copy_rows(connection, "unembedded", {"text_hash": "text", "reason": "text"}, rows)
    connection.execute(
        """UPDATE document_chunks c SET embedding_status = 'failed', embedding_error = u.reason,
             rejected_as = %(indexed_as)s, updated_at = now()
           FROM unembedded u WHERE c.source_uuid = %(source)s AND c.text_hash = u.text_hash""",
        target.parameters(),
    )


def mark_rejected_chunks(connection: Connection, target: Target) -> None:
    """Mark the dirty documents' chunks as failed whose text was rejected before: here, or in another source."""
    connection.execute(
        f"""UPDATE document_chunks u SET embedding_status = 'failed', embedding_error = known.embedding_error,
             rejected_as = %(indexed_as)s, updated_at = now()
           FROM (
             SELECT DISTINCT ON (c.id) c.id, r.embedding_error
             FROM document_chunks r JOIN document_chunks c ON c.text_hash = r.text_hash
             JOIN documents d ON d.id = c.document_id
             WHERE r.rejected_as = %(indexed_as)s AND {is_dirty("d")}
               AND (c.embedding_status <> 'failed' OR c.rejected_as IS DISTINCT FROM %(indexed_as)s)
             ORDER BY c.id, r.id) AS known
           WHERE u.id = known.id""",
        target.parameters(),
    )


def mark_unembedded_documents(connection: Connection, target: Target) -> None:
    """Mark the dirty documents with a rejected chunk as failed, with the reason.

    The reason of a document that could not be read stays: its chunks are those of its last good text.
    """
    connection.execute(
        f"""UPDATE documents u SET indexing_status = 'failed', updated_at = now(),
             error_message = CASE WHEN u.processing_status = 'failed' THEN u.error_message ELSE failed.message END
           FROM (
             SELECT d.id, CASE WHEN count(*) FILTER (WHERE {_IS_REJECTED}) < count(*)
                 THEN format('%%s of %%s chunks ', count(*) FILTER (WHERE {_IS_REJECTED}), count(*)) ELSE '' END
               || 'could not be embedded: '
               || (array_agg(c.embedding_error ORDER BY c.position) FILTER (WHERE {_IS_REJECTED}))[1] AS message
             FROM documents d JOIN document_chunks c ON c.document_id = d.id
             WHERE {is_dirty("d")} AND d.id IN (
               SELECT c.document_id FROM document_chunks c WHERE {_IS_REJECTED})
             GROUP BY d.id) AS failed
           WHERE u.id = failed.id AND (u.indexing_status <> 'failed'
             OR (u.processing_status <> 'failed' AND u.error_message IS DISTINCT FROM failed.message))""",
        target.parameters(),
    )


def count_rejected_texts(connection: Connection, target: Target) -> int:
    """Count the distinct texts of the scope that the target's model could not embed."""
    return scalar(
        connection,
        f"""SELECT count(DISTINCT c.text_hash) FROM document_chunks c JOIN documents d ON d.id = c.document_id
           WHERE {_IS_REJECTED} AND {is_in_scope("d")}""",
        target.parameters(),
    )


def forget_rejections(connection: Connection, sources: Sequence[uuid.UUID]) -> int:
    """Let the next sync try the rejected texts of these sources again. Returns the number of their chunks."""
    return connection.execute(
        """UPDATE document_chunks SET rejected_as = NULL, updated_at = now()
           WHERE rejected_as IS NOT NULL AND text_hash IN (
             SELECT text_hash FROM document_chunks WHERE rejected_as IS NOT NULL AND source_uuid = ANY(%s))""",
        [list(sources)],
    ).rowcount


def _storable(reason: str) -> str:
    """Return the text without what PostgreSQL cannot store: a server's or a library's message may contain anything."""
    return reason.encode("utf-8", "replace").decode().replace("\0", "")[:REASON_CHARS]


_IS_REJECTED: LiteralString = "c.rejected_as = %(indexed_as)s AND c.embedding_status = 'failed'"
