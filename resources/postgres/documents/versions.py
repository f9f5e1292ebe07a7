"""Table `document_versions`: what documents were. Triggers append to it; months are made ahead and dropped whole."""

from __future__ import annotations

import uuid

from resources.postgres.connection import Connection

#: Months made ahead of the current one: a daemon that stands still for so long leaves no gap.
MONTHS_AHEAD = 2


def make_months(connection: Connection) -> list[str]:
    """The partitions of this month and the next ones, made where they are not there."""
    return [
        name
        for (name,) in connection.execute(
            """SELECT create_document_versions_month(date_trunc('month', now()) + n * interval '1 month')
               FROM generate_series(0, %s) AS n""",
            [MONTHS_AHEAD],
        )
    ]


def drop_months(connection: Connection, keep_days: int) -> list[str]:
    """Drops the months that ended more than `keep_days` ago. Returns the partitions dropped."""
    with connection.transaction():
        # Rather another day than to stand in the way of those who write documents.
        connection.execute("SET LOCAL lock_timeout = '5s'")
        row = connection.execute(
            "SELECT drop_document_versions_before(now() - make_interval(days => %s))", [keep_days]
        ).fetchone()
    assert row is not None
    return row[0]


def has_versions(connection: Connection, document_id: uuid.UUID) -> bool:
    row = connection.execute(
        "SELECT EXISTS (SELECT FROM document_versions WHERE document_id = %s)", [document_id]
    ).fetchone()
    return row is not None and row[0]


def forget_versions(connection: Connection, document_id: uuid.UUID) -> tuple[int, int]:
    """Deletes every version of a document, the one appended by its deletion too. Returns (deleted, still there).

    No month is made meanwhile: it would take versions over from the default partition, past both statements.
    """
    with connection.transaction():
        connection.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended('rag-assets document_versions', 0))"
        )
        deleted = connection.execute(
            "DELETE FROM document_versions WHERE document_id = %s", [document_id]
        ).rowcount
        row = connection.execute(
            "SELECT count(*) FROM document_versions WHERE document_id = %s", [document_id]
        ).fetchone()
    assert row is not None
    return deleted, row[0]
