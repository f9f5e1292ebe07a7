"""The records of one document in PostgreSQL: its entry, row, chunks, embeddings, vectors and versions. Reads only.

Every read is under an access scope. Only a scope of all sources contains documents of removed sources.
"""

from __future__ import annotations

import difflib
import uuid
from collections.abc import Mapping
from datetime import datetime
from typing import Any, LiteralString, NamedTuple

from rag_assets.pipeline.access import AccessScope
from resources.errors import ConfigError
from resources.postgres.connection import Connection
from resources.postgres.documents.erasures import DocumentLocation, key_hash
from resources.postgres.documents.row_fingerprint import row_fingerprint
from resources.postgres.queries import fetch_all, fetch_first, scalar
from resources.postgres.registry.visible_sources import is_visible, require_sources

#: Maximum number of keys that are searched for one similar to an unknown key.
SIMILAR_AMONG = 20_000

Row = dict[str, Any]


class DocumentRef(NamedTuple):
    """A document, existing or gone. `source` is empty if its source is gone too."""

    document_id: uuid.UUID
    key: str
    source: str


def _records(
    table: LiteralString, document: LiteralString, key: LiteralString, source: LiteralString
) -> LiteralString:
    """SQL: (document_id, key, source) of a table's rows for %(id)s or %(keys)s, by its columns' names."""
    return f"""SELECT {document} AS document_id, {key} AS key, {source} AS source FROM {table}
        WHERE {document} = %(id)s OR {key} = ANY(%(keys)s)"""


_RECORDS = " UNION ".join(
    [
        _records("source_entries", "document_id", "key", "source_id"),
        _records("documents", "id", "source_key", "source_uuid"),
        _records("document_versions", "document_id", "source_key", "source_uuid"),
        _records("left_documents", "document_id", "key", "source_id"),
    ]
)


def find_document(
    connection: Connection,
    name: str,
    source: str | None,
    scope: AccessScope,
    command: str = "rag explain",
) -> DocumentRef:
    """Find a document by its id, its key, or SOURCE/KEY.

    Raises ConfigError if there is none (with similar keys), or if there are several (with `command` for each).
    """
    if source is not None:
        require_sources(connection, [source], scope)
    try:
        document = uuid.UUID(name)
    except ValueError:
        document = None
    keys = [name, *(name[i + 1 :] for i, letter in enumerate(name) if letter == "/")]
    recorded = fetch_all(
        connection,
        DocumentRef,
        f"""SELECT e.document_id, e.key, coalesce(s.name, '') AS source
            FROM ({_RECORDS}) AS e LEFT JOIN sources s ON s.id = e.source
            WHERE (e.document_id = %(id)s OR e.key = %(name)s OR s.name || '/' || e.key = %(name)s)
              AND (normalize(s.name) = normalize(%(source)s) OR %(source)s::text IS NULL) AND {is_visible("s.name")}
            ORDER BY 3, 2, 1""",
        {
            "id": document,
            "name": name,
            "keys": keys,
            "source": source,
            "visible": scope.visible,
        },
    )
    # Documents of removed sources do not count if a present source has one.
    matches = [ref for ref in recorded if ref.source] or recorded
    matches = matches or _find_erased(connection, name, document, keys, source, scope)
    if len(matches) == 1:
        return matches[0]
    if matches:
        commands = "\n".join(
            f"  {command} {ref.document_id}  (source {ref.source or 'that was removed'})"
            for ref in matches
        )
        raise ConfigError(f"{name!r} is the key of {len(matches)} documents; name one:\n{commands}")
    where = f" in source {source!r}" if source else ""
    similar = _find_similar(connection, name, source, scope)
    hint = f" Perhaps: {', '.join(similar)}" if similar else ""
    raise ConfigError(f"No document has the key or id {name!r}{where}.{hint}")


class _ErasedDocument(NamedTuple):
    document_id: uuid.UUID
    key_hash: str
    source: str


