"""The files of the raw store that nothing in PostgreSQL refers to: no entry, document or version, current or former."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from resources.postgres.bulk_copy import copy_rows
from resources.postgres.connection import Connection
from resources.postgres.queries import named_row


class RawFile(NamedTuple):
    """`name`: the SHA-256 of its bytes, with a suffix if it is half-written. `age`: in seconds, if known."""

    name: str
    age: float | None


def stage_raw_files(connection: Connection, listed: Iterable[RawFile]) -> None:
    copy_rows(connection, "listed_raw", {"name": "text", "age": "float8"}, listed)


def unreferenced_raw_files(connection: Connection) -> Iterator[RawFile]:
    """Yield the staged files that nothing refers to. Runs in the transaction that staged them."""
    with connection.cursor(name="unreferenced_raw", row_factory=named_row(RawFile)) as cursor:
        yield from cursor.execute(
            """SELECT name, age FROM listed_raw f
               WHERE NOT EXISTS (SELECT FROM source_entries e WHERE e.content_hash = f.name)
                 AND NOT EXISTS (SELECT FROM documents d WHERE d.raw_hash = f.name)
                 AND NOT EXISTS (SELECT FROM former_raw r WHERE r.content_hash = f.name)
                 AND NOT EXISTS (SELECT FROM document_versions v WHERE v.raw_hash = f.name)"""
        )
