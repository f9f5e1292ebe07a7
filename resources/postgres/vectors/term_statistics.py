"""Table `term_statistics`: in how many embedded texts of a source each sparse term is. Read where queries are weighted.

Texts that left are not subtracted: a share of what was ever embedded says as well how rare a word is.
"""

from __future__ import annotations

import uuid

from rag_assets.pipeline.term_statistics import TermStatistics
from resources.postgres.connection import Connection


def add_statistics(
    connection: Connection, model: str, source_id: uuid.UUID, statistics: TermStatistics
) -> None:
    """Adds the terms of newly embedded texts; within the transaction that records their file."""
    nothing = TermStatistics.none()
    # Two shards may both be the first.
    connection.execute(
        """INSERT INTO term_statistics (model_fingerprint, source_id, texts, terms) VALUES (%s, %s, %s, %s)
           ON CONFLICT (model_fingerprint, source_id) DO NOTHING""",
        [model, source_id, nothing.texts, nothing.to_bytes()],
    )
    row = connection.execute(
        "SELECT texts, terms FROM term_statistics WHERE model_fingerprint = %s AND source_id = %s FOR UPDATE",
        [model, source_id],
    ).fetchone()
    assert row is not None
    merged = TermStatistics.from_bytes(*row).merged(statistics)
    connection.execute(
        "UPDATE term_statistics SET texts = %s, terms = %s WHERE model_fingerprint = %s AND source_id = %s",
        [merged.texts, merged.to_bytes(), model, source_id],
    )


def total_statistics(connection: Connection, model: str) -> TermStatistics:
    """Of all sources."""
    total = TermStatistics.none()
    for row in connection.execute(
        "SELECT texts, terms FROM term_statistics WHERE model_fingerprint = %s", [model]
    ):
        total = total.merged(TermStatistics.from_bytes(*row))
    return total
