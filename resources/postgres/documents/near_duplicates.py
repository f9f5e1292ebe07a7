"""Tables `document_signatures`, `signature_bands` and `gone_signatures`: which documents are near-duplicates.

A document is marked with the first similar one that came before it, so a new document changes no other mark. Writers
mark one after another (an advisory lock of the transaction): two that do not see each other would miss a pair.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any, LiteralString, NamedTuple

from rag_assets.pipeline.access import AccessScope
from rag_assets.pipeline.near_duplicates import ALGORITHM, SIMILAR
from resources.postgres.bulk_copy import copy_rows
from resources.postgres.connection import Connection, Writer
from resources.postgres.documents.documents import BATCH_BYTES, DOCUMENT_BYTES
from resources.postgres.queries import fetch_all, scalar, scalars
from resources.postgres.registry.sources import SourceRow
from resources.postgres.registry.visible_sources import is_visible
from resources.postgres.scope import SyncScope, in_scope
from resources.postgres.work_table import fill_work_table

#: A document is compared with the first documents of each band: each of 100,000 copies of a form letter is compared
#: with 16 to 256 others, not with all before it. A pair that shares only fuller bands is missed.
COMPARED = 16
#: Documents marked in one transaction.
BATCH = 512

#: SQL: FROM the signatures, of any source, that are gone and may still be named by a mark.
STALE_MARKS: LiteralString = "FROM gone_signatures"
_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('rag-assets near duplicates', 0))"


def _similarity(signed: LiteralString, other: LiteralString) -> LiteralString:
    """SQL: the similarity of two rows of document_signatures, by their aliases. NULL if one has no signature."""
    return f"""(SELECT (count(*) FILTER (WHERE one = other))::float8 / nullif(count(*), 0)
      FROM unnest({signed}.signature, {other}.signature) AS row(one, other))"""


class Signed(NamedTuple):
    """The signature of a document's text, or None if the text is too short."""

    document_id: uuid.UUID
    signature: list[int] | None


class NearDuplicate(NamedTuple):
    """A document, and the earlier one that it nearly duplicates."""

    source: str
    key: str
    document_id: uuid.UUID
    other_source: str
    other_key: str
    other_id: uuid.UUID
    similarity: float


def write_signatures(connection: Connection, source: SourceRow, rows: Sequence[Signed]) -> None:
    """Sign and mark documents, in this order, in the caller's transaction. Documents with a signature keep it."""
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
    connection.execute(_LOCK)
    connection.execute(
        """DELETE FROM document_signatures s USING pg_temp.signed n
           WHERE s.document_id = n.id AND s.algorithm <> %s""",
        [ALGORITHM],
    )
    ordinals = scalars(
        connection,
        """INSERT INTO document_signatures (document_id, source_uuid, algorithm, signature)
           SELECT id, %s, %s, signature::smallint[] FROM pg_temp.signed ORDER BY position
           ON CONFLICT (document_id) DO NOTHING RETURNING ordinal""",
        [source.id, ALGORITHM],
    )
    connection.execute(
        """INSERT INTO signature_bands (band, ordinal)
           SELECT rag_bands(signature), ordinal FROM document_signatures WHERE ordinal = ANY(%s)""",
        [ordinals],
    )
    _mark(connection, ordinals)


def renew_stale_marks(writer: Writer) -> None:
    """Compare documents again, of any source, whose mark names a text that is gone."""
    while scalar(writer.connection, f"SELECT EXISTS (SELECT {STALE_MARKS})"):
        with writer.transaction() as connection:
            connection.execute(_LOCK)
            # Whoever deletes one of these documents may be waiting for this lock: locked rows are left for the next
            # sync.
            ordinals = scalars(
                connection,
                """SELECT s.ordinal FROM gone_signatures g JOIN document_signatures s ON s.duplicate_of = g.ordinal
                   LIMIT %s FOR NO KEY UPDATE OF s SKIP LOCKED""",
                [BATCH],
            )
            connection.execute(
                "UPDATE document_signatures SET duplicate_of = NULL, similarity = NULL WHERE ordinal = ANY(%s)",
                [ordinals],
            )
            _mark(connection, ordinals)
            if len(ordinals) < BATCH:
                connection.execute(
                    """DELETE FROM gone_signatures g
                       WHERE NOT EXISTS (SELECT FROM document_signatures WHERE duplicate_of = g.ordinal)"""
                )
                return


def _mark(connection: Connection, ordinals: Sequence[int]) -> None:
    connection.execute(
        f"""UPDATE document_signatures s SET duplicate_of = earliest.ordinal, similarity = earliest.similarity
            FROM (
              SELECT DISTINCT ON (one) document_id, other AS ordinal, similarity FROM (
                SELECT pairs.one, pairs.other, d.document_id, {_similarity("d", "o")} AS similarity
                FROM (
                  SELECT DISTINCT d.ordinal AS one, b.ordinal AS other
                  FROM document_signatures d, rag_bands(d.signature) AS shared, LATERAL (
                    SELECT ordinal FROM signature_bands WHERE band = shared AND ordinal < d.ordinal
                    ORDER BY ordinal LIMIT %(compared)s) AS b
                  WHERE d.ordinal = ANY(%(ordinals)s)) AS pairs
                JOIN document_signatures d ON d.ordinal = pairs.one
                JOIN document_signatures o ON o.ordinal = pairs.other
                OFFSET 0) AS compared  -- of these pairs alone, whatever order of joins the planner chooses
              WHERE similarity >= %(similar)s ORDER BY one, other) AS earliest
            WHERE s.document_id = earliest.document_id""",
        {"ordinals": list(ordinals), "compared": COMPARED, "similar": SIMILAR},
    )


