"""Tables `document_signatures`, `signature_bands` and `gone_signatures`: which documents are near-duplicates.

A document is marked with the first that came before it and is similar, so a new one changes no other one's mark. All
writers take turns at this (an advisory lock of the transaction): two that do not see each other would miss a pair.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any, LiteralString, NamedTuple

from rag_assets.pipeline.near_duplicates import ALGORITHM, SIMILAR
from resources.postgres.bulk_copy import copy_rows
from resources.postgres.connection import Connection, Writer
from resources.postgres.documents.documents import BATCH_BYTES, DOCUMENT_BYTES
from resources.postgres.registry.sources import SourceRow
from resources.postgres.scope import SyncScope, in_scope
from resources.postgres.work_table import fill_work_table

#: Documents of a band that one is compared with, the first ones: of 100,000 copies of a form letter each is compared
#: with 16 to 256, not with all before it. A pair that shares only fuller bands is missed.
COMPARED = 16
#: Documents marked in one transaction.
BATCH = 512

#: Whatever source they were of.
LEFT_BEHIND = "FROM gone_signatures"
_TAKE_TURNS = "SELECT pg_advisory_xact_lock(hashtextextended('rag-assets near duplicates', 0))"
#: NULL where one of the two has no signature.
_SIMILARITY = """(SELECT (count(*) FILTER (WHERE one = other))::float8 / nullif(count(*), 0)
  FROM unnest(d.signature, o.signature) AS row(one, other))"""


class Signed(NamedTuple):
    """The signature of a document's text; None: it is too short."""

    document_id: uuid.UUID
    signature: list[int] | None


class NearDuplicate(NamedTuple):
    """A document of a source, and the one that it is a near-duplicate of."""

    source: str
    key: str
    document_id: uuid.UUID
    other_source: str
    other_key: str
    other_id: uuid.UUID
    similarity: float


def write_signatures(connection: Connection, source: SourceRow, rows: Sequence[Signed]) -> None:
    """Signs and marks documents, in their order, in the caller's transaction. Those that are signed already stay."""
    if not rows:
        return
    copy_rows(
        connection,
        "signed",
        {"position": "int4", "id": "uuid", "signature": "text"},
        (
            (
                position,
                row.document_id,
                f"{{{str(row.signature)[1:-1]}}}" if row.signature else None,
            )
            for position, row in enumerate(rows)
        ),
    )
    connection.execute(_TAKE_TURNS)
    connection.execute(
        """DELETE FROM document_signatures s USING pg_temp.signed n
           WHERE s.document_id = n.id AND s.algorithm <> %s""",
        [ALGORITHM],
    )
    new = connection.execute(
        """INSERT INTO document_signatures (document_id, source_uuid, algorithm, signature)
           SELECT id, %s, %s, signature::smallint[] FROM pg_temp.signed ORDER BY position
           ON CONFLICT (document_id) DO NOTHING RETURNING ordinal""",
        [source.id, ALGORITHM],
    ).fetchall()
    ordinals = [ordinal for (ordinal,) in new]
    connection.execute(
        """INSERT INTO signature_bands (band, ordinal)
           SELECT rag_bands(signature), ordinal FROM document_signatures WHERE ordinal = ANY(%s)""",
        [ordinals],
    )
    _mark(connection, ordinals)


def mark_left_behind(writer: Writer) -> None:
    """Compares those anew, of any source, whose mark named a text that is gone."""
    while _left_behind(writer.connection):
        with writer.transaction() as connection:
            connection.execute(_TAKE_TURNS)
            # Whoever deletes one of them may be waiting for this turn: what is locked is left for the next sync.
            rows = connection.execute(
                """SELECT s.ordinal FROM gone_signatures g JOIN document_signatures s ON s.duplicate_of = g.ordinal
                   LIMIT %s FOR NO KEY UPDATE OF s SKIP LOCKED""",
                [BATCH],
            ).fetchall()
            ordinals = [ordinal for (ordinal,) in rows]
            connection.execute(
                "UPDATE document_signatures SET duplicate_of = NULL, similarity = NULL WHERE ordinal = ANY(%s)",
                [ordinals],
            )
            _mark(connection, ordinals)
            if len(rows) < BATCH:
                connection.execute(
                    """DELETE FROM gone_signatures g
                       WHERE NOT EXISTS (SELECT FROM document_signatures WHERE duplicate_of = g.ordinal)"""
                )
                return


def _left_behind(connection: Connection) -> bool:
    return connection.execute(f"SELECT {LEFT_BEHIND} LIMIT 1").fetchone() is not None


