"""Tables `sources` (the registered sources) and `source_entries` (the entries of each source's last listing)."""

from __future__ import annotations

import re
import shlex
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from difflib import get_close_matches
from typing import Any, NamedTuple

import psycopg
from psycopg.types.json import Jsonb

from rag_assets.pipeline.entries import Entry
from rag_assets.pipeline.identity import document_id
from rag_assets.pipeline.plan import Plan
from rag_assets.pipeline.shards import shards_in
from resources.errors import ConfigError, SourceError
from resources.partition_keys import NAME
from resources.postgres.bulk_copy import copy_rows
from resources.postgres.connection import Connection, partition_lock
from resources.postgres.queries import fetch_all, fetch_first, fetch_one, scalar
from resources.postgres.work_table import fill_work_table

#: Bytes fetched and recorded at a time. Each entry counts 32 KiB more, so a batch has at most 2,048 entries.
BATCH_BYTES = 64 * 1024 * 1024
_ENTRY_BYTES = 32 * 1024
#: Maximum names in an error message.
_MAX_NAMES = 20
#: Seconds that a change of the number of shards waits for running syncs.
RESHARDING_SECONDS = 60


@dataclass(frozen=True, slots=True)
class SourceRow:
    id: uuid.UUID
    source_type: str
    name: str
    config: Mapping[str, Any]
    schedule: str | None
    is_active: bool
    credentials_encrypted: str | None = field(default=None, repr=False)

    @property
    def shards(self) -> int:
        return shards_in(self.config)


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


_COLUMNS = """id, source_type, name, connection_config AS config, sync_schedule AS schedule, is_active,
    credentials_encrypted"""


def find_source(connection: Connection, name: str) -> SourceRow | None:
    """Return the source of this name, in any normal form of Unicode: keyboards and file systems differ in it."""
    return fetch_first(
        connection,
        SourceRow,
        f"""SELECT {_COLUMNS} FROM sources WHERE normalize(name) = normalize(%(name)s)
            ORDER BY name <> %(name)s LIMIT 1""",
        {"name": name},
    )


def get_source(connection: Connection, name: str) -> SourceRow:
    """Raises ConfigError if no source has this name."""
    source = find_source(connection, name)
    if source is None:
        raise ConfigError(unknown_source(name, [row.name for row in list_sources(connection)]))
    return source


def unknown_source(name: str, known: Sequence[str]) -> str:
    """Return the message about a name that no source has: the known names, and the nearest one."""
    shown = ", ".join(known[:_MAX_NAMES]) or "none"
    if len(known) > _MAX_NAMES:
        shown += f" and {len(known) - _MAX_NAMES} more"
    if guesses := get_close_matches(name, known, 1):
        advice = f"Perhaps: {shlex.quote(guesses[0])}"
    else:
        new = shlex.quote(name) if re.fullmatch(NAME, name) else "NAME"
        advice = f"Register a folder with: rag sources add {new} --path DIR"
    return f"There is no source {name!r}; known: {shown}. {advice}"


def list_sources(connection: Connection) -> list[SourceRow]:
    return fetch_all(connection, SourceRow, f"SELECT {_COLUMNS} FROM sources ORDER BY name")


class SourceOverview(NamedTuple):
    """A source with the state of its last sync, as `rag sources list` shows it."""

    name: str
    source_type: str
    config: Mapping[str, Any]
    schedule: str | None
    is_active: bool
    sync_status: str
    last_sync_at: datetime | None
    total_documents: int
    failed_documents: int
    last_error: str | None


def list_overviews(connection: Connection) -> list[SourceOverview]:
    return fetch_all(
        connection,
        SourceOverview,
        """SELECT name, source_type, connection_config AS config, sync_schedule AS schedule, is_active, sync_status,
             last_sync_at, total_documents, failed_documents, last_error FROM sources ORDER BY name""",
    )


def list_failing(connection: Connection) -> list[dict[str, Any]]:
    """Return the sources whose last sync failed, with the reason; none before the migrations."""
    if scalar(connection, "SELECT to_regclass('sources') IS NULL"):
        return []
    return fetch_all(
        connection,
        dict[str, Any],
        """SELECT name AS source, last_error AS error, error_count AS failures, next_sync_at AS next_attempt_at
           FROM sources WHERE last_error IS NOT NULL ORDER BY name""",
    )


def lock_sources(connection: Connection) -> None:
    """Prevent that sources are added, changed or removed, until the transaction ends."""
    connection.execute("LOCK TABLE sources IN SHARE MODE")


def add_source(
    connection: Connection,
    name: str,
    source_type: str,
    config: Mapping[str, Any],
    schedule: str | None,
    credentials_encrypted: str | None = None,
    *,
    is_active: bool = True,
) -> SourceRow:
    """Register a source; the configuration must have been checked. Raises ConfigError if the name is taken."""
    source = fetch_first(
        connection,
        SourceRow,
        f"""INSERT INTO sources (name, source_type, connection_config, sync_schedule, credentials_encrypted, is_active)
            VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT (name) DO NOTHING RETURNING {_COLUMNS}""",
        [name, source_type, Jsonb(config), schedule, credentials_encrypted, is_active],
    )
    if source is None:
        raise ConfigError(
            f"There is a source {name!r} already. See: rag sources list. To replace it: rag sources remove {name}"
        )
    return source


def update_source(connection: Connection, source: SourceRow) -> None:
    """Write the columns that a person may change; the configuration must have been checked.

    A new number of shards waits for the syncs of the old ones: old and new shards overlap.
    """
    if get_source(connection, source.name).shards != source.shards:
        with partition_lock(connection, source.name, RESHARDING_SECONDS):
            _update(connection, source)
    else:
        _update(connection, source)


def _update(connection: Connection, source: SourceRow) -> None:
    connection.execute(
        """UPDATE sources SET connection_config = %s, sync_schedule = %s, is_active = %s, credentials_encrypted = %s,
             updated_at = now() WHERE id = %s""",
        [
            Jsonb(source.config),
            source.schedule,
            source.is_active,
            source.credentials_encrypted,
            source.id,
        ],
    )


def remove_source(connection: Connection, name: str) -> None:
    """Delete a source, its entries, documents and chunks. The trigger queues the deletion of its vectors."""
    source = get_source(connection, name)
    connection.execute("DELETE FROM sources WHERE id = %s", [source.id])


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


def unfinished_sources(connection: Connection) -> dict[uuid.UUID, str]:
    """Return source -> the kind of work that waits in PostgreSQL: `documents` to index, `deletions` from Milvus."""
    rows = connection.execute(
        """SELECT DISTINCT source_uuid, 'documents' FROM documents
           WHERE indexing_status = 'pending' AND processing_status <> 'failed'
           UNION ALL
           SELECT DISTINCT source_uuid, 'deletions' FROM vector_deletions"""
    )
    return dict(rows.fetchall())
