"""What a search result says: read from PostgreSQL in one query; a chunk that it does not know is not there."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from resources.postgres.connection import Connection

#: document_id, title, section_title, position, source, key, language, content
HydratedRow = tuple[str, str, str | None, int, str, str, str | None, str]


def hydrate(connection: Connection, chunks: Sequence[uuid.UUID]) -> dict[uuid.UUID, HydratedRow]:
    rows = connection.execute(
        """SELECT c.id, d.id::text, d.title, c.section_title, c.position, s.name, d.source_key, d.language, c.content
           FROM document_chunks c JOIN documents d ON d.id = c.document_id JOIN sources s ON s.id = d.source_uuid
           WHERE c.id = ANY(%s)""",
        [list(chunks)],
    )
    return {row[0]: row[1:] for row in rows}


def serving_models(connection: Connection) -> dict[str, str]:
    """kind -> fingerprint of the model whose vectors the alias serves."""
    return dict(
        connection.execute(
            "SELECT kind, model_fingerprint FROM vector_collections WHERE state = 'serving'"
        ).fetchall()
    )
