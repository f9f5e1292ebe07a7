"""How much there is, by PostgreSQL's word (an asset check compares it with what Milvus holds)."""

from __future__ import annotations

from resources.postgres.connection import Connection


def count_everything(connection: Connection) -> dict[str, int]:
    """sources, documents, chunks, embeddings, and the acknowledged rows of the serving collections. Zeros before the
    first migration."""
    names = ("sources", "documents", "chunks", "embeddings", "dense", "sparse", "multi")
    if connection.execute("SELECT to_regclass('vector_rows')").fetchone() == (None,):
        return dict.fromkeys(names, 0)
    row = connection.execute(
        """SELECT (SELECT count(*) FROM sources), (SELECT count(*) FROM documents),
             (SELECT coalesce(sum(chunk_count), 0)::bigint FROM documents), (SELECT count(*) FROM embeddings)"""
    ).fetchone()
    assert row is not None
    kinds = dict(
        connection.execute(
            """SELECT v.kind, count(r.chunk_id) FROM vector_collections v
               LEFT JOIN vector_rows r ON r.collection = v.name AND r.row_count > 0
               WHERE v.state = 'serving' GROUP BY 1"""
        ).fetchall()
    )
    return dict(zip(names, (*row, *(kinds.get(kind, 0) for kind in names[4:]))))
