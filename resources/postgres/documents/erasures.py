"""Table `forgotten`: documents that were erased on request, and the ids and hashes that prove it.

The transaction that deletes the document also records the request, so that a crash can lose neither half.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, LiteralString, NamedTuple

from psycopg.types.json import Jsonb

from rag_assets.pipeline.identity import document_id
from resources.postgres.bulk_copy import copy_rows
from resources.postgres.connection import Connection
from resources.postgres.queries import fetch_first, fetch_one, scalar, scalars


@dataclass(frozen=True, slots=True)
class Erasure:
    """One request. `chunks`, `texts`, `raw`: ids and hashes that no store may contain any more, except texts and raw
    files that other documents share (`find_shared_texts`, `find_unused_raw`)."""

    source: str
    key_hash: str
    document: uuid.UUID
    source_id: uuid.UUID
    chunks: list[uuid.UUID]
    texts: list[str]
    raw: list[str]
    receipt: Mapping[str, Any] | None


class DocumentLocation(NamedTuple):
    source: str
    key: str


def key_hash(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


_ERASURE: LiteralString = """SELECT source, key_hash, document_id AS document, source_uuid AS source_id,
    chunk_ids AS chunks, text_hashes AS texts, raw_hashes AS raw, receipt FROM forgotten"""


def find_erasure(connection: Connection, source: str, hashed_key: str) -> Erasure | None:
    query = f"{_ERASURE} WHERE source = %s AND key_hash = %s"
    return fetch_first(connection, Erasure, query, [source, hashed_key])


def find_erasure_of_document(connection: Connection, document: uuid.UUID) -> Erasure | None:
    return fetch_first(connection, Erasure, f"{_ERASURE} WHERE document_id = %s", [document])


def list_unfinished_erasures(connection: Connection, source: str) -> list[str]:
    """Return the key hashes of a source's requests that have no receipt yet."""
    return scalars(
        connection,
        "SELECT key_hash FROM forgotten WHERE source = %s AND receipt IS NULL ORDER BY requested_at",
        [source],
    )


def list_erased_key_hashes(connection: Connection, source: str) -> set[str]:
    """Return the SHA-256 of each erased key of the source."""
    return set(scalars(connection, "SELECT key_hash FROM forgotten WHERE source = %s", [source]))


def request_erasure(
    connection: Connection, source: str, source_id: uuid.UUID, key: str, document: uuid.UUID
) -> None:
    """Record the request, and delete the document and its entry.

    The triggers queue the deletion of its vectors, and append the version that ended; `rag forget` then deletes all
    versions.
    """
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
    connection.execute(
        "DELETE FROM left_documents WHERE source_id = %s AND key = %s", [source_id, key]
    )
    # The last result of a check may name the document; the next check writes a new one.
    connection.execute(
        "DELETE FROM check_results WHERE source_id = %s AND strpos(sentence, %s) > 0",
        [source_id, key],
    )
    _delete_judgements(connection, source_id, key)
    connection.execute("DELETE FROM documents WHERE id = %s", [document])
    connection.execute("DELETE FROM former_texts WHERE document_id = %s", [document])
    connection.execute("DELETE FROM former_raw WHERE document_id = %s", [document])


def _delete_judgements(connection: Connection, source_id: uuid.UUID, key: str) -> None:
    """Delete a document's judgements, and queries without any other: a known item's question quotes its document."""
    connection.execute(
        """WITH gone AS (
             DELETE FROM retrieval_judgements j USING retrieval_sets s
             WHERE s.id = j.set_id AND s.source_id = %s AND j.document_key = %s
             RETURNING j.set_id, j.query_id, j.position)
           DELETE FROM retrieval_queries q USING gone g WHERE (q.set_id, q.query_id) = (g.set_id, g.query_id)
             AND NOT EXISTS (SELECT FROM retrieval_judgements j
               WHERE (j.set_id, j.query_id) = (q.set_id, q.query_id)
                 AND (j.set_id, j.query_id, j.position) NOT IN (SELECT set_id, query_id, position FROM gone))""",
        [source_id, key],
    )


def find_document_id(connection: Connection, source_id: uuid.UUID, key: str) -> uuid.UUID | None:
    """Return the document of a key if anything of it is stored: a row, an entry, or data from before its deletion."""
    document = document_id(source_id, key)
    is_stored = scalar(
        connection,
        """SELECT EXISTS (SELECT FROM documents WHERE id = %(id)s)
             OR EXISTS (SELECT FROM source_entries WHERE document_id = %(id)s)
             OR EXISTS (SELECT FROM left_documents WHERE document_id = %(id)s)
             OR EXISTS (SELECT FROM former_texts WHERE document_id = %(id)s)
             OR EXISTS (SELECT FROM former_raw WHERE document_id = %(id)s)
             OR EXISTS (SELECT FROM document_versions WHERE document_id = %(id)s)""",
        {"id": document},
    )
    return document if is_stored else None


def locate_document(connection: Connection, document: uuid.UUID) -> DocumentLocation | None:
    """Return the source and key of a document that exists, is listed, or existed. None also for a removed source."""
    return fetch_first(
        connection,
        DocumentLocation,
        """SELECT s.name AS source, key FROM (
             SELECT source_uuid, source_key FROM documents WHERE id = %(id)s
             UNION ALL SELECT source_id, key FROM source_entries WHERE document_id = %(id)s
             UNION ALL SELECT source_uuid, source_key FROM document_versions WHERE document_id = %(id)s
           ) AS known (source, key) JOIN sources s ON s.id = known.source LIMIT 1""",
        {"id": document},
    )


