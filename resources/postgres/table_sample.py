"""The columns of a table, some of its rows and their number, as evidence for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, LiteralString

from resources.postgres.connection import Connection
from resources.postgres.queries import fetch_all, scalar

#: Rows. Counting that many takes 10 ms.
COUNTED = 100_000


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


def total_rows(connection: Connection, table: LiteralString) -> int:
    """Return the number of rows of a table: exact up to `COUNTED`, above from PostgreSQL's statistics."""
    counted = scalar(
        connection, "SELECT n_live_tup FROM pg_stat_user_tables WHERE relid = %s::regclass", [table]
    )
    if counted and counted > COUNTED:
        return counted
    return scalar(connection, f"SELECT count(*) FROM {table}")


def total_rows_in_milvus(connection: Connection, kind: str) -> int | None:
    """Return the number of chunks with vectors of a kind in the collection that serves.

    None if all collections have more than `COUNTED`: the statistics do not know the share of each one.
    """
    if total_rows(connection, "vector_rows") > COUNTED:
        return None
    return scalar(
        connection,
        """SELECT count(*) FROM vector_rows WHERE collection =
             (SELECT name FROM vector_collections WHERE kind = %s ORDER BY state = 'serving' DESC LIMIT 1)""",
        [kind],
    )
