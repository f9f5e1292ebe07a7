"""Table `audit_records`: the only appender of the audit, and reads of the chain in its order.

Months are partitions. The database makes the next one when the first record of the month is appended.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from psycopg.pq import TransactionStatus

from rag_assets.pipeline.audit_chain import ChainHead, chained
from rag_assets.pipeline.audit_record import AuditRecord
from resources.postgres.connection import Connection
from resources.postgres.queries import fetch_one


class _Turn(NamedTuple):
    sequence: int
    row_hash: bytes
    recorded_at: str


def append(connection: Connection, records: Sequence[AuditRecord]) -> ChainHead:
    """Append records in the caller's transaction, which commits them with the change that they describe.

    Until that transaction ends, all other appenders wait: call it last, right before the commit. Returns the new head,
    which is that of the table only after the commit.
    """
    if connection.autocommit and connection.info.transaction_status == TransactionStatus.IDLE:
        raise RuntimeError("append: expected a transaction, in which the lock lasts to the commit")
    turn = fetch_one(connection, _Turn, "SELECT * FROM begin_audit_append()")
    rows = chained(ChainHead(turn.sequence, turn.row_hash), turn.recorded_at, records)
    if not rows:
        return ChainHead(turn.sequence, turn.row_hash)
    connection.execute(
        """INSERT INTO audit_records (sequence, recorded_at, occurred_at, action, outcome, principal, target,
             request_id, address, details, prev_hash, row_hash)
           SELECT * FROM unnest(%s::bigint[], %s::timestamptz[], %s::timestamptz[], %s::text[], %s::text[],
             %s::text[], %s::text[], %s::text[], %s::text[], %s::json[], %s::bytea[], %s::bytea[])""",
        [list(column) for column in zip(*rows)],
    )
    return rows[-1].head