def find_similar_keys(connection: Connection, source_id: uuid.UUID, key: str) -> list[str]:
    """Return up to five keys of the source that contain the last part of `key`, for a message."""
    part = key.rsplit("/", 1)[-1][:200]
    return scalars(
        connection,
        """SELECT key FROM source_entries WHERE source_id = %s AND strpos(lower(key), lower(%s)) > 0
           ORDER BY key LIMIT 5""",
        [source_id, part.rsplit(".", 1)[0]],
    )


def withdraw_erasure(connection: Connection, source: str, hashed_key: str) -> None:
    """Delete the request: the next sync reads the key again if the source still has it."""
    connection.execute(
        "DELETE FROM forgotten WHERE source = %s AND key_hash = %s", [source, hashed_key]
    )


def record_receipt(connection: Connection, item: Erasure, receipt: Mapping[str, Any]) -> None:
    connection.execute(
        "UPDATE forgotten SET receipt = %s WHERE source = %s AND key_hash = %s",
        [Jsonb(receipt), item.source, item.key_hash],
    )


def find_shared_texts(connection: Connection, texts: Sequence[str]) -> set[str]:
    """Return those of `texts` that a chunk of another document has: their embeddings stay."""
    return set(
        scalars(
            connection,
            "SELECT DISTINCT text_hash::text FROM document_chunks WHERE text_hash = ANY(%s)",
            [list(texts)],
        )
    )


def find_unused_raw(connection: Connection, hashes: Iterable[str]) -> set[str]:
    """Return those of `hashes` whose bytes no entry and no document needs."""
    with connection.transaction():
        copy_rows(connection, "raw_files", {"hash": "text"}, ((digest,) for digest in hashes))
        return set(
            scalars(
                connection,
                """SELECT hash FROM raw_files f
                   WHERE NOT EXISTS (SELECT FROM source_entries e WHERE e.content_hash = f.hash)
                     AND NOT EXISTS (SELECT FROM documents d WHERE d.raw_hash = f.hash)""",
            )
        )


def count_remaining_rows(connection: Connection, item: Erasure) -> dict[str, int]:
    """Return table -> rows that still concern the document."""
    return fetch_one(
        connection,
        dict[str, int],
        """SELECT
             (SELECT count(*) FROM documents WHERE id = %(document)s) AS documents,
             (SELECT count(*) FROM document_chunks WHERE document_id = %(document)s OR id = ANY(%(chunks)s))
               AS document_chunks,
             (SELECT count(*) FROM source_entries WHERE document_id = %(document)s) AS source_entries,
             (SELECT count(*) FROM former_texts WHERE document_id = %(document)s) AS former_texts,
             (SELECT count(*) FROM former_raw WHERE document_id = %(document)s) AS former_raw,
             (SELECT count(*) FROM document_signatures WHERE document_id = %(document)s) AS document_signatures,
             (SELECT count(*) FROM retrieval_judgements j JOIN retrieval_sets s ON s.id = j.set_id
              WHERE s.source_id = %(source)s
                AND encode(sha256(convert_to(j.document_key, 'UTF8')), 'hex') = %(key_hash)s) AS retrieval_judgements,
             (SELECT count(*) FROM vector_rows WHERE chunk_id = ANY(%(chunks)s)) AS vector_rows,
             (SELECT count(*) FROM vector_deletions WHERE chunk_id = ANY(%(chunks)s)) AS vector_deletions""",
        {
            "document": item.document,
            "chunks": item.chunks,
            "source": item.source_id,
            "key_hash": item.key_hash,
        },
    )


def vacuum_erased_tables(connection: Connection) -> None:
    """Remove dead rows from the tables' pages, and values from the columns' statistics."""
    for table in _ERASED_TABLES:
        connection.execute(f"VACUUM (ANALYZE) {table}")


_ERASED_TABLES: tuple[LiteralString, ...] = (
    "documents",
    "document_chunks",
    "source_entries",
    "document_versions",
    "retrieval_queries",
    "retrieval_judgements",
)


@dataclass(frozen=True, slots=True)
class RecordedFile:
    """A recorded embedding file. `rows`: text hash -> row that is its embedding."""

    id: uuid.UUID
    path: str
    model: str
    kinds: list[str]
    rows: dict[str, int]


def find_recorded_file(connection: Connection, path: str) -> RecordedFile | None:
    columns = fetch_first(
        connection,
        dict[str, Any],
        "SELECT id, path, model_fingerprint AS model, kinds FROM embedding_files WHERE path = %s",
        [path],
    )
    if columns is None:
        return None
    rows = connection.execute(
        "SELECT text_hash::text, row_index FROM embeddings WHERE file_id = %s", [columns["id"]]
    ).fetchall()
    return RecordedFile(**columns, rows=dict(rows))


def delete_embeddings(connection: Connection, file_id: uuid.UUID, texts: Sequence[str]) -> None:
    """Delete the records of texts' embeddings in a file that is about to be replaced by one without them."""
    connection.execute(
        "DELETE FROM embeddings WHERE file_id = %s AND text_hash = ANY(%s)", [file_id, list(texts)]
    )