def _mark(connection: Connection, ordinals: Sequence[int]) -> None:
    connection.execute(
        f"""UPDATE document_signatures s SET duplicate_of = found.ordinal, similarity = found.similarity
            FROM (
              SELECT DISTINCT ON (one) document_id, other AS ordinal, similarity FROM (
                SELECT pairs.one, pairs.other, d.document_id, {_SIMILARITY} AS similarity
                FROM (
                  SELECT DISTINCT d.ordinal AS one, b.ordinal AS other
                  FROM document_signatures d, rag_bands(d.signature) AS shared, LATERAL (
                    SELECT ordinal FROM signature_bands WHERE band = shared AND ordinal < d.ordinal
                    ORDER BY ordinal LIMIT %(compared)s) AS b
                  WHERE d.ordinal = ANY(%(ordinals)s)) AS pairs
                JOIN document_signatures d ON d.ordinal = pairs.one
                JOIN document_signatures o ON o.ordinal = pairs.other
                OFFSET 0) AS compared  -- of these pairs alone, whatever order of joins is chosen
              WHERE similarity >= %(similar)s ORDER BY one, other) AS found
            WHERE s.document_id = found.document_id""",
        {"ordinals": list(ordinals), "compared": COMPARED, "similar": SIMILAR},
    )


def unsigned_documents(source: LiteralString) -> LiteralString:
    """Documents `d` of a source whose text has no signature of %(algorithm)s."""
    return f"""FROM documents d
           LEFT JOIN document_signatures s ON s.document_id = d.id AND s.algorithm = %(algorithm)s
           WHERE {in_scope(source, "d.source_uuid", "d.id")} AND s.document_id IS NULL AND d.content <> ''"""


def plan_signing(writer: Writer, part: SyncScope) -> int:
    """Leaves in `pg_temp.todo` the documents whose text has no signature of this algorithm: those parsed before there
    were any, and those written by others. Returns the number of batches."""
    return fill_work_table(
        writer.connection,
        f"""SELECT d.id,
             (sum(4 * d.char_count::bigint + %(document_bytes)s) OVER (ORDER BY d.source_key))::bigint
               / %(batch_bytes)s AS batch
           {unsigned_documents("%(source)s")}""",
        {
            **part.parameters(),
            "algorithm": ALGORITHM,
            "document_bytes": DOCUMENT_BYTES,
            "batch_bytes": BATCH_BYTES,
        },
    )


def texts_to_sign(connection: Connection, batch: int) -> list[tuple[uuid.UUID, str]]:
    return connection.execute(
        """SELECT d.id, d.content FROM pg_temp.todo t JOIN documents d ON d.id = t.id WHERE t.batch = %s
           ORDER BY d.source_key""",
        [batch],
    ).fetchall()


def count_near_duplicates(connection: Connection, source_id: uuid.UUID) -> int:
    row = connection.execute(
        "SELECT count(*) FROM near_duplicates WHERE source_uuid = %s", [source_id]
    ).fetchone()
    assert row is not None
    return row[0]


def near_duplicates(
    connection: Connection, source: str | None = None, limit: int | None = None
) -> list[NearDuplicate]:
    """The marked documents by source and key, of one source or of all."""
    rows = connection.execute(
        """SELECT s.name, d.source_key, d.id, os.name, o.source_key, o.id, n.similarity::float8
           FROM near_duplicates n JOIN documents d ON d.id = n.document_id JOIN sources s ON s.id = d.source_uuid
           JOIN documents o ON o.id = n.near_duplicate_of JOIN sources os ON os.id = o.source_uuid
           WHERE %(source)s::text IS NULL OR s.name = %(source)s ORDER BY s.name, d.source_key LIMIT %(limit)s""",
        {"source": source, "limit": limit},
    )
    return [NearDuplicate(*row) for row in rows]


def similar_documents(connection: Connection, document: uuid.UUID) -> list[dict[str, Any]]:
    """Every document found similar to one, earlier or later, the most similar first; `marked`: which of the two names
    the other as what it is a near-duplicate of."""
    rows = connection.execute(
        f"""SELECT o.document_id, s.name, e.source_key, compared.similarity,
              CASE WHEN d.duplicate_of = o.ordinal THEN 'this' WHEN o.duplicate_of = d.ordinal THEN 'other' END
            FROM document_signatures d
            JOIN (SELECT DISTINCT b.ordinal FROM document_signatures d, rag_bands(d.signature) AS shared, LATERAL (
                SELECT ordinal FROM signature_bands WHERE band = shared ORDER BY ordinal LIMIT %(limit)s) AS b
              WHERE d.document_id = %(id)s
              UNION SELECT o.ordinal FROM document_signatures d JOIN document_signatures o
                ON o.ordinal = d.duplicate_of WHERE d.document_id = %(id)s) AS pairs ON pairs.ordinal <> d.ordinal
            JOIN document_signatures o ON o.ordinal = pairs.ordinal
            JOIN documents e ON e.id = o.document_id JOIN sources s ON s.id = e.source_uuid
            CROSS JOIN LATERAL (SELECT {_SIMILARITY} AS similarity) AS compared
            WHERE d.document_id = %(id)s AND compared.similarity >= %(similar)s
            ORDER BY compared.similarity DESC, s.name, e.source_key""",
        {"id": document, "limit": BATCH, "similar": SIMILAR},
    )
    names = ("document_id", "source", "key", "similarity", "marked")
    return [dict(zip(names, row)) for row in rows]
