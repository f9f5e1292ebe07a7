"""Reads of the audit for people: newest first, by filters, and only what the reader may see."""

from __future__ import annotations

import uuid
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from resources.postgres.connection import Connection
from resources.postgres.queries import fetch_all


@dataclass(frozen=True, slots=True)
class AuditFilters:
    """Empty and None: any. `action`: also all actions of a subject, as `user` means `user.create`."""

    since: datetime | None = None
    until: datetime | None = None
    principal: str = ""
    action: str = ""
    outcome: str = ""
    target: str = ""


@dataclass(frozen=True, slots=True)
class AuditReader:
    """Who reads, and the names of the accounts whose users' records they see; None: everything."""

    user_id: uuid.UUID | None
    accounts: Collection[str] | None


#: The command line.
EVERYTHING = AuditReader(None, None)


class AuditEntry(NamedTuple):
    """A record without its hashes."""

    sequence: int
    recorded_at: datetime
    occurred_at: datetime
    action: str
    outcome: str
    principal: str
    target: str
    request_id: str
    address: str
    details: dict[str, Any]


def list_records(
    connection: Connection,
    reader: AuditReader,
    filters: AuditFilters,
    *,
    before: int | None = None,
    limit: int,
) -> list[AuditEntry]:
    """Return the newest records; `before`: only those with a lower number."""
    return fetch_all(
        connection,
        AuditEntry,
        """WITH seen AS MATERIALIZED (
             -- The reader, and users all of whose grants are within the reader's accounts: what others do may concern
             -- other accounts.
             SELECT id FROM users WHERE id = %(reader)s
             UNION
             SELECT g.user_id FROM access_grants g
               JOIN users u ON u.id = g.user_id AND u.role <> 'super_admin'
               LEFT JOIN sources s ON s.id = g.source_id
               LEFT JOIN accounts a ON a.id = coalesce(g.account_id, s.account_id)
               WHERE NOT %(everything)s
               GROUP BY g.user_id HAVING bool_and(coalesce(a.name = ANY(%(accounts)s::text[]), false))),
           names AS MATERIALIZED (
             SELECT 'user:' || id AS name FROM seen
             UNION ALL SELECT 'key:' || split_part(key_prefix, '_', 3) FROM api_keys JOIN seen ON seen.id = user_id)
           SELECT sequence, recorded_at, occurred_at, action, outcome, principal, target, request_id, address, details
           FROM audit_records
           WHERE (%(before)s::bigint IS NULL OR sequence < %(before)s)
             AND (%(since)s::timestamptz IS NULL OR recorded_at >= %(since)s)
             AND (%(until)s::timestamptz IS NULL OR recorded_at < %(until)s)
             AND (%(principal)s = '' OR principal = %(principal)s)
             AND (%(action)s = '' OR action = %(action)s OR starts_with(action, %(action)s || '.'))
             AND (%(outcome)s = '' OR outcome = %(outcome)s)
             AND (%(target)s = '' OR target = %(target)s)
             AND (%(everything)s OR principal IN (SELECT name FROM names) OR target IN (SELECT name FROM names))
           ORDER BY sequence DESC LIMIT %(limit)s""",
        {
            "reader": reader.user_id,
            "everything": reader.accounts is None,
            "accounts": list(reader.accounts or ()),
            "since": filters.since,
            "until": filters.until,
            "principal": filters.principal,
            "action": filters.action,
            "outcome": filters.outcome,
            "target": filters.target,
            "before": before,
            "limit": limit,
        },
    )
