"""Table `source_entries`: the entries of each source's last listing, and their comparison with the next one."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import psycopg

from rag_assets.pipeline.entries import Entry
from rag_assets.pipeline.identity import document_id
from rag_assets.pipeline.plan import Plan
from resources.errors import SourceError
from resources.postgres.bulk_copy import copy_rows
from resources.postgres.connection import Connection
from resources.postgres.queries import fetch_all, fetch_one, scalar
from resources.postgres.work_table import fill_work_table

#: Bytes fetched and recorded at a time. Each entry counts 32 KiB more, so a batch has at most 2,048 entries.
BATCH_BYTES = 64 * 1024 * 1024
_ENTRY_BYTES = 32 * 1024


@dataclass(frozen=True, slots=True)
class Listed:
    """An entry to fetch, and its record. `previous_token`: its recorded change token, if its content was fetched."""

    entry: Entry
    is_new: bool
    content_hash: str | None
    size: int | None
    previous_token: str | None


@dataclass(frozen=True, slots=True)
class Fetched:
    """An entry after its fetch: the hash of its content, or the error.

    `body` and `gist`: the signature of a content that replaces another one (see ingestion/sameness.py).
    """

    entry: Entry
    content_hash: str | None
    size: int | None
    error: str | None
    body: str | None = None
    gist: str | None = None


def stage_listing(
    connection: Connection,
    source_id: uuid.UUID,
    entries: Iterable[Entry],
    *,
    reread: bool = False,
) -> tuple[Plan, int]:
    """Compare a complete listing with the recorded entries. Returns the plan so far and the number of batches to fetch.

    The work table gets the entries that differ or failed before; with `reread` all of them, without their tokens.
    Entries that are gone are not deleted yet. Raises
    SourceError if the listing has a key twice. Writes only to temporary tables of the session.
    """
    copy_rows(
        connection,
        "listing",
        {
            "key": "text",
            "locator": "text",
            "change_token": "text",
            "size": "int8",
            "position": "int8",
        },
        (
            (entry.key, entry.locator, entry.change_token, entry.size, position)
            for position, entry in enumerate(entries)
        ),
    )
    try:
        connection.execute("CREATE UNIQUE INDEX ON pg_temp.listing (key)")
    except psycopg.errors.UniqueViolation as error:
        found = re.search(r"\(key\)=\((.*)\) is", error.diag.message_detail or "", re.DOTALL)
        raise SourceError(
            f"Expected a key of its own for each document, found {found[1] if found else 'one'!r} twice. Remove one of "
            "them or, if the documents are rows, name another column: rag sources change NAME --set key=COLUMN"
        ) from error
    # An erased document is not read again, even while its source still has it.
    connection.execute(
        """DELETE FROM pg_temp.listing l USING forgotten f, sources s
           WHERE s.id = %s AND f.source = s.name AND f.key_hash = encode(sha256(convert_to(l.key, 'UTF8')), 'hex')""",
        [source_id],
    )
    batches = fill_work_table(
        connection,
        """SELECT l.*, e.key IS NULL AS is_new, e.content_hash AS old_hash, e.size AS old_size,
             CASE WHEN e.content_hash IS NOT NULL AND NOT %(reread)s THEN e.change_token END AS previous_token,
             (sum(coalesce(l.size, 0) + %(entry_bytes)s) OVER (ORDER BY l.position))::bigint / %(batch_bytes)s AS batch
           FROM listing l LEFT JOIN source_entries e ON e.source_id = %(source)s AND e.key = l.key
           WHERE e.key IS NULL OR e.change_token IS DISTINCT FROM l.change_token OR e.locator <> l.locator
             OR e.error IS NOT NULL OR %(reread)s""",
        {
            "source": source_id,
            "entry_bytes": _ENTRY_BYTES,
            "batch_bytes": BATCH_BYTES,
            "reread": reread,
        },
    )
    plan = fetch_one(
        connection,
        Plan,
        """SELECT (SELECT count(*) FROM listing) AS kept,
             (SELECT count(*) FROM source_entries e WHERE source_id = %s
              AND NOT EXISTS (SELECT FROM listing l WHERE l.key = e.key)) AS deleted""",
        [source_id],
    )
    return plan, batches


def count_staged(connection: Connection) -> tuple[int, int, int]:
    """Return the numbers of new and of changed entries after `stage_listing`, and the bytes of both."""
    row = connection.execute(
        """SELECT count(*) FILTER (WHERE is_new), count(*) FILTER (WHERE NOT is_new), coalesce(sum(size), 0)::bigint
           FROM pg_temp.todo"""
    ).fetchone()
    assert row is not None
    return row


def listed_batch(connection: Connection, batch: int) -> list[Listed]:
    """Return entries to fetch, in the order of the listing."""
    return fetch_all(
        connection,
        _listed,
        """SELECT key, locator, change_token, size, position, is_new, old_hash, old_size, previous_token
           FROM pg_temp.todo WHERE batch = %s ORDER BY position""",
        [batch],
    )


def _listed(
    *,
    key: str,
    locator: str,
    change_token: str | None,
    size: int | None,
    position: int,
    is_new: bool,
    old_hash: str | None,
    old_size: int | None,
    previous_token: str | None,
) -> Listed:
    entry = Entry(key, locator, change_token, size, position)
    return Listed(entry, is_new, old_hash, old_size, previous_token)


def record_fetched(
    connection: Connection, source_id: uuid.UUID, fetched: Sequence[Fetched]
) -> None:
    copy_rows(
        connection,
        "fetched",
        {
            "key": "text",
            "document_id": "uuid",
            "locator": "text",
            "change_token": "text",
            "size": "int8",
            "content_hash": "text",
            "error": "text",
        },
        (
            (
                item.entry.key,
                document_id(source_id, item.entry.key),
                item.entry.locator,
                item.entry.change_token or "",
                item.size,
                item.content_hash,
                item.error,
            )
            for item in fetched
        ),
    )
    connection.execute(
        """INSERT INTO source_entries (source_id, key, document_id, locator, change_token, size, content_hash, error,
             fetched_run)
           SELECT %s, key, document_id, locator, change_token, size, content_hash, error, rag_run() FROM fetched
           ON CONFLICT (source_id, key) DO UPDATE SET locator = excluded.locator,
             change_token = excluded.change_token, size = excluded.size, content_hash = excluded.content_hash,
             error = excluded.error, fetched_at = now(), fetched_run = excluded.fetched_run""",
        [source_id],
    )


def delete_gone_entries(connection: Connection, source_id: uuid.UUID) -> int:
    """Delete the entries that the listing (still in `pg_temp.listing`) lacks. Returns their number."""
    return connection.execute(
        """DELETE FROM source_entries e WHERE source_id = %s
           AND NOT EXISTS (SELECT FROM listing l WHERE l.key = e.key)""",
        [source_id],
    ).rowcount


def count_entries(connection: Connection, source_id: uuid.UUID) -> int:
    return scalar(
        connection, "SELECT count(*) FROM source_entries WHERE source_id = %s", [source_id]
    )


def recorded_tokens(connection: Connection, source_id: uuid.UUID) -> Iterator[tuple[str, str]]:
    """Yield (key, change token) of every entry in the order of the keys' bytes. A sensor compares a listing with it."""
    yield from connection.execute(
        'SELECT key, change_token FROM source_entries WHERE source_id = %s ORDER BY key COLLATE "C"',
        [source_id],
    )


def recorded_entries(connection: Connection, source_id: uuid.UUID) -> dict[str, tuple[str, str]]:
    """Return key -> (locator, change token) of every entry."""
    rows = connection.execute(
        "SELECT key, locator, change_token FROM source_entries WHERE source_id = %s", [source_id]
    )
    return {key: (locator, token) for key, locator, token in rows}
