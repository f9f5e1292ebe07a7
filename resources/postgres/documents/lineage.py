"""What PostgreSQL knows of one document: its entry, row, chunks, embeddings, vectors and versions. Reads only."""

from __future__ import annotations

import difflib
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg.rows import dict_row

from resources.errors import ConfigError
from resources.postgres.connection import Connection
from resources.postgres.documents.erasures import key_hash
from resources.postgres.registry.sources import get_source
from resources.postgres.vectors.vectors import FINGERPRINT

#: Keys among which one that was perhaps meant is looked for.
SIMILAR_AMONG = 20_000

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Subject:
    """The document that is asked about; it may be gone, and its source too (then `source` is empty)."""

    document_id: uuid.UUID
    key: str
    source: str


#: (table, document's id, key, source's id): each place that may know of a document.
_PLACES = (
    ("source_entries", "document_id", "key", "source_id"),
    ("documents", "id", "source_key", "source_uuid"),
    ("document_versions", "document_id", "source_key", "source_uuid"),
)
_EVERYWHERE = " UNION ".join(
    f"""SELECT {document} AS document_id, {key} AS key, {source} AS source FROM {table}
        WHERE {document} = %(id)s OR {key} = ANY(%(keys)s)"""
    for table, document, key, source in _PLACES
)


def find_document(connection: Connection, asked: str, source: str | None) -> Subject:
    """By its id, its key, or SOURCE/KEY. Raises ConfigError for none (with keys that are alike) and for several."""
    if source is not None:
        get_source(connection, source)
    try:
        wanted = uuid.UUID(asked)
    except ValueError:
        wanted = None
    keys = [asked, *(asked[i + 1 :] for i, letter in enumerate(asked) if letter == "/")]
    rows = connection.execute(
        f"""SELECT e.document_id, e.key, coalesce(s.name, '')
            FROM ({_EVERYWHERE}) AS e LEFT JOIN sources s ON s.id = e.source
            WHERE (e.document_id = %(id)s OR e.key = %(asked)s OR s.name || '/' || e.key = %(asked)s)
              AND (s.name = %(source)s OR %(source)s::text IS NULL)
            ORDER BY 3, 2, 1""",  # pyright: ignore[reportArgumentType]
        {"id": wanted, "asked": asked, "keys": keys, "source": source},
    ).fetchall()
    known = [Subject(*row) for row in rows]
    # Documents of sources that were removed are not meant where one is there.
    found = [subject for subject in known if subject.source] or known
    found = found or _forgotten(connection, asked, wanted, keys, source)
    if len(found) == 1:
        return found[0]
    if found:
        named = "\n".join(
            f"  rag explain {each.document_id}  (source {each.source or 'that was removed'})"
            for each in found
        )
        raise ConfigError(f"{asked!r} is the key of {len(found)} documents; name one:\n{named}")
    where = f" in source {source!r}" if source else ""
    alike = _alike(connection, asked, source)
    hint = f" Perhaps: {', '.join(alike)}" if alike else ""
    raise ConfigError(f"No document has the key or id {asked!r}{where}.{hint}")


def _forgotten(
    connection: Connection,
    asked: str,
    wanted: uuid.UUID | None,
    keys: list[str],
    source: str | None,
) -> list[Subject]:
    """What was forgotten, by the hash of its key: no more of it is kept."""
    by_hash = {key_hash(key): key for key in keys}
    rows = connection.execute(
        """SELECT document_id, key_hash, source FROM forgotten
           WHERE (document_id = %(id)s OR key_hash = ANY(%(hashes)s))
             AND (source = %(source)s OR %(source)s::text IS NULL) ORDER BY 3, 2""",
        {"id": wanted, "hashes": list(by_hash), "source": source},
    )
    found = ((document, by_hash.get(hashed), name) for document, hashed, name in rows)
    return [
        Subject(document, key or "a key that was forgotten too", name)
        for document, key, name in found
        if key is None or asked in (key, f"{name}/{key}")
    ]


