"""The columns of a table and some of its rows, as evidence for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, LiteralString

from resources.postgres.connection import Connection
from resources.postgres.queries import fetch_all


def table_columns(connection: Connection, table: LiteralString) -> list[tuple[str, str]]:
    """Return (name, type) of a table's columns."""
    return connection.execute(
        """SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute
           WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum""",
        [table],
    ).fetchall()


def sample_rows(
    connection: Connection,
    table: LiteralString,
    columns: Sequence[LiteralString],
    condition: LiteralString,
    parameters: Mapping[str, Any],
) -> list[dict[str, Any]]:
    """Return five rows that meet the condition, with their texts cut to 80 characters."""
    selected = ", ".join([f"left({column}::text, 80) AS {column}" for column in columns])
    return fetch_all(
        connection,
        dict[str, Any],
        f"SELECT {selected} FROM {table} WHERE {condition} LIMIT 5",
        parameters,
    )
