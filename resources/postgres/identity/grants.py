"""Tables `accounts` and `access_grants`: what users see."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from resources.postgres.connection import Connection
from resources.postgres.queries import scalar


class Grant(NamedTuple):
    """An account, a chat bot of an account, or a source."""

    account_id: uuid.UUID | None = None
    chat_bot: str | None = None
    source_id: uuid.UUID | None = None


def account_ids(connection: Connection, names: Iterable[str]) -> dict[str, uuid.UUID]:
    """Return the ids of the accounts that exist, by name."""
    rows = connection.execute(
        "SELECT name, id FROM accounts WHERE name = ANY(%s)", [sorted(set(names))]
    )
    return dict(rows.fetchall())


def source_ids(connection: Connection, names: Iterable[str]) -> dict[str, uuid.UUID]:
    """Return the ids of the sources that exist, by name."""
    rows = connection.execute(
        "SELECT name, id FROM sources WHERE name = ANY(%s)", [sorted(set(names))]
    )
    return dict(rows.fetchall())


def ensure_account(connection: Connection, name: str) -> uuid.UUID:
    """Return the account of this name, which is created if there is none."""
    connection.execute("INSERT INTO accounts (name) VALUES (%s) ON CONFLICT DO NOTHING", [name])
    return scalar(connection, "SELECT id FROM accounts WHERE name = %s", [name])


def account_of_source(connection: Connection, source_id: uuid.UUID) -> str | None:
    return scalar(
        connection,
        "SELECT a.name FROM sources s JOIN accounts a ON a.id = s.account_id WHERE s.id = %s",
        [source_id],
    )


def set_account(connection: Connection, source_id: uuid.UUID, account_id: uuid.UUID | None) -> None:
    connection.execute(
        "UPDATE sources SET account_id = %s, updated_at = now() WHERE id = %s",
        [account_id, source_id],
    )


def add_grants(connection: Connection, user_id: uuid.UUID, grants: Sequence[Grant]) -> int:
    """Grant what is not granted yet. Returns the number of new grants."""
    return connection.execute(
        """INSERT INTO access_grants (user_id, account_id, chat_bot, source_id)
           SELECT %s, * FROM unnest(%s::uuid[], %s::text[], %s::uuid[]) ON CONFLICT DO NOTHING""",
        [user_id, *_columns(grants)],
    ).rowcount


def remove_grants(connection: Connection, user_id: uuid.UUID, grants: Sequence[Grant]) -> int:
    """Remove grants. Returns the number of those that existed."""
    return connection.execute(
        """DELETE FROM access_grants g USING unnest(%s::uuid[], %s::text[], %s::uuid[]) AS r(account, chat_bot, source)
           WHERE g.user_id = %s AND g.account_id IS NOT DISTINCT FROM r.account
             AND g.chat_bot IS NOT DISTINCT FROM r.chat_bot AND g.source_id IS NOT DISTINCT FROM r.source""",
        [*_columns(grants), user_id],
    ).rowcount


def _columns(grants: Sequence[Grant]) -> list[list[object]]:
    return [[grant[n] for grant in grants] for n in range(len(Grant._fields))]