def _alike(connection: Connection, asked: str, source: str | None) -> list[str]:
    """Up to five documents, as SOURCE/KEY: those that have the last part of the key in theirs, else like keys."""
    name = asked.rsplit("/", 1)[-1]
    for part in (name, "") if name else ():
        known = connection.execute(
            """SELECT s.name, d.source_key FROM documents d JOIN sources s ON s.id = d.source_uuid
               WHERE strpos(lower(d.source_key), lower(%(part)s)) > 0
                 AND (s.name = %(source)s OR %(source)s::text IS NULL)
               ORDER BY d.source_key, s.name LIMIT %(limit)s""",
            {"part": part, "source": source, "limit": SIMILAR_AMONG},
        ).fetchall()
        like = difflib.get_close_matches(asked, {key for _, key in known}, n=5, cutoff=0.6)
        if like or (part and known):
            found = [(owner, key) for owner, key in known if key in like] or known
            return [f"{owner}/{key}" for owner, key in found[:5]]
    return []


def _rows(connection: Connection, query: str, parameters: Mapping[str, Any]) -> list[Row]:
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(query, parameters).fetchall()  # pyright: ignore[reportArgumentType]


def _row(connection: Connection, query: str, parameters: Mapping[str, Any]) -> Row | None:
    found = _rows(connection, query, parameters)
    return found[0] if found else None


def entry_of(connection: Connection, document: uuid.UUID) -> Row | None:
    return _row(
        connection,
        """SELECT locator, change_token, size, content_hash, error, removed_hash, fetched_at, fetched_run
           FROM source_entries WHERE document_id = %(id)s""",
        {"id": document},
    )


def document_of(connection: Connection, document: uuid.UUID) -> Row | None:
    """The current row, with `valid_from`, since when this version holds."""
    return _row(
        connection,
        """SELECT *, coalesce(versioned_at, created_at) AS valid_from FROM documents WHERE id = %(id)s""",
        {"id": document},
    )


def chunks_of(connection: Connection, document: uuid.UUID, model: str) -> list[Row]:
    """In order, each with where its embedding under this model is kept, and the run that embedded it."""
    return _rows(
        connection,
        """SELECT c.id, c.position, c.page, coalesce(c.language, d.language) AS language, c.chunk_type, c.section_title,
             c.char_count, c.token_count, c.text_hash, c.embedding_status, c.embedding_error, f.path AS embedding_file,
             e.row_index AS embedding_row,
             f.run AS embedded_run
           FROM document_chunks c JOIN documents d ON d.id = c.document_id
           LEFT JOIN embeddings e ON e.model_fingerprint = %(model)s AND e.text_hash = c.text_hash
           LEFT JOIN embedding_files f ON f.id = e.file_id
           WHERE c.document_id = %(id)s ORDER BY c.position""",
        {"id": document, "model": model},
    )


def vectors_of(
    connection: Connection, document: uuid.UUID, collection: str, model: str
) -> list[Row]:
    """Of each chunk in a collection: rows that Milvus acknowledged, when, and the fingerprint it must have now."""
    return _rows(
        connection,
        f"""SELECT c.id, r.row_count, r.acknowledged_at, r.row_fingerprint AS acknowledged, {FINGERPRINT} AS wanted
            FROM document_chunks c JOIN documents d ON d.id = c.document_id JOIN sources s ON s.id = d.source_uuid
            LEFT JOIN vector_rows r ON r.collection = %(collection)s AND r.chunk_id = c.id
            WHERE c.document_id = %(id)s ORDER BY c.position""",
        {"id": document, "collection": collection, "model": model},
    )


def versions_of(connection: Connection, document: uuid.UUID) -> list[Row]:
    """Versions that ended, oldest first, without their texts."""
    return _rows(
        connection,
        """SELECT version, valid_from, valid_to, ended_by, title, language, char_count, chunk_count, raw_hash,
             processing_status, indexing_status, parsed_run, chunked_run, indexed_run, ended_run
           FROM document_versions WHERE document_id = %(id)s ORDER BY valid_to""",
        {"id": document},
    )


def version_at(connection: Connection, document: uuid.UUID, moment: datetime) -> Row | None:
    """The version that held at a moment and has ended since; None: there was none, or it is the current one."""
    return _row(
        connection,
        """SELECT * FROM document_versions
           WHERE document_id = %(id)s AND valid_to > %(at)s AND valid_from <= %(at)s ORDER BY valid_to LIMIT 1""",
        {"id": document, "at": moment},
    )


def forgotten_at(connection: Connection, document: uuid.UUID) -> datetime | None:
    row = connection.execute(
        "SELECT requested_at FROM forgotten WHERE document_id = %s", [document]
    ).fetchone()
    return row[0] if row else None
