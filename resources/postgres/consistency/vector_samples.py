"""Random samples of the chunks whose rows Milvus acknowledged, with the places of their embeddings."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any, NamedTuple

from resources.postgres.connection import Connection
from resources.postgres.queries import fetch_all
from resources.postgres.vectors.collections import Collection
from resources.postgres.vectors.embeddings import (
    EMBEDDING_FILE_COLUMNS,
    EmbeddingFile,
    embedding_file,
)


@dataclass(frozen=True, slots=True)
class SampledChunk:
    """An acknowledged chunk, and the place of its embedding. `file` is None if it has no embedding."""

    id: uuid.UUID
    rows: int
    row_index: int
    file: EmbeddingFile | None


class Sample(NamedTuple):
    """`claimed`: the number of acknowledged rows that the chunks were drawn from."""

    claimed: int
    chunks: list[SampledChunk]


def sample_chunks(
    connection: Connection,
    collection: Collection,
    source_id: uuid.UUID,
    limit: int | None,
    span: tuple[int, int] = (0, 16**8),
) -> Sample:
    """Draw random chunks of a source, with `limit` acknowledged rows in all (at least one chunk).

    `span`: only chunks whose first 32 bits are in this range.
    """
    rows = fetch_all(
        connection,
        _with_claimed,
        f"""WITH acknowledged AS (
             SELECT c.id, c.text_hash, r.row_count, random() AS place FROM documents d
             JOIN document_chunks c ON c.document_id = d.id
             JOIN vector_rows r ON r.collection = %(collection)s AND r.chunk_id = c.id AND r.row_count > 0
             WHERE d.source_uuid = %(source)s AND c.id BETWEEN %(lower)s AND %(upper)s),
           counted AS (
             SELECT *, sum(row_count) OVER (ORDER BY place, id) AS upto, sum(row_count) OVER () AS total
             FROM acknowledged)
           SELECT h.total::bigint AS claimed, h.id AS chunk_id, h.row_count AS rows, e.row_index,
             {EMBEDDING_FILE_COLUMNS}
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
    )
    claimed = next((claimed for claimed, _ in rows), 0)
    return Sample(claimed, [chunk for _, chunk in rows])


def _with_claimed(
    *,
    claimed: int,
    chunk_id: uuid.UUID,
    rows: int,
    row_index: int,
    **file: Any,
) -> tuple[int, SampledChunk]:
    recorded = None if file["id"] is None else embedding_file(**file)
    return claimed, SampledChunk(chunk_id, rows, row_index, recorded)
