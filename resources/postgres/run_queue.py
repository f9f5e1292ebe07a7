"""Dagster's runs that are in progress or waiting, and the pools that they hold and wait for. Reads Dagster's tables.

By SQL, since importing Dagster takes two seconds. A test compares it with Dagster's own functions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from resources.postgres.connection import Connection
from resources.postgres.queries import fetch_all, scalar


@dataclass(frozen=True, slots=True)
class QueuedRun:
    """A run. `partitions`: of the run: one, or the first and the last of its range; empty: no partition.

    `holds` and `awaits`: names of pools. A run that has ended may hold a pool for some seconds more.
    """

    run_id: str
    job: str
    status: str
    since: datetime
    partitions: Sequence[str]
    holds: Sequence[str]
    awaits: Sequence[str]
    is_active: bool


def queued_runs(connection: Connection) -> list[QueuedRun]:
    """Return the runs that have not ended, and those that still hold a pool, the oldest first."""
    tables = scalar(
        connection,
        """SELECT CASE WHEN to_regnamespace('dagster') IS NULL THEN 0
                    WHEN NOT has_schema_privilege('dagster', 'USAGE') THEN 0
                    ELSE (SELECT count(*) FROM unnest(ARRAY['dagster.runs', 'dagster.run_tags',
                            'dagster.concurrency_slots', 'dagster.pending_steps']) AS tables(name)
                          WHERE CASE WHEN to_regclass(name) IS NOT NULL THEN has_table_privilege(name, 'SELECT') END)
                  END""",
    )
    # Before the first command that runs a job, or a role that reads the project's tables alone.
    if tables < 4:
        return []
    return fetch_all(
        connection,
        QueuedRun,
        """WITH holders AS (
             SELECT run_id, array_agg(DISTINCT concurrency_key ORDER BY concurrency_key) AS pools
             FROM dagster.concurrency_slots WHERE run_id IS NOT NULL GROUP BY run_id),
           candidates AS (
             SELECT run_id, pipeline_name AS job, status, start_time, create_timestamp,
               status NOT IN ('SUCCESS', 'FAILURE', 'CANCELED') AS is_active
             FROM dagster.runs
             WHERE status IN ('QUEUED', 'NOT_STARTED', 'STARTING', 'STARTED', 'CANCELING', 'SUSPENDED', 'MANAGED')
               OR run_id IN (SELECT run_id FROM holders))
           SELECT run_id, job, status, is_active,
             coalesce(to_timestamp(start_time), create_timestamp::timestamptz) AS since,
             ARRAY(SELECT value FROM dagster.run_tags t WHERE t.run_id = c.run_id AND key IN ('dagster/partition',
               'dagster/asset_partition_range_start', 'dagster/asset_partition_range_end') ORDER BY key DESC)
               AS partitions,
             coalesce((SELECT pools FROM holders h WHERE h.run_id = c.run_id), '{}') AS holds,
             ARRAY(SELECT DISTINCT concurrency_key FROM dagster.pending_steps p
               WHERE p.run_id = c.run_id AND p.assigned_timestamp IS NULL AND is_active ORDER BY 1) AS awaits
           FROM candidates c ORDER BY since""",
    )
