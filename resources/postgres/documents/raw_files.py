"""Which files of the raw store PostgreSQL refers to: those of entries and documents, as they are and as they were."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from resources.postgres.bulk_copy import copy_rows
from resources.postgres.connection import Connection

#: (its name: the SHA-256 of its bytes, and more where it is only half-written; its age in seconds, where it is known)
RawFile = tuple[str, float | None]


def stage_raw_files(connection: Connection, listed: Iterable[RawFile]) -> None:
    copy_rows(connection, "listed_raw", {"name": "text", "age": "float8"}, listed)


def unreferenced_raw_files(connection: Connection) -> Iterator[RawFile]:
    """Those of the staged files that nothing refers to, in the transaction that staged them."""
    with connection.cursor(name="unreferenced_raw") as cursor:
        yield from cursor.execute(
            """SELECT name, age FROM listed_raw f
               WHERE NOT EXISTS (SELECT FROM source_entries e WHERE e.content_hash = f.name)
                 AND NOT EXISTS (SELECT FROM documents d WHERE d.raw_hash = f.name)
                 AND NOT EXISTS (SELECT FROM former_raw r WHERE r.content_hash = f.name)
                 AND NOT EXISTS (SELECT FROM document_versions v WHERE v.raw_hash = f.name)"""
        )
