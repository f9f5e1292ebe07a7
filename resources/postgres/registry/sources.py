"""Table `sources`: the registered sources. `entries.py` has the entries of their listings."""

from __future__ import annotations

import re
import shlex
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from difflib import get_close_matches
from typing import Any, NamedTuple

from psycopg.types.json import Jsonb

from rag_assets.pipeline.shards import shards_in
from resources.errors import ConfigError
from resources.partition_keys import NAME
from resources.postgres.connection import Connection, partition_lock
from resources.postgres.queries import fetch_all, fetch_first, scalar

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
    #: The owner; changed by `rag_assets/identity/grants.py`.
    account: str | None = None

    @property
    def shards(self) -> int:
        return shards_in(self.config)


_COLUMNS = """id, source_type, name, connection_config AS config, sync_schedule AS schedule, is_active,
    credentials_encrypted"""
_ACCOUNT = "(SELECT a.name FROM accounts a WHERE a.id = account_id) AS account"


def find_source(connection: Connection, name: str) -> SourceRow | None:
    """Return the source of this name, in any normal form of Unicode: keyboards and file systems differ in it."""
    return fetch_first(
        connection,
        SourceRow,
        f"""SELECT {_COLUMNS}, {_ACCOUNT} FROM sources WHERE normalize(name) = normalize(%(name)s)
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
        advice = f"Register a folder with: rag sources add {new} DIR"
    return f"There is no source {name!r}; known: {shown}. {advice}"


def list_sources(connection: Connection) -> list[SourceRow]:
    return fetch_all(
        connection, SourceRow, f"SELECT {_COLUMNS}, {_ACCOUNT} FROM sources ORDER BY name"
    )


class SourceOverview(NamedTuple):
    """A source with the state of its last sync, as `rag sources list` shows it."""

    name: str
    source_type: str
    account: str | None
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
        f"""SELECT name, source_type, {_ACCOUNT}, connection_config AS config, sync_schedule AS schedule,
             is_active, sync_status, last_sync_at, total_documents, failed_documents, last_error
           FROM sources ORDER BY name""",
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


def unfinished_sources(connection: Connection) -> dict[uuid.UUID, str]:
    """Return source -> the kind of work that waits in PostgreSQL: `documents` to index, `deletions` from Milvus."""
    rows = connection.execute(
        """SELECT DISTINCT source_uuid, 'documents' FROM documents
           WHERE indexing_status = 'pending' AND processing_status <> 'failed'
           UNION ALL
           SELECT DISTINCT source_uuid, 'deletions' FROM vector_deletions"""
    )
    return dict(rows.fetchall())