def _find_erased(
    connection: Connection,
    name: str,
    document: uuid.UUID | None,
    keys: list[str],
    source: str | None,
    scope: AccessScope,
) -> list[DocumentRef]:
    """Find erased documents by the hash of their key: no more of it is stored."""
    by_hash = {key_hash(key): key for key in keys}
    rows = fetch_all(
        connection,
        _ErasedDocument,
        f"""SELECT document_id, key_hash, source FROM forgotten
           WHERE (document_id = %(id)s OR key_hash = ANY(%(hashes)s))
             AND (source = %(source)s OR %(source)s::text IS NULL) AND {is_visible("source")}
           ORDER BY 3, 2""",
        {
            "id": document,
            "hashes": list(by_hash),
            "source": source,
            "visible": scope.visible,
        },
    )
    erased = [(row, by_hash.get(row.key_hash)) for row in rows]
    return [
        DocumentRef(row.document_id, key or "a key that was forgotten too", row.source)
        for row, key in erased
        if key is None or name in (key, f"{row.source}/{key}")
    ]


def _find_similar(
    connection: Connection, name: str, source: str | None, scope: AccessScope
) -> list[str]:
    """Return up to five documents as SOURCE/KEY, whose keys contain the last part of the name, or else are similar.

    The most similar keys come first.
    """
    last = name.rsplit("/", 1)[-1]
    for part in (last, "") if last else ():
        documents = fetch_all(
            connection,
            DocumentLocation,
            f"""SELECT s.name AS source, d.source_key AS key FROM documents d JOIN sources s ON s.id = d.source_uuid
               WHERE strpos(lower(d.source_key), lower(%(part)s)) > 0
                 AND (normalize(s.name) = normalize(%(source)s) OR %(source)s::text IS NULL) AND {is_visible("s.name")}
               ORDER BY d.source_key, s.name LIMIT %(limit)s""",
            {
                "part": part,
                "source": source,
                "limit": SIMILAR_AMONG,
                "visible": scope.visible,
            },
        )
        close = difflib.get_close_matches(name, {d.key for d in documents}, n=5, cutoff=0.6)
        if close or (part and documents):
            matches = [d for key in close for d in documents if d.key == key] or documents
            return [f"{d.source}/{d.key}" for d in matches[:5]]
    return []


def _rows(connection: Connection, query: LiteralString, parameters: Mapping[str, Any]) -> list[Row]:
    return fetch_all(connection, Row, query, parameters)


def _row(connection: Connection, query: LiteralString, parameters: Mapping[str, Any]) -> Row | None:
    return fetch_first(connection, Row, query, parameters)


def read_entry(connection: Connection, document: uuid.UUID, scope: AccessScope) -> Row | None:
    return _row(
        connection,
        f"""SELECT e.locator, e.change_token, e.size, e.content_hash, e.error, e.removed_hash, e.fetched_at,
              e.fetched_run
            FROM source_entries e JOIN sources s ON s.id = e.source_id
            WHERE e.document_id = %(id)s AND {is_visible("s.name")}""",
        {"id": document, "visible": scope.visible},
    )


def read_left(connection: Connection, document: uuid.UUID, scope: AccessScope) -> Row | None:
    """Return why the last sync left the document as it was, and when; None if it did not."""
    return _row(
        connection,
        f"""SELECT l.reason, l.left_at FROM left_documents l JOIN sources s ON s.id = l.source_id
            WHERE l.document_id = %(id)s AND {is_visible("s.name")}""",
        {"id": document, "visible": scope.visible},
    )


def read_document(connection: Connection, document: uuid.UUID, scope: AccessScope) -> Row | None:
    """Return the current row, as `valid_from` the time when this version began, `source_name` (that of its source) and
    `source_language`, the language that its source is configured with."""
    return _row(
        connection,
        f"""SELECT d.*, coalesce(d.versioned_at, d.created_at) AS valid_from, s.name AS source_name,
              s.connection_config ->> 'language' AS source_language
            FROM documents d JOIN sources s ON s.id = d.source_uuid
            WHERE d.id = %(id)s AND {is_visible("s.name")}""",
        {"id": document, "visible": scope.visible},
    )


