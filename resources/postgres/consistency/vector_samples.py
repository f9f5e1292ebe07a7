"""Chunks whose rows Milvus acknowledged, a random sample of them, and where their embeddings are kept."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from resources.files import WrittenFile
from resources.postgres.connection import Connection
from resources.postgres.vectors.embeddings import EmbeddingFile
from resources.postgres.vectors.vectors import Collection


@dataclass(frozen=True, slots=True)
class SampledChunk:
    """An acknowledged chunk, and where its embedding is kept; `file` None: it has none."""

    id: uuid.UUID
    rows: int
    row_index: int
    file: EmbeddingFile | None


def sample_chunks(
    connection: Connection,
    collection: Collection,
    source_id: uuid.UUID,
    limit: int | None,
    span: tuple[int, int] = (0, 16**8),
) -> tuple[int, list[SampledChunk]]:
    """How many rows of a source were acknowledged, and chunks of so many of them, chosen at random (at least one).

    `span`: only chunks whose first 32 bits are in this range.
    """
    rows = connection.execute(
        """WITH held AS (
             SELECT c.id, c.text_hash, r.row_count, random() AS place FROM documents d
             JOIN document_chunks c ON c.document_id = d.id
             JOIN vector_rows r ON r.collection = %(collection)s AND r.chunk_id = c.id AND r.row_count > 0
             WHERE d.source_uuid = %(source)s AND c.id BETWEEN %(lower)s AND %(upper)s),
           counted AS (
             SELECT *, sum(row_count) OVER (ORDER BY place, id) AS upto, sum(row_count) OVER () AS total FROM held)
           SELECT h.total::bigint, h.id, h.row_count, e.row_index, f.id, f.path, f.byte_count, f.checksum,
             f.row_count, f.kinds
           FROM counted h
           LEFT JOIN embeddings e ON e.model_fingerprint = %(model)s AND e.text_hash = h.text_hash
             AND %(kind)s = ANY(e.kinds)
           LEFT JOIN embedding_files f ON f.id = e.file_id
           WHERE %(limit)s::bigint IS NULL OR h.upto <= %(limit)s OR h.upto = h.row_count""",
        {
            "collection": collection.name,
            "model": collection.model,
            "kind": collection.kind,
            "source": source_id,
            "limit": limit,
            "lower": uuid.UUID(int=span[0] << 96),
            "upper": uuid.UUID(int=(span[1] << 96) - 1),
        },
    ).fetchall()
    chunks = [
        SampledChunk(
            chunk,
            count,
            index,
            None
            if file is None
            else EmbeddingFile(file, WrittenFile(path, size, checksum), rows, tuple(kinds)),
        )
        for _, chunk, count, index, file, path, size, checksum, rows, kinds in rows
    ]
    return (rows[0][0] if rows else 0), chunks
