"""The recorded entries whose signs are equal to those of a listing: a sync does not read them again."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import NamedTuple

from resources.postgres.connection import Connection
from resources.postgres.queries import fetch_all, named_row


class UnchangedEntry(NamedTuple):
    key: str
    locator: str
    change_token: str
    size: int
    content_hash: str


def unchanged_entries(connection: Connection, source_id: uuid.UUID) -> Iterator[UnchangedEntry]:
    """Yield the entries in another order each time. The listing is the one staged in this session."""
    with (
        connection.transaction(),
        connection.cursor(name="unchanged", row_factory=named_row(UnchangedEntry)) as cursor,
    ):
        yield from cursor.execute(
            """SELECT l.key, l.locator, l.change_token, coalesce(l.size, 0) AS size, e.content_hash
               FROM pg_temp.listing l JOIN source_entries e ON e.source_id = %s AND e.key = l.key
                 AND e.change_token = l.change_token AND e.locator = l.locator
               WHERE e.content_hash IS NOT NULL AND e.error IS NULL ORDER BY random()""",
            [source_id],
        )


def still_recorded(
    connection: Connection, source_id: uuid.UUID, entries: list[UnchangedEntry]
) -> list[UnchangedEntry]:
    """Return the entries whose record no sync has changed meanwhile."""
    return fetch_all(
        connection,
        UnchangedEntry,
        """SELECT key, e.locator, e.change_token, coalesce(e.size, 0) AS size, e.content_hash
           FROM source_entries e JOIN unnest(%s::text[], %s::text[], %s::text[]) AS old (key, token, hash) USING (key)
           WHERE e.source_id = %s AND e.change_token = old.token AND e.content_hash = old.hash ORDER BY key""",
        [
            [entry.key for entry in entries],
            [entry.change_token for entry in entries],
            [entry.content_hash for entry in entries],
            source_id,
        ],
    )