def unsigned_documents(source: LiteralString) -> LiteralString:
    """SQL: FROM documents `d` of the scope whose text has no signature of %(algorithm)s."""
    return f"""FROM documents d
           LEFT JOIN document_signatures s ON s.document_id = d.id AND s.algorithm = %(algorithm)s
           WHERE {in_scope(source, "d.source_uuid", "d.id")} AND s.document_id IS NULL AND d.content <> ''"""


def plan_signing(writer: Writer, scope: SyncScope) -> int:
    """Fill the work table with the documents whose text has no signature of this algorithm: those parsed before
    signatures existed, and those that other programs wrote. Returns the number of batches."""
    return fill_work_table(
        writer.connection,
        f"""SELECT d.id,
             (sum(4 * d.char_count::bigint + %(document_bytes)s) OVER (ORDER BY d.source_key))::bigint
               / %(batch_bytes)s AS batch
           {unsigned_documents("%(source)s")}""",
        {
            **scope.parameters(),
            "algorithm": ALGORITHM,
            "document_bytes": DOCUMENT_BYTES,
            "batch_bytes": BATCH_BYTES,
        },
    )


def texts_to_sign(connection: Connection, batch: int) -> list[tuple[uuid.UUID, str]]:
    """Return (document, text)."""
    return connection.execute(
        """SELECT d.id, d.content FROM pg_temp.todo t JOIN documents d ON d.id = t.id WHERE t.batch = %s
           ORDER BY d.source_key""",
        [batch],
    ).fetchall()


def count_near_duplicates(connection: Connection, source_id: uuid.UUID) -> int:
    return scalar(
        connection, "SELECT count(*) FROM near_duplicates WHERE source_uuid = %s", [source_id]
    )


def near_duplicates(
    connection: Connection,
    scope: AccessScope,
    source: str | None = None,
    limit: int | None = None,
) -> list[NearDuplicate]:
    """Return the marked documents by source and key, of one source or of all in scope. The other document must be in
    scope too."""
    return fetch_all(
        connection,
        NearDuplicate,
        f"""SELECT s.name AS source, d.source_key AS key, d.id AS document_id, os.name AS other_source,
             o.source_key AS other_key, o.id AS other_id, n.similarity::float8 AS similarity
           FROM near_duplicates n JOIN documents d ON d.id = n.document_id JOIN sources s ON s.id = d.source_uuid
           JOIN documents o ON o.id = n.near_duplicate_of JOIN sources os ON os.id = o.source_uuid
           WHERE (%(source)s::text IS NULL OR normalize(s.name) = normalize(%(source)s))
             AND {is_visible("s.name")} AND {is_visible("os.name")}
           ORDER BY s.name, d.source_key LIMIT %(limit)s""",
        {"source": source, "limit": limit, "visible": scope.visible},
    )


def similar_documents(
    connection: Connection, document: uuid.UUID, scope: AccessScope
) -> list[dict[str, Any]]:
    """Return every document in scope that is similar to this one, earlier or later, the most similar first.

    Keys: document_id, source, key, similarity; marked: the document of the two (`this`, `other`) that is marked as the
    near-duplicate of the other one.
    """
    return fetch_all(
        connection,
        dict[str, Any],
        f"""SELECT o.document_id, s.name AS source, e.source_key AS key, compared.similarity,
              CASE WHEN d.duplicate_of = o.ordinal THEN 'this' WHEN o.duplicate_of = d.ordinal THEN 'other' END
                AS marked
            FROM document_signatures d
            JOIN (SELECT DISTINCT b.ordinal FROM document_signatures d, rag_bands(d.signature) AS shared, LATERAL (
                SELECT ordinal FROM signature_bands WHERE band = shared ORDER BY ordinal LIMIT %(limit)s) AS b
              WHERE d.document_id = %(id)s
              UNION SELECT o.ordinal FROM document_signatures d JOIN document_signatures o
                ON o.ordinal = d.duplicate_of WHERE d.document_id = %(id)s) AS pairs ON pairs.ordinal <> d.ordinal
            JOIN document_signatures o ON o.ordinal = pairs.ordinal
            JOIN documents e ON e.id = o.document_id JOIN sources s ON s.id = e.source_uuid
            JOIN sources own ON own.id = d.source_uuid
            CROSS JOIN LATERAL (SELECT {_similarity("d", "o")} AS similarity) AS compared
            WHERE d.document_id = %(id)s AND compared.similarity >= %(similar)s
              AND {is_visible("s.name")} AND {is_visible("own.name")}
            ORDER BY compared.similarity DESC, s.name, e.source_key""",
        {"id": document, "limit": BATCH, "similar": SIMILAR, "visible": scope.visible},
    )
