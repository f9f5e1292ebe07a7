"""Table `audit_records`: the only appender of the audit, and reads of the chain in its order.

Months are partitions. The database makes the next one when the first record of the month is appended.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import LiteralString, NamedTuple

from psycopg.pq import TransactionStatus

from rag_assets.pipeline.audit_chain import (
    EMPTY,
    ChainedRecord,
    ChainHead,
    RecordTexts,
    chained,
    record_texts,
)
from rag_assets.pipeline.audit_record import AuditRecord
from resources.postgres.connection import Connection
from resources.postgres.queries import fetch_all, fetch_first, fetch_one, scalar

#: The columns as the chain has them. Times are texts: also those that Python cannot express.
_STORED: LiteralString = """sequence,
  to_char(recorded_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS recorded_at,
  to_char(occurred_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS occurred_at,
  action, outcome, principal, target, request_id, address, details::text AS details, prev_hash, row_hash"""


#: The principal of the command line and of Dagster's runs.
OWNER = "owner"


class _Turn(NamedTuple):
    sequence: int
    row_hash: bytes
    recorded_at: str


def append(connection: Connection, records: Sequence[AuditRecord]) -> ChainHead:
    """Append records in the caller's transaction, which commits them with the change that they describe.

    Until that transaction ends, all other appenders wait: call it last, right before the commit. Returns the new head,
    which is that of the table only after the commit.
    """
    return append_texts(connection, [record_texts(record) for record in records])


def append_operation(
    connection: Connection, action: str, target: str = "", **details: object
) -> None:
    """Append an operation of the deployment's owner, by the command line or Dagster, in the caller's transaction."""
    append(connection, [AuditRecord(action, "allowed", OWNER, target, details=details)])


def append_texts(connection: Connection, records: Sequence[RecordTexts]) -> ChainHead:
    """Append records whose texts are known, as `append` does."""
    if connection.autocommit and connection.info.transaction_status == TransactionStatus.IDLE:
        raise RuntimeError("append: expected a transaction, in which the lock lasts to the commit")
    turn = fetch_one(connection, _Turn, "SELECT * FROM begin_audit_append()")
    before = ChainHead(turn.sequence, turn.row_hash)
    rows = chained(before, turn.recorded_at, records)
    if not rows:
        return before
    # A row costs 36 µs, with INSERT and arrays 79 µs; a single row costs the same.
    with (
        connection.cursor() as cursor,
        cursor.copy(
            """COPY audit_records (sequence, recorded_at, occurred_at, action, outcome, principal, target, request_id,
                 address, details, prev_hash, row_hash) FROM STDIN"""
        ) as copy,
    ):
        for row in rows:
            copy.write_row(row)
    return rows[-1].head


def chain_head(connection: Connection) -> ChainHead:
    """Return the last record's place and hash."""
    found = fetch_first(
        connection,
        ChainHead,
        "SELECT sequence, row_hash AS hash FROM audit_records ORDER BY recorded_at DESC, sequence DESC LIMIT 1",
    )
    return found or EMPTY


def stored_records(connection: Connection, begin: int, size: int) -> list[ChainedRecord]:
    """Return the records whose numbers are `size` numbers from the first one that is `begin` or higher.

    By number, not by count: also records that share a number, which nobody but a superuser can make, are in one result.
    """
    lowest = scalar(
        connection, "SELECT min(sequence) FROM audit_records WHERE sequence >= %s", [begin]
    )
    if lowest is None:
        return []
    return fetch_all(
        connection,
        ChainedRecord,
        f"""SELECT {_STORED} FROM audit_records WHERE sequence BETWEEN %s AND %s
            ORDER BY sequence, row_hash""",
        [lowest, lowest + size - 1],
    )
