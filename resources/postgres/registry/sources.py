"""Table `sources` (what is registered) and `source_entries` (what each source held when it was last listed)."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from psycopg.types.json import Jsonb

from rag_assets.pipeline.identity import document_id
from rag_assets.pipeline.plan import Plan
from rag_assets.pipeline.shards import shards_in
from resources.errors import ConfigError, SourceError
from resources.postgres.bulk_copy import copy_rows
from resources.postgres.connection import Connection, Writer, turn
from resources.postgres.work_table import fill_work_table
from resources.sources.base import Entry

#: Bytes fetched and recorded at a time; an entry adds 32 KiB, so that a batch has at most 2,048 entries.
BATCH_BYTES = 64 * 1024 * 1024
_ENTRY_BYTES = 32 * 1024
#: Seconds that another number of shards waits for syncs to end.
RESHARDING = 60


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
    """An entry to fetch, and what is recorded of it; `known` is its change token where its content is held."""

    entry: Entry
    is_new: bool
    content_hash: str | None
    size: int | None
    known: str | None


@dataclass(frozen=True, slots=True)
class Fetched:
    """An entry after its fetch: its content's hash, or why there is none."""

    entry: Entry
    content_hash: str | None
    size: int | None
    error: str | None


_COLUMNS = (
    "id, source_type, name, connection_config, sync_schedule, is_active, credentials_encrypted"
)


def get_source(connection: Connection, name: str) -> SourceRow:
    """Raises ConfigError when there is none of this name."""
    row = connection.execute(f"SELECT {_COLUMNS} FROM sources WHERE name = %s", [name]).fetchone()
    if row is None:
        known = [source.name for source in list_sources(connection)]
        raise ConfigError(
            f"There is no source {name!r}; known: {', '.join(known) or 'none'}. "
            f"Register it with: rag sources add {name} --path DIR"
        )
    return SourceRow(*row)


def list_sources(connection: Connection) -> list[SourceRow]:
    return [
        SourceRow(*row)
        for row in connection.execute(f"SELECT {_COLUMNS} FROM sources ORDER BY name")
    ]


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
    """Registers a source; the configuration must have been checked. Raises ConfigError when the name is taken."""
    row = connection.execute(
        f"""INSERT INTO sources (name, source_type, connection_config, sync_schedule, credentials_encrypted, is_active)
            VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT (name) DO NOTHING RETURNING {_COLUMNS}""",
        [name, source_type, Jsonb(config), schedule, credentials_encrypted, is_active],
    ).fetchone()
    if row is None:
        raise ConfigError(
            f"There is a source {name!r} already. See: rag sources list. To replace it: rag sources remove {name}"
        )
    return SourceRow(*row)


def update_source(connection: Connection, source: SourceRow) -> None:
    """Writes what a person may change of a source; the configuration must have been checked.

    Another number of shards waits for those that are being synced: the old ones and the new ones would overlap.
    """
    if get_source(connection, source.name).shards != source.shards:
        with turn(connection, source.name, RESHARDING):
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
    """Deletes the source, its entries, documents and chunks; its vectors are queued for deletion by the trigger."""
    source = get_source(connection, name)
    connection.execute("DELETE FROM sources WHERE id = %s", [source.id])


def stage_listing(
    writer: Writer, source_id: uuid.UUID, entries: Iterable[Entry]
) -> tuple[Plan, int]:
    """Compares a complete listing with what was recorded. Returns the plan so far and the batches to fetch.

    Entries that differ, or failed before, are left in `pg_temp.todo`; those that are gone are not touched yet.
    """
    connection = writer.connection
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
    except connection.UniqueViolation as error:  # pyright: ignore[reportAttributeAccessIssue]
        raise SourceError(
            f"The source listed one key twice: {error.diag.message_detail}"
        ) from error
    # A document that was forgotten is not taken up again, even while its source still has it.
    connection.execute(
        """DELETE FROM pg_temp.listing l USING forgotten f, sources s
           WHERE s.id = %s AND f.source = s.name AND f.key_hash = encode(sha256(convert_to(l.key, 'UTF8')), 'hex')""",
        [source_id],
    )
    batches = fill_work_table(
        connection,
        """SELECT l.*, e.key IS NULL AS is_new, e.content_hash AS old_hash, e.size AS old_size,
             CASE WHEN e.content_hash IS NOT NULL THEN e.change_token END AS known,
             (sum(coalesce(l.size, 0) + %(entry_bytes)s) OVER (ORDER BY l.position))::bigint / %(batch_bytes)s AS batch
           FROM listing l LEFT JOIN source_entries e ON e.source_id = %(source)s AND e.key = l.key
           WHERE e.key IS NULL OR e.change_token IS DISTINCT FROM l.change_token OR e.locator <> l.locator
             OR e.error IS NOT NULL""",
        {"source": source_id, "entry_bytes": _ENTRY_BYTES, "batch_bytes": BATCH_BYTES},
    )
    row = connection.execute(
        """SELECT (SELECT count(*) FROM listing),
             (SELECT count(*) FROM source_entries e WHERE source_id = %s
              AND NOT EXISTS (SELECT FROM listing l WHERE l.key = e.key))""",
        [source_id],
    ).fetchone()
    assert row is not None
    return Plan(kept=row[0], deleted=row[1]), batches


def listed_batch(connection: Connection, batch: int) -> list[Listed]:
    """Entries to fetch, in the order in which the source listed them."""
    rows = connection.execute(
        """SELECT key, locator, change_token, size, position, is_new, old_hash, old_size, known
           FROM pg_temp.todo WHERE batch = %s ORDER BY position""",
        [batch],
    )
    return [Listed(Entry(*row[:5]), *row[5:]) for row in rows]


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
    """Forgets the entries that the listing (still in `pg_temp.listing`) no longer has."""
    return connection.execute(
        """DELETE FROM source_entries e WHERE source_id = %s
           AND NOT EXISTS (SELECT FROM listing l WHERE l.key = e.key)""",
        [source_id],
    ).rowcount


def count_entries(connection: Connection, source_id: uuid.UUID) -> int:
    row = connection.execute(
        "SELECT count(*) FROM source_entries WHERE source_id = %s", [source_id]
    ).fetchone()
    assert row is not None
    return row[0]


def recorded_tokens(connection: Connection, source_id: uuid.UUID) -> Iterator[tuple[str, str]]:
    """(key, change token) of every entry, ordered by key bytes: what a sensor compares a listing with."""
    yield from connection.execute(
        'SELECT key, change_token FROM source_entries WHERE source_id = %s ORDER BY key COLLATE "C"',
        [source_id],
    )


def recorded_entries(connection: Connection, source_id: uuid.UUID) -> dict[str, tuple[str, str]]:
    """key -> (locator, change token) of every entry."""
    rows = connection.execute(
        "SELECT key, locator, change_token FROM source_entries WHERE source_id = %s", [source_id]
    )
    return {key: (locator, token) for key, locator, token in rows}


def unfinished_sources(connection: Connection) -> dict[uuid.UUID, str]:
    """source -> a word on the work that waits in PostgreSQL itself: documents edited, chunks or rows to delete."""
    rows = connection.execute(
        """SELECT DISTINCT source_uuid, 'documents' FROM documents
           WHERE indexing_status = 'pending' AND processing_status <> 'failed'
           UNION ALL
           SELECT DISTINCT source_uuid, 'deletions' FROM vector_deletions"""
    )
    return dict(rows.fetchall())
