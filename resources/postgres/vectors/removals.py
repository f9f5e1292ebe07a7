"""The rows that go with a source: counted before a person confirms its removal."""

from __future__ import annotations

from typing import NamedTuple

from resources.postgres.connection import Connection
from resources.postgres.queries import fetch_one
from resources.postgres.registry.sources import SourceRow
from resources.postgres.vectors.claims import claimed_rows
from resources.postgres.vectors.collections import collections


class RowsOfSource(NamedTuple):
    """`embeddings`: rows of Parquet with the text of a chunk of this source alone. `sets`: its retrieval sets."""

    documents: int
    chunks: int
    embeddings: int
    sets: int


def count_rows_of_source(connection: Connection, source: SourceRow) -> RowsOfSource:
    return fetch_one(
        connection,
        RowsOfSource,
        """SELECT (SELECT count(*) FROM documents WHERE source_uuid = %(source)s) AS documents,
             (SELECT count(*) FROM document_chunks WHERE source_uuid = %(source)s) AS chunks,
             (SELECT count(*) FROM embeddings e
              WHERE e.text_hash IN (SELECT text_hash FROM document_chunks WHERE source_uuid = %(source)s)
              AND NOT EXISTS (SELECT FROM document_chunks c
                              WHERE c.text_hash = e.text_hash AND c.source_uuid <> %(source)s)) AS embeddings,
             (SELECT count(*) FROM retrieval_sets WHERE source_id = %(source)s) AS sets""",
        {"source": source.id},
    )


def count_vectors_of_source(connection: Connection, source: SourceRow) -> dict[str, int]:
    """Return kind -> acknowledged rows of the source in the serving collections."""
    return {
        collection.kind: claimed_rows(connection, collection, source.id)
        for collection in collections(connection, states=("serving",))
    }
