"""Rows for tests, written by plain SQL: sources, documents and chunks without any stage."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from rag_assets.pipeline.identity import chunk_id, document_id, text_hash
from resources.milvus.collections import ALIASES
from resources.postgres.connection import Connection
from resources.postgres.queries import scalars
from resources.postgres.registry.sources import SourceRow, add_source
from resources.postgres.vectors.collections import Collection

MODEL = "0123456789ab"


def new_source(connection: Connection, name: str = "docs") -> SourceRow:
    return add_source(connection, name, "folder", {"path": "/"}, None)


def new_document(
    connection: Connection,
    source: SourceRow,
    key: str,
    texts: Sequence[str] = (),
    *,
    content: str | None = None,
    language: str = "en",
) -> uuid.UUID:
    """Insert a document that is marked as indexed, and its chunks. Returns its id."""
    document = document_id(source.id, key)
    content = "\n\n".join(texts) if content is None else content
    connection.execute(
        """INSERT INTO documents (id, title, content, source_type, source_id, language, char_count, chunk_count,
             processing_status, indexing_status, source_uuid, source_key)
           VALUES (%s, '', %s, 'folder', %s, %s, %s, %s, 'completed', 'completed', %s, %s)""",
        [document, content, f"{source.name}/{key}", language, len(content), len(texts), source.id, key],
    )  # fmt: skip
    for position, text in enumerate(texts):
        connection.execute(
            """INSERT INTO document_chunks (id, document_id, content, position, char_count, source_uuid, text_hash,
                 embedding_status) VALUES (%s, %s, %s, %s, %s, %s, %s, 'completed')""",
            [chunk_id(document, text_hash(text), position), document, text, position, len(text), source.id,
             text_hash(text)],
        )  # fmt: skip
    return document


def chunks_of(connection: Connection, document: uuid.UUID) -> list[uuid.UUID]:
    query = "SELECT id FROM document_chunks WHERE document_id = %s ORDER BY position"
    return scalars(connection, query, [document])


def collection_of(kind: str, identity: str = "1:", model: str = MODEL) -> Collection:
    alias = ALIASES[kind]  # pyright: ignore[reportArgumentType]
    return Collection(f"{alias}__{model}", alias, kind, model, 8, identity, "building")  # pyright: ignore[reportArgumentType]


def new_acknowledgement(
    connection: Connection, collection: str, chunk: uuid.UUID, fingerprint: str = "f" * 32, rows: int = 1
) -> None:  # fmt: skip
    """Insert an acknowledgement that is a minute old: older than any scan of a test."""
    connection.execute(
        """INSERT INTO vector_rows (collection, chunk_id, row_fingerprint, row_count, epoch, acknowledged_at)
           VALUES (%s, %s, %s, %s, 1, now() - interval '1 minute')""",
        [collection, chunk, fingerprint, rows],
    )
