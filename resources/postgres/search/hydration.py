"""What search results say: read from PostgreSQL in one query; a chunk that it does not know is not there, and none that
does not meet the search's conditions now. What surrounds a hit is of its document, of whatever type and language."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import LiteralString

from rag_assets.pipeline.filters import Filters
from rag_assets.pipeline.hits import ChunkText, Hit, Holder
from rag_assets.pipeline.vectors import Kind
from resources.postgres.connection import Connection

#: Further documents that a hit names, at most; of a text that more chunks hold than the second number, these are some.
HOLDERS, HOLDING_CHUNKS = 100, 1000


@dataclass(frozen=True, slots=True)
class Serving:
    """The collection behind an alias."""

    model: str
    dimension: int


#: A search's conditions, as PostgreSQL has it now. Spliced into queries with `c`, `d` and `s` in scope.
_CONDITIONS: Mapping[str, LiteralString] = {
    "source": "s.name = ANY(%(source)s)",
    "source_type": "d.source_type = ANY(%(source_type)s)",
    "language": "coalesce(c.language, d.language) = ANY(%(language)s)",
    "document": "d.id = ANY(%(document)s)",
    "tags": "d.filter_tags && %(tags)s",
    "category": "d.category = ANY(%(category)s)",
    "author": "d.author = ANY(%(author)s)",
    "chunk_type": "c.chunk_type = ANY(%(chunk_type)s)",
    "from": "date_trunc('second', d.created_at) >= %(from)s",
    "before": "date_trunc('second', d.created_at) < %(before)s",
}


def _conditions(limits: Filters) -> tuple[LiteralString, dict[str, object]]:
    """The conditions that there are, and their parameters."""
    lists = ("source", "source_type", "language", "tags", "category", "author", "chunk_type")
    given = {
        **{name: list(getattr(limits, name)) for name in lists},
        "document": [uuid.UUID(each) for each in limits.document],
        "from": limits.created_from and limits.created_from.replace(microsecond=0),
        "before": limits.created_before and limits.created_before.replace(microsecond=0),
    }
    given = {name: value for name, value in given.items() if value}
    return " AND ".join(["true", *(_CONDITIONS[name] for name in given)]), given


def hydrate(
    connection: Connection, chunks: Sequence[uuid.UUID], limits: Filters
) -> dict[uuid.UUID, ChunkText]:
    """Of those chunks that exist and meet the conditions now: rows in Milvus may be older than an edit."""
    if not chunks:
        return {}
    conditions, given = _conditions(limits)
    rows = connection.execute(
        f"""SELECT c.id, d.id::text, d.title, c.section_title, c.position, s.name, d.source_key,
             coalesce(c.language, d.language), c.content,
             d.source_url, c.chunk_type, c.page, c.text_hash
           FROM document_chunks c JOIN documents d ON d.id = c.document_id JOIN sources s ON s.id = d.source_uuid
           WHERE c.id = ANY(%(chunks)s) AND {conditions}""",
        {"chunks": list(chunks), **given},
    )
    return {row[0]: ChunkText(*row[1:]) for row in rows}


def serving(connection: Connection, instead: Collection[str] = ()) -> dict[Kind, Serving]:
    """kind -> what its alias serves; `instead` of that, collections by their names."""
    rows = connection.execute(
        """SELECT kind, model_fingerprint, dimension FROM vector_collections
           WHERE name = ANY(%(names)s) OR (state = 'serving' AND %(names)s = '{}')""",
        {"names": list(instead)},
    )
    return {kind: Serving(model, dimension) for kind, model, dimension in rows}


def with_holders(connection: Connection, hits: Sequence[Hit], limits: Filters) -> list[Hit]:
    """The hits with the other documents that hold the same text and meet the search's conditions."""
    conditions, given = _conditions(limits)
    rows = connection.execute(
        f"""SELECT own.id::text, other.* FROM document_chunks own CROSS JOIN LATERAL (
             SELECT DISTINCT found.document_id::text, found.name, found.source_key, found.title
             FROM (SELECT d.id AS document_id, s.name, d.source_key, d.title
                   FROM document_chunks c
                   JOIN documents d ON d.id = c.document_id JOIN sources s ON s.id = d.source_uuid
                   WHERE c.text_hash = own.text_hash AND d.id <> own.document_id
                     AND {conditions}
                   LIMIT %(chunks)s) found
             ORDER BY 2, 3 LIMIT %(holders)s) other
           WHERE own.id = ANY(%(hits)s) ORDER BY other.name, other.source_key""",
        {
            "hits": [uuid.UUID(hit.chunk_id) for hit in hits],
            "holders": HOLDERS,
            "chunks": HOLDING_CHUNKS,
            **given,
        },
    ).fetchall()
    holders: dict[str, list[Holder]] = {}
    for chunk, *holder in rows:
        holders.setdefault(chunk, []).append(Holder(*holder))
    return [replace(hit, also_in=tuple(holders.get(hit.chunk_id, ()))) for hit in hits]


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
