"""Texts of search results, read from PostgreSQL: only chunks that exist, meet the search's conditions and are in scope
now. Rows in Milvus may be older than an edit. The neighbours of a hit may be of any type and language."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import LiteralString, NamedTuple

from rag_assets.pipeline.access import AccessScope
from rag_assets.pipeline.filters import Filters
from rag_assets.pipeline.hits import ChunkText, Hit, Holder
from rag_assets.pipeline.vectors import Kind
from resources.postgres.connection import Connection
from resources.postgres.queries import named_row
from resources.postgres.registry.visible_sources import is_visible

#: Maximum number of other documents that a hit names; they come from this many chunks with the same text.
HOLDERS, HOLDING_CHUNKS = 100, 1000


class Serving(NamedTuple):
    """The collection behind an alias."""

    kind: Kind
    model: str
    dimension: int


#: The conditions of a search on chunk `c` of document `d` of source `s`.
_CONDITIONS: Mapping[str, LiteralString] = {
    "source": "s.name = ANY(%(source)s)",
    "source_type": "d.source_type = ANY(%(source_type)s)",
    "language": "coalesce(coalesce(c.language, d.language) = ANY(%(language)s), true)",
    "document": "d.id = ANY(%(document)s)",
    "tags": "d.filter_tags && %(tags)s",
    "category": "d.category = ANY(%(category)s)",
    "author": "d.author = ANY(%(author)s)",
    "chunk_type": "c.chunk_type = ANY(%(chunk_type)s)",
    "from": "date_trunc('second', d.created_at) >= %(from)s",
    "before": "date_trunc('second', d.created_at) < %(before)s",
}


def _conditions(filters: Filters) -> tuple[LiteralString, dict[str, object]]:
    """Return the SQL of the conditions that the filters have, and its parameters."""
    values: dict[str, object] = {
        "source": list(filters.source),
        "source_type": list(filters.source_type),
        "language": list(filters.language),
        "document": [uuid.UUID(document) for document in filters.document],
        "tags": list(filters.tags),
        "category": list(filters.category),
        "author": list(filters.author),
        "chunk_type": list(filters.chunk_type),
        "from": filters.created_from and filters.created_from.replace(microsecond=0),
        "before": filters.created_before and filters.created_before.replace(microsecond=0),
    }
    values = {name: value for name, value in values.items() if value}
    return " AND ".join(["true", *(_CONDITIONS[name] for name in values)]), values


#: The chunks that exist, meet the conditions and are in scope, and the documents that contain their texts.
_HYDRATE: LiteralString = """WITH found AS MATERIALIZED (
     SELECT c.id::text AS chunk_id, d.id::text AS document_id, d.title, c.section_title, c.position, s.name AS source,
       d.source_key AS key, coalesce(c.language, d.language) AS language, c.content, d.source_url AS url,
       c.chunk_type, c.page, c.text_hash
     FROM document_chunks c
     JOIN documents d ON d.id = c.document_id
     JOIN sources s ON s.id = d.source_uuid
     WHERE c.id = ANY(%(chunks)s::uuid[]) AND {conditions})
   SELECT found.*, holding.documents FROM found CROSS JOIN LATERAL (
     SELECT CASE WHEN count(*) > 1 THEN
       jsonb_agg(jsonb_build_array(id, name, source_key, title) ORDER BY name, source_key) END AS documents
     FROM (SELECT DISTINCT id, name, source_key, title
           FROM (SELECT d.id, s.name, d.source_key, d.title
                 FROM document_chunks c
                 JOIN documents d ON d.id = c.document_id
                 JOIN sources s ON s.id = d.source_uuid
                 WHERE c.text_hash = found.text_hash AND {conditions}
                 LIMIT %(holding_chunks)s) AS holding_chunks
           ORDER BY name, source_key LIMIT %(holders)s) AS documents) AS holding"""


def hydrate(
    connection: Connection, chunks: Sequence[str], filters: Filters, scope: AccessScope
) -> dict[str, ChunkText]:
    """Return the chunks that exist, meet the conditions and are in scope now, with the other documents that do."""
    limits = scope.restrict(filters)
    if limits is None or not chunks:
        return {}
    conditions, values = _conditions(limits)
    rows = connection.execute(
        _HYDRATE.format(conditions=conditions),
        {
            "chunks": list(chunks),
            "holders": HOLDERS + 1,
            "holding_chunks": HOLDING_CHUNKS,
            **values,
        },
    )
    texts: dict[str, ChunkText] = {}
    for chunk, document, *columns, documents in rows.fetchall():
        others = (Holder(*each) for each in documents or () if each[0] != document)
        texts[chunk] = ChunkText(chunk, document, *columns, also_in=tuple(others)[:HOLDERS])
    return texts


def serving(connection: Connection, instead: Collection[str] = ()) -> Iterable[Serving]:
    """Ask for the collection that serves each kind, or with `instead` for the collections of these names.

    The answer is read when it is iterated over: in a pipeline, together with that of the next statement.
    """
    cursor = connection.cursor(row_factory=named_row(Serving))
    return cursor.execute(
        """SELECT kind, model_fingerprint AS model, dimension FROM vector_collections
           WHERE name = ANY(%(names)s) OR (state = 'serving' AND %(names)s = '{}')""",
        {"names": list(instead)},
    )


def surroundings(
    connection: Connection, hits: Sequence[Hit], reach: int, scope: AccessScope
) -> list[Hit]:
    """Return the hits with up to `reach` chunks before and after each, and the chunk that opens its section."""
    rows = connection.execute(
        f"""SELECT hit.id::text, near.distance, near.content
           FROM document_chunks hit CROSS JOIN LATERAL (
             SELECT c.position - hit.position AS distance, c.content, c.document_id FROM document_chunks c
             WHERE c.document_id = hit.document_id AND c.id <> hit.id
               AND c.position BETWEEN hit.position - %(reach)s AND hit.position + %(reach)s
             UNION ALL
             SELECT NULL, c.content, c.document_id FROM document_chunks c WHERE c.id = hit.parent_chunk_id) AS near
           JOIN documents d ON d.id = near.document_id
           JOIN sources s ON s.id = d.source_uuid
           WHERE hit.id = ANY(%(hits)s) AND {is_visible("s.name")}
           ORDER BY near.distance""",
        {
            "reach": reach,
            "hits": [uuid.UUID(hit.chunk_id) for hit in hits],
            "visible": scope.visible,
        },
    ).fetchall()
    near: dict[str, list[tuple[int | None, str]]] = {}
    for chunk, distance, content in rows:
        near.setdefault(chunk, []).append((distance, content))
    surrounded: list[Hit] = []
    for hit in hits:
        texts = near.get(hit.chunk_id, [])
        surrounded.append(
            replace(
                hit,
                before=tuple(text for at, text in texts if at is not None and at < 0),
                after=tuple(text for at, text in texts if at is not None and at > 0),
                section=next((text for at, text in texts if at is None), None),
            )
        )
    return surrounded
