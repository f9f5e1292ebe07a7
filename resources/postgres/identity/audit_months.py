"""Months of the audit: old ones are dropped whole. A record in the chain then stands for them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import NamedTuple

from psycopg import sql

from rag_assets.pipeline.audit_chain import ChainHead
from rag_assets.pipeline.audit_record import AuditRecord
from rag_assets.pipeline.audit_verification import SEAL, seal_details
from resources.errors import ConfigError
from resources.postgres.connection import Connection
from resources.postgres.identity.audit_chain import append
from resources.postgres.queries import fetch_first, scalars


class DroppedMonths(NamedTuple):
    """The dropped months, as 2026-01, and the last record that they had."""

    months: list[str]
    last: ChainHead


def drop_months_before(
    connection: Connection, month: datetime, principal: str, *, dry_run: bool = False
) -> DroppedMonths | None:
    """Drop the months before the one of this time, in the caller's transaction; None if they have no records.

    The chain verifies from the first kept record on: the record that is appended has the hash that this one holds.
    """
    first = month.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    if first > datetime.now(UTC):
        raise ConfigError(
            "Expected a month that has begun: the present month and later ones are kept."
        )
    # Nobody appends meanwhile.
    connection.execute("SELECT FROM begin_audit_append()")
    last = fetch_first(
        connection,
        ChainHead,
        """SELECT sequence, row_hash AS hash FROM audit_records WHERE recorded_at < %s
           ORDER BY recorded_at DESC, sequence DESC LIMIT 1""",
        [first],
    )
    if last is None:
        return None
    tables = scalars(
        connection,
        """SELECT relname FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
           WHERE inhparent = 'audit_records'::regclass AND relname < %s ORDER BY relname""",
        [f"audit_records_{first:%Y_%m}"],
    )
    dropped = DroppedMonths([table[-7:].replace("_", "-") for table in tables], last)
    if not dry_run:
        append(
            connection,
            [AuditRecord(SEAL, "allowed", principal, details=seal_details(last, dropped.months))],
        )
        for table in tables:
            connection.execute(sql.SQL("DROP TABLE {}").format(sql.Identifier(table)))
    return dropped
