"""Table `term_statistics`: the number of embedded texts of a source with each sparse term. Queries are weighted by it.

Deleted texts are not subtracted: the share among all texts ever embedded is as good a measure of a word's rarity.
"""

from __future__ import annotations

import uuid

from rag_assets.pipeline.access import AccessScope
from rag_assets.pipeline.term_statistics import TermStatistics
from resources.postgres.connection import Connection
from resources.postgres.queries import fetch_all, fetch_one
from resources.postgres.registry.visible_sources import is_visible


def add_statistics(
    connection: Connection, model: str, source_id: uuid.UUID, statistics: TermStatistics
) -> None:
    """Add the terms of newly embedded texts, in the transaction that records their file."""
    empty = TermStatistics.none()
    # Two shards may each be the first.
    connection.execute(
        """INSERT INTO term_statistics (model_fingerprint, source_id, texts, terms) VALUES (%s, %s, %s, %s)
           ON CONFLICT (model_fingerprint, source_id) DO NOTHING""",
        [model, source_id, empty.texts, empty.to_bytes()],
    )
    stored = fetch_one(
        connection,
        TermStatistics.from_bytes,
        "SELECT texts, terms AS packed FROM term_statistics WHERE model_fingerprint = %s AND source_id = %s FOR UPDATE",
        [model, source_id],
    )
    merged = stored.merged(statistics)
    connection.execute(
        "UPDATE term_statistics SET texts = %s, terms = %s WHERE model_fingerprint = %s AND source_id = %s",
        [merged.texts, merged.to_bytes(), model, source_id],
    )


def total_statistics(connection: Connection, model: str, scope: AccessScope) -> TermStatistics:
    """Return the sum of the statistics of the sources in scope."""
    total = TermStatistics.none()
    for statistics in fetch_all(
        connection,
        TermStatistics.from_bytes,
        f"""SELECT t.texts, t.terms AS packed FROM term_statistics t JOIN sources s ON s.id = t.source_id
            WHERE t.model_fingerprint = %(model)s AND {is_visible("s.name")}""",
        {"model": model, "visible": scope.visible},
    ):
        total = total.merged(statistics)
    return total
