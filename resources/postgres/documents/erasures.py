"""Table `forgotten`: documents that were removed on purpose, and what is looked for to prove it.

What was asked for stands here in the transaction that deletes the document, so that a crash can lose neither half.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from psycopg.types.json import Jsonb

from rag_assets.pipeline.identity import document_id
from resources.postgres.bulk_copy import copy_rows
from resources.postgres.connection import Connection
from resources.postgres.evaluation.retrieval_sets import forget_judgements


@dataclass(frozen=True, slots=True)
class Erasure:
    """One request. `chunks`, `texts`, `raw`: the ids and hashes that no place may hold any more (see `shared_*`)."""

    source: str
    key_hash: str
    document: uuid.UUID
    source_id: uuid.UUID
    chunks: list[uuid.UUID]
    texts: list[str]
    raw: list[str]
    receipt: Mapping[str, Any] | None


def key_hash(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def find_request(connection: Connection, source: str, hashed: str) -> Erasure | None:
    row = connection.execute(
        """SELECT source, key_hash, document_id, source_uuid, chunk_ids, text_hashes, raw_hashes, receipt
           FROM forgotten WHERE source = %s AND key_hash = %s""",
        [source, hashed],
    ).fetchone()
    return Erasure(*row) if row else None


def request_of_document(connection: Connection, document: uuid.UUID) -> Erasure | None:
    row = connection.execute(
        "SELECT source, key_hash FROM forgotten WHERE document_id = %s", [document]
    ).fetchone()
    return find_request(connection, *row) if row else None


def unfinished_requests(connection: Connection, source: str) -> list[str]:
    """Key hashes of the requests of a source that have no receipt yet."""
    rows = connection.execute(
        "SELECT key_hash FROM forgotten WHERE source = %s AND receipt IS NULL ORDER BY requested_at",
        [source],
    )
    return [row[0] for row in rows]


def forgotten_hashes(connection: Connection, source: str) -> set[str]:
    """SHA-256 of each key of the source that was forgotten."""
    rows = connection.execute("SELECT key_hash FROM forgotten WHERE source = %s", [source])
    return {row[0] for row in rows}


def request(
    connection: Connection, source: str, source_id: uuid.UUID, key: str, document: uuid.UUID
) -> None:
    """Records the request and deletes the document and its entry; the triggers order Milvus to follow, and append
    the version that ended, which `forget` removes with the others."""
    connection.execute(
        """INSERT INTO forgotten (source, key_hash, document_id, source_uuid, chunk_ids, text_hashes, raw_hashes)
           SELECT %(source)s, %(hash)s, %(document)s, %(source_id)s,
             coalesce((SELECT array_agg(id) FROM document_chunks WHERE document_id = %(document)s), '{}'),
             coalesce((SELECT array_agg(DISTINCT text_hash::text) FROM (
               SELECT text_hash FROM document_chunks WHERE document_id = %(document)s
               UNION ALL SELECT text_hash FROM former_texts WHERE document_id = %(document)s) AS t), '{}'),
             coalesce((SELECT array_agg(DISTINCT hash) FROM (
               SELECT raw_hash::text AS hash FROM documents WHERE id = %(document)s
               UNION ALL SELECT content_hash::text FROM former_raw WHERE document_id = %(document)s
               UNION ALL SELECT raw_hash::text FROM document_versions WHERE document_id = %(document)s
               UNION ALL SELECT content_hash::text FROM source_entries
                 WHERE source_id = %(source_id)s AND key = %(key)s) AS r WHERE hash IS NOT NULL), '{}')
           ON CONFLICT (source, key_hash) DO UPDATE SET document_id = excluded.document_id,
             source_uuid = excluded.source_uuid, requested_at = now(), receipt = NULL,
             chunk_ids = ARRAY(SELECT DISTINCT id FROM unnest(forgotten.chunk_ids || excluded.chunk_ids) id),
             text_hashes = ARRAY(SELECT DISTINCT t FROM unnest(forgotten.text_hashes || excluded.text_hashes) t),
             raw_hashes = ARRAY(SELECT DISTINCT r FROM unnest(forgotten.raw_hashes || excluded.raw_hashes) r)""",
        {
            "source": source,
            "hash": key_hash(key),
            "document": document,
            "source_id": source_id,
            "key": key,
        },
    )
    connection.execute(
        "DELETE FROM source_entries WHERE source_id = %s AND key = %s", [source_id, key]
    )
    # What a check last said may name it; the next check says it anew.
    connection.execute(
        "DELETE FROM check_results WHERE source_id = %s AND strpos(sentence, %s) > 0",
        [source_id, key],
    )
    forget_judgements(connection, source_id, key)
    connection.execute("DELETE FROM documents WHERE id = %s", [document])
    connection.execute("DELETE FROM former_texts WHERE document_id = %s", [document])
    connection.execute("DELETE FROM former_raw WHERE document_id = %s", [document])


def find_document(connection: Connection, source_id: uuid.UUID, key: str) -> uuid.UUID | None:
    """The document of a key that anything is held of: a row, an entry, or what it had before it was deleted."""
    document = document_id(source_id, key)
    row = connection.execute(
        """SELECT EXISTS (SELECT FROM documents WHERE id = %(id)s)
             OR EXISTS (SELECT FROM source_entries WHERE document_id = %(id)s)
             OR EXISTS (SELECT FROM former_texts WHERE document_id = %(id)s)
             OR EXISTS (SELECT FROM former_raw WHERE document_id = %(id)s)
             OR EXISTS (SELECT FROM document_versions WHERE document_id = %(id)s)""",
        {"id": document},
    ).fetchone()
    return document if row is not None and row[0] else None


def place_of_document(connection: Connection, document: uuid.UUID) -> tuple[str, str] | None:
    """(source, key) of a document that is there, is listed, or was there; None: that too of a removed source."""
    return connection.execute(
        """SELECT s.name, key FROM (
             SELECT source_uuid, source_key FROM documents WHERE id = %(id)s
             UNION ALL SELECT source_id, key FROM source_entries WHERE document_id = %(id)s
             UNION ALL SELECT source_uuid, source_key FROM document_versions WHERE document_id = %(id)s
           ) AS known (source, key) JOIN sources s ON s.id = known.source LIMIT 1""",
        {"id": document},
    ).fetchone()  # pyright: ignore[reportReturnType]


def keys_like(connection: Connection, source_id: uuid.UUID, key: str) -> list[str]:
    """Keys of the source that hold the last part of `key`, for a message."""
    part = key.rsplit("/", 1)[-1][:200]
    rows = connection.execute(
        """SELECT key FROM source_entries WHERE source_id = %s AND strpos(lower(key), lower(%s)) > 0
           ORDER BY key LIMIT 5""",
        [source_id, part.rsplit(".", 1)[0]],
    )
    return [row[0] for row in rows]


def allow(connection: Connection, source: str, hashed: str) -> None:
    """Takes the request back: the next sync reads the key again where the source still has it."""
    connection.execute(
        "DELETE FROM forgotten WHERE source = %s AND key_hash = %s", [source, hashed]
    )


def record_receipt(connection: Connection, item: Erasure, receipt: Mapping[str, Any]) -> None:
    connection.execute(
        "UPDATE forgotten SET receipt = %s WHERE source = %s AND key_hash = %s",
        [Jsonb(receipt), item.source, item.key_hash],
    )


def texts_of_others(connection: Connection, texts: Sequence[str]) -> set[str]:
    """Those of `texts` that a chunk of another document has: their embeddings stay."""
    rows = connection.execute(
        "SELECT DISTINCT text_hash::text FROM document_chunks WHERE text_hash = ANY(%s)",
        [list(texts)],
    )
    return {row[0] for row in rows}


def unused_raw(connection: Connection, hashes: Iterable[str]) -> set[str]:
    """Those of `hashes` whose bytes no entry and no document needs."""
    with connection.transaction():
        copy_rows(connection, "raw_files", {"hash": "text"}, ((each,) for each in hashes))
        rows = connection.execute(
            """SELECT hash FROM raw_files f
               WHERE NOT EXISTS (SELECT FROM source_entries e WHERE e.content_hash = f.hash)
                 AND NOT EXISTS (SELECT FROM documents d WHERE d.raw_hash = f.hash)"""
        ).fetchall()
    return {row[0] for row in rows}


def left_in_postgres(connection: Connection, item: Erasure) -> dict[str, int]:
    """table -> rows that still speak of the document."""
    row = connection.execute(
        """SELECT (SELECT count(*) FROM documents WHERE id = %(document)s),
             (SELECT count(*) FROM document_chunks WHERE document_id = %(document)s OR id = ANY(%(chunks)s)),
             (SELECT count(*) FROM source_entries WHERE document_id = %(document)s),
             (SELECT count(*) FROM former_texts WHERE document_id = %(document)s),
             (SELECT count(*) FROM former_raw WHERE document_id = %(document)s),
             (SELECT count(*) FROM document_signatures WHERE document_id = %(document)s),
             (SELECT count(*) FROM retrieval_judgements j JOIN retrieval_sets s ON s.id = j.set_id
              WHERE s.source_id = %(source)s
                AND encode(sha256(convert_to(j.document_key, 'UTF8')), 'hex') = %(key_hash)s),
             (SELECT count(*) FROM vector_rows WHERE chunk_id = ANY(%(chunks)s)),
             (SELECT count(*) FROM vector_deletions WHERE chunk_id = ANY(%(chunks)s))""",
        {
            "document": item.document,
            "chunks": item.chunks,
            "source": item.source_id,
            "key_hash": item.key_hash,
        },
    ).fetchone()
    assert row is not None
    tables = (
        "documents",
        "document_chunks",
        "source_entries",
        "former_texts",
        "former_raw",
        "document_signatures",
        "retrieval_judgements",
        "vector_rows",
        "vector_deletions",
    )
    return dict(zip(tables, row))


@dataclass(frozen=True, slots=True)
class RecordedFile:
    """A recorded embedding file, and which of its rows are the embedding of which text."""

    id: uuid.UUID
    path: str
    model: str
    kinds: list[str]
    rows: dict[str, int]


def recorded_file(connection: Connection, path: str) -> RecordedFile | None:
    row = connection.execute(
        "SELECT id, path, model_fingerprint, kinds FROM embedding_files WHERE path = %s", [path]
    ).fetchone()
    if row is None:
        return None
    rows = connection.execute(
        "SELECT text_hash::text, row_index FROM embeddings WHERE file_id = %s", [row[0]]
    ).fetchall()
    file_id, found, model, kinds = row
    return RecordedFile(file_id, found, model, kinds, dict(rows))


def drop_texts(connection: Connection, file_id: uuid.UUID, texts: Sequence[str]) -> None:
    """Forgets where the embeddings of texts are in a file that is about to be replaced by one without them."""
    connection.execute(
        "DELETE FROM embeddings WHERE file_id = %s AND text_hash = ANY(%s)", [file_id, list(texts)]
    )
