"""The changed documents of one sync, by their new content: a temporary table of the writer's session.

Documents that turned into one content wait in it until the listing's end, when their number is known. Then they are
recorded in `source_entries`, or their old contents stay.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from resources.postgres.bulk_copy import copy_rows
from resources.postgres.connection import Connection
from resources.postgres.queries import fetch_all, scalars
from resources.postgres.registry.entries import Fetched


@dataclass(frozen=True, slots=True)
class ContentGroup:
    """Documents with one new content. `gist`: its signature without numbers; `body`: the commonest of its bytes.

    `documents`: how many; `equal`: how many of them have that body. `key` and `content_hash`: of one of these.
    """

    gist: str
    body: str
    documents: int
    equal: int
    key: str
    content_hash: str


@dataclass(frozen=True, slots=True)
class Replaced:
    key: str
    body: str
    old_hash: str | None
    content_hash: str


def start_replacements(connection: Connection) -> None:
    connection.execute("DROP TABLE IF EXISTS pg_temp.replacements")
    connection.execute(
        """CREATE TEMPORARY TABLE replacements (key text, body text, gist text, locator text, change_token text,
             size int8, content_hash text, old_locator text, old_token text, old_size int8, old_hash text,
             is_recorded bool, old_error text)"""
    )
    connection.execute("CREATE INDEX ON pg_temp.replacements (gist)")


def stage_replacements(
    connection: Connection, source_id: uuid.UUID, replaced: Sequence[Fetched]
) -> set[str]:
    """Add changed documents. Returns the keys of those to record at once: no other one has their content so far."""
    copy_rows(
        connection,
        "replaced",
        {
            "key": "text",
            "body": "text",
            "gist": "text",
            "locator": "text",
            "change_token": "text",
            "size": "int8",
            "content_hash": "text",
        },
        (
            (
                item.entry.key,
                item.body,
                item.gist,
                item.entry.locator,
                item.entry.change_token or "",
                item.size,
                item.content_hash,
            )
            for item in replaced
        ),
    )
    connection.execute(
        """INSERT INTO pg_temp.replacements
           SELECT r.*, e.locator, e.change_token, e.size, e.content_hash, false, e.error
           FROM pg_temp.replaced r JOIN source_entries e ON e.source_id = %s AND e.key = r.key""",
        [source_id],
    )
    return set(
        scalars(
            connection,
            """UPDATE pg_temp.replacements SET is_recorded = true WHERE key IN (
                 SELECT r.key FROM pg_temp.replaced r WHERE (
                   SELECT count(*) FROM (SELECT FROM pg_temp.replacements s WHERE s.gist = r.gist LIMIT 2) AS two) = 1)
               RETURNING key""",
        )
    )


def content_groups(connection: Connection, more_than: float) -> list[ContentGroup]:
    """Return the contents that more documents than this number turned into, the most frequent first."""
    return fetch_all(
        connection,
        ContentGroup,
        """WITH bodies AS (
             SELECT gist, body, count(*) AS equal, min(key) AS key, min(content_hash) AS content_hash
             FROM pg_temp.replacements GROUP BY gist, body),
           groups AS (
             SELECT DISTINCT ON (gist) gist, body, (sum(equal) OVER (PARTITION BY gist))::int8 AS documents, equal,
               key, content_hash
             FROM bodies ORDER BY gist, equal DESC, body)
           SELECT * FROM groups WHERE documents > %s ORDER BY documents DESC, gist""",
        [more_than],
    )


def sample_replaced(connection: Connection, gist: str, limit: int) -> list[Replaced]:
    """Return some of the documents that turned into this content, spread over their keys."""
    return fetch_all(
        connection,
        Replaced,
        """SELECT key, body, old_hash, content_hash FROM pg_temp.replacements WHERE gist = %s
           ORDER BY md5(key) LIMIT %s""",
        [gist, limit],
    )


def record_replacements(connection: Connection, source_id: uuid.UUID, kept: Sequence[str]) -> int:
    """Record the waiting documents. Those with a content in `kept` (gists) have their old contents afterwards.

    Returns how many keep theirs.
    """
    connection.execute(
        """UPDATE source_entries e SET locator = r.locator, change_token = r.change_token, size = r.size,
             content_hash = r.content_hash, error = NULL, fetched_at = now(), fetched_run = rag_run()
           FROM pg_temp.replacements r
           WHERE e.source_id = %s AND e.key = r.key AND NOT r.is_recorded AND r.gist <> ALL(%s)""",
        [source_id, list(kept)],
    )
    connection.execute(
        """UPDATE source_entries e SET locator = r.old_locator, change_token = r.old_token, size = r.old_size,
             content_hash = r.old_hash, error = r.old_error
           FROM pg_temp.replacements r
           WHERE e.source_id = %s AND e.key = r.key AND r.is_recorded AND r.gist = ANY(%s)""",
        [source_id, list(kept)],
    )
    count = connection.execute(
        "DELETE FROM pg_temp.replacements WHERE gist = ANY(%s)", [list(kept)]
    ).rowcount
    connection.execute("TRUNCATE pg_temp.replacements")
    return count