def read_chunks(
    connection: Connection, document: uuid.UUID, model: str, scope: AccessScope
) -> list[Row]:
    """Return the chunks in order, with the place of each one's embedding under this model and the run that made it.

    All sources share the embedding of a text, and another source's run may have made it: only a scope of all sources
    gets the place and the run.
    """
    return _rows(
        connection,
        f"""SELECT c.id, c.position, c.page, coalesce(c.language, d.language) AS language, c.chunk_type,
             c.section_title,
             c.char_count, c.token_count, c.text_hash, c.embedding_status, c.embedding_error, f.path AS embedding_file,
             e.row_index AS embedding_row,
             f.run AS embedded_run
           FROM document_chunks c JOIN documents d ON d.id = c.document_id JOIN sources s ON s.id = d.source_uuid
           LEFT JOIN embeddings e ON e.model_fingerprint = %(model)s AND e.text_hash = c.text_hash
             AND %(visible)s::text[] IS NULL
           LEFT JOIN embedding_files f ON f.id = e.file_id
           WHERE c.document_id = %(id)s AND {is_visible("s.name")} ORDER BY c.position""",
        {"id": document, "model": model, "visible": scope.visible},
    )


def read_vectors(
    connection: Connection, document: uuid.UUID, collection: str, model: str, scope: AccessScope
) -> list[Row]:
    """Return for each chunk the rows that Milvus acknowledged, when it did, and the fingerprint they must have now."""
    return _rows(
        connection,
        f"""SELECT c.id, r.row_count, r.acknowledged_at, r.row_fingerprint AS acknowledged,
              {row_fingerprint("c", "d", "s")} AS wanted
            FROM document_chunks c JOIN documents d ON d.id = c.document_id JOIN sources s ON s.id = d.source_uuid
            LEFT JOIN vector_rows r ON r.collection = %(collection)s AND r.chunk_id = c.id
            WHERE c.document_id = %(id)s AND {is_visible("s.name")} ORDER BY c.position""",
        {"id": document, "collection": collection, "model": model, "visible": scope.visible},
    )


def read_versions(connection: Connection, document: uuid.UUID, scope: AccessScope) -> list[Row]:
    """Return the versions that ended, oldest first, without their texts."""
    return _rows(
        connection,
        f"""SELECT v.version, v.valid_from, v.valid_to, v.ended_by, v.title, v.language, v.char_count, v.chunk_count,
              v.raw_hash, v.processing_status, v.indexing_status, v.parsed_run, v.chunked_run, v.indexed_run,
              v.ended_run
            FROM document_versions v LEFT JOIN sources s ON s.id = v.source_uuid
            WHERE v.document_id = %(id)s AND {is_visible("s.name")} ORDER BY v.valid_to""",
        {"id": document, "visible": scope.visible},
    )


def read_same_content(
    connection: Connection, document: uuid.UUID, raw_hash: str, scope: AccessScope
) -> list[DocumentRef]:
    """Return up to five other documents whose raw bytes are these: a renamed document is one of them."""
    return fetch_all(
        connection,
        DocumentRef,
        f"""SELECT e.document_id, e.key, s.name AS source
            FROM source_entries e JOIN sources s ON s.id = e.source_id JOIN documents d ON d.id = e.document_id
            WHERE e.content_hash = %(hash)s AND e.document_id <> %(id)s AND {is_visible("s.name")}
            ORDER BY s.name, e.key LIMIT 5""",
        {"hash": raw_hash, "id": document, "visible": scope.visible},
    )


def read_version_at(
    connection: Connection, document: uuid.UUID, moment: datetime, scope: AccessScope
) -> Row | None:
    """Return the version of a moment if it has ended since; None if there was none or if it is the current one."""
    return _row(
        connection,
        f"""SELECT v.* FROM document_versions v LEFT JOIN sources s ON s.id = v.source_uuid
            WHERE v.document_id = %(id)s AND v.valid_to > %(at)s AND v.valid_from <= %(at)s
              AND {is_visible("s.name")}
            ORDER BY v.valid_to LIMIT 1""",
        {"id": document, "at": moment, "visible": scope.visible},
    )


def read_erasure_time(
    connection: Connection, document: uuid.UUID, scope: AccessScope
) -> datetime | None:
    return scalar(
        connection,
        f"""SELECT requested_at FROM forgotten WHERE document_id = %(id)s AND {is_visible("source")}""",
        {"id": document, "visible": scope.visible},
    )
