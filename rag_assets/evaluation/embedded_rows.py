"""The vectors of a collection, read from Parquet: the exact reference for its index."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from itertools import groupby

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from resources.embedding_files import EmbeddingReader, dense_rows
from resources.errors import StoreUnavailable
from resources.files import FileStore
from resources.postgres.connection import Connection
from resources.postgres.vectors.collections import Collection
from resources.postgres.vectors.embeddings import embedded_chunks

#: Vectors per read: 8 MB at 1,024 numbers each.
ROWS = 2000


def embedded_rows(
    connection: Connection, files: FileStore, collection: Collection, source_id: uuid.UUID
) -> Iterator[tuple[list[str], pa.Table]]:
    """Yield batches of (chunk ids, their rows in Parquet): all chunks of a source that the collection acknowledged.

    Raises StoreUnavailable if an embedding file is missing or damaged.
    """
    reader = EmbeddingReader(files, collection.kind)
    for batch in embedded_chunks(connection, collection, source_id, ROWS):
        for path, group in groupby(batch, key=lambda row: row[1]):
            rows = list(group)
            try:
                table = reader.read(path, [row for _, _, row in rows])
            except (OSError, pa.ArrowException) as error:
                raise StoreUnavailable(
                    f"An embedding file is missing or damaged: {error}. Embed its texts again: rag rebuild parquet"
                ) from error
            yield [chunk for chunk, _, _ in rows], table


def unit_vectors(table: pa.Table) -> NDArray[np.float32]:
    """The dense vectors with norm 1, as in Milvus; float16 files and users' embedders are slightly off."""
    rows = dense_rows(table)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
