"""What search results say: read from PostgreSQL in one query; a chunk that it does not know is not there."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace

from rag_assets.pipeline.hits import ChunkText, Hit
from rag_assets.pipeline.vectors import Kind
from resources.postgres.connection import Connection


@dataclass(frozen=True, slots=True)
class Serving:
    """The collection behind an alias."""

    model: str
    dimension: int


def hydrate(connection: Connection, chunks: Sequence[uuid.UUID]) -> dict[uuid.UUID, ChunkText]:
    if not chunks:
        return {}
    rows = connection.execute(
        """SELECT c.id, d.id::text, d.title, c.section_title, c.position, s.name, d.source_key,
             coalesce(c.language, d.language), c.content,
             d.source_url, c.chunk_type, c.page, c.text_hash
           FROM document_chunks c JOIN documents d ON d.id = c.document_id JOIN sources s ON s.id = d.source_uuid
           WHERE c.id = ANY(%s)""",
        [list(chunks)],
    )
    return {row[0]: ChunkText(*row[1:]) for row in rows}


def serving(connection: Connection) -> dict[Kind, Serving]:
    """kind -> what its alias serves."""
    rows = connection.execute(
        "SELECT kind, model_fingerprint, dimension FROM vector_collections WHERE state = 'serving'"
    )
    return {kind: Serving(model, dimension) for kind, model, dimension in rows}


def surroundings(connection: Connection, hits: Sequence[Hit], reach: int) -> list[Hit]:
    """The hits with up to `reach` chunks before and after each, and the chunk that opens its section."""
    rows = connection.execute(
        """SELECT h.id::text, n.position - h.position, n.content
           FROM document_chunks h JOIN document_chunks n ON n.document_id = h.document_id
             AND n.position BETWEEN h.position - %(reach)s AND h.position + %(reach)s AND n.id <> h.id
           WHERE h.id = ANY(%(hits)s)
           UNION ALL
           SELECT h.id::text, NULL, p.content
           FROM document_chunks h JOIN document_chunks p ON p.id = h.parent_chunk_id
           WHERE h.id = ANY(%(hits)s)
           ORDER BY 1, 2""",
        {"reach": reach, "hits": [uuid.UUID(hit.chunk_id) for hit in hits]},
    ).fetchall()
    found = []
    for hit in hits:
        own = [(distance, content) for chunk, distance, content in rows if chunk == hit.chunk_id]
        found.append(
            replace(
                hit,
                before=tuple(text for at, text in own if at is not None and at < 0),
                after=tuple(text for at, text in own if at is not None and at > 0),
                section=next((text for at, text in own if at is None), None),
            )
        )
    return found
