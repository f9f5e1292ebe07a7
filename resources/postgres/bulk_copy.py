"""Rows into PostgreSQL in bulk: COPY fills a temporary table, from which set-based SQL then writes the real ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, LiteralString

from psycopg import sql

from resources.postgres.connection import Connection


def copy_rows(
    connection: Connection,
    table: str,
    columns: Mapping[str, LiteralString],
    rows: Iterable[Sequence[Any]],
) -> int:
    """Replace the temporary table with one of `columns` (name -> type), and copy the rows in. Returns their number.

    Inside a transaction the table lives until it ends; in autocommit until the session does.
    """
    name = sql.Identifier(table)
    fields = sql.SQL(", ").join(
        sql.SQL("{} {}").format(sql.Identifier(column), sql.SQL(kind))
        for column, kind in columns.items()
    )
    connection.execute(sql.SQL("DROP TABLE IF EXISTS pg_temp.{}").format(name))
    connection.execute(sql.SQL("CREATE TEMPORARY TABLE {} ({})").format(name, fields))
    count = 0
    with (
        connection.cursor() as cursor,
        cursor.copy(sql.SQL("COPY {} FROM STDIN (FORMAT binary)").format(name)) as copy,
    ):
        copy.set_types([kind.split()[0] for kind in columns.values()])
        for row in rows:
            copy.write_row(row)
            count += 1
    return count
