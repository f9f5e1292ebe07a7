"""The sizes of the tables according to PostgreSQL. Asset checks compare them with Milvus."""

from __future__ import annotations

from resources.postgres.connection import Connection
from resources.postgres.queries import fetch_one, scalar
from resources.postgres.schema import table_exists


def count_everything(connection: Connection) -> dict[str, int]:
    """Count sources, documents, chunks, embeddings, acknowledged rows of the serving collections, and near-duplicates.

    All are 0 before the migration that makes their tables.
    """
    tables, kinds = ("sources", "documents", "chunks", "embeddings"), ("dense", "sparse", "multi")
    if not table_exists(connection, "vector_rows"):
        return dict.fromkeys((*tables, *kinds, "near_duplicates"), 0)
    counts = fetch_one(
        connection,
        dict[str, int],
        """SELECT (SELECT count(*) FROM sources) AS sources, (SELECT count(*) FROM documents) AS documents,
             (SELECT coalesce(sum(chunk_count), 0)::bigint FROM documents) AS chunks,
             (SELECT count(*) FROM embeddings) AS embeddings""",
    )
    rows = dict(
        connection.execute(
            """SELECT v.kind, count(r.chunk_id) FROM vector_collections v
               LEFT JOIN vector_rows r ON r.collection = v.name AND r.row_count > 0
               WHERE v.state = 'serving' GROUP BY 1"""
        ).fetchall()
    )
    near_duplicates = (
        scalar(connection, "SELECT count(*) FROM near_duplicates")
        if table_exists(connection, "near_duplicates")
        else 0
    )
    return {
        **counts,
        **{kind: rows.get(kind, 0) for kind in kinds},
        "near_duplicates": near_duplicates,
    }
