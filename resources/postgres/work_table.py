"""A stage's work as a temporary table with batch numbers: one query plans it, the stage processes it batch by batch.

The table lives as long as the writer's session, so a plan of any size takes no memory in this process. The next run's
plan no longer contains the batches that were committed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, LiteralString

import psycopg

from resources.postgres.connection import Connection
from resources.postgres.queries import scalar


def fill_work_table(
    connection: Connection, select: LiteralString, parameters: Mapping[str, Any]
) -> int:
    """Make `pg_temp.todo` from a SELECT with a column `batch` (0, 1, …). Returns the number of batches."""
    connection.execute("DROP TABLE IF EXISTS pg_temp.todo")
    # CREATE TABLE AS takes no server-side parameters.
    cursor = psycopg.ClientCursor(connection)
    cursor.execute("CREATE TEMPORARY TABLE todo AS " + select, parameters)
    if cursor.rowcount == 0:
        return 0
    connection.execute("CREATE INDEX ON pg_temp.todo (batch)")
    # Also counts the rows. Joins of the other columns are planned by the keys of the other tables.
    connection.execute("ANALYZE pg_temp.todo (batch)")
    return int(scalar(connection, "SELECT max(batch) + 1 FROM pg_temp.todo"))
