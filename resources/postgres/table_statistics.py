"""Statistics of the tables that a first load fills, for the plans of its statements."""

from __future__ import annotations

from collections.abc import Mapping
from typing import LiteralString

from resources.postgres.connection import Connection
from resources.postgres.queries import scalars

#: Table -> its columns that statements join and filter by, "" for all of them.
_ANALYZED: Mapping[LiteralString, LiteralString] = {
    "documents": " (id, source_uuid, indexing_status, indexed_as)",
    "document_chunks": " (id, document_id, text_hash, source_uuid)",
    "embeddings": "",
    "vector_rows": "",
}


def analyze_if_unknown(connection: Connection) -> None:
    """Analyze the tables whose size PostgreSQL does not know yet.

    In a first load it knows no numbers, and would scan the chunks once a document or once a text. Later it analyzes
    automatically, in time for every table but one that has doubled since.
    """
    unknown = scalars(
        connection,
        """SELECT relname FROM pg_class WHERE oid = ANY(%s::regclass[])
             AND (reltuples < 0 OR pg_relation_size(oid) > 2 * relpages * current_setting('block_size')::bigint)""",
        [list(_ANALYZED)],
    )
    for table, columns in _ANALYZED.items():
        if table in unknown:
            connection.execute(f"ANALYZE {table}{columns}")
