"""Table `document_versions`: former versions of documents. Triggers append them; months are partitions, made ahead and
dropped whole."""

from __future__ import annotations

import uuid

from resources.postgres.connection import Connection
from resources.postgres.queries import scalar, scalars

#: Months made ahead of the current one: no gap appears while the daemon stands still for less than that.
MONTHS_AHEAD = 2


def make_months(connection: Connection) -> list[str]:
    """Make the partitions of this month and the next ones if they are missing. Returns their names."""
    return scalars(
        connection,
        """SELECT create_document_versions_month(date_trunc('month', now()) + n * interval '1 month')
           FROM generate_series(0, %s) AS n""",
        [MONTHS_AHEAD],
    )


def drop_months(connection: Connection, keep_days: int) -> list[str]:
    """Drop the months that ended more than `keep_days` ago. Returns the dropped partitions."""
    with connection.transaction():
        # Give up after 5 s; the next day's run retries. Do not block writers of documents.
        connection.execute("SET LOCAL lock_timeout = '5s'")
        return scalar(
            connection,
            "SELECT drop_document_versions_before(now() - make_interval(days => %s))",
            [keep_days],
        )


def has_versions(connection: Connection, document_id: uuid.UUID) -> bool:
    return scalar(
        connection,
        "SELECT EXISTS (SELECT FROM document_versions WHERE document_id = %s)",
        [document_id],
    )


def delete_versions(connection: Connection, document_id: uuid.UUID) -> tuple[int, int]:
    """Delete every version of a document, also the one that its deletion appended. Returns (deleted, remaining).

    The lock prevents the creation of a month, which would move versions out of the default partition, unseen by both
    statements.
    """
    with connection.transaction():
        connection.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended('rag-assets document_versions', 0))"
        )
        deleted = connection.execute(
            "DELETE FROM document_versions WHERE document_id = %s", [document_id]
        ).rowcount
        remaining = scalar(
            connection,
            "SELECT count(*) FROM document_versions WHERE document_id = %s",
            [document_id],
        )
    return deleted, remaining
