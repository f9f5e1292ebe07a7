"""The partitions of a run and their sources, also if sources were removed or added while the run waited."""

from __future__ import annotations

from collections.abc import Sequence

import dagster as dg

from rag_assets.dagster_internals import BACKFILL_ID_TAG
from rag_assets.partitions import PARTITION_TAG, RANGE_END_TAG, RANGE_TAG, SOURCES, SYNC_TAG
from resources.errors import SourceRemoved
from resources.partition_keys import partition_keys, source_name
from resources.postgres.connection import Connection, Postgres, set_sync
from resources.postgres.registry.sources import SourceRow, find_source


def partitions_of_run(
    context: dg.AssetExecutionContext | dg.OpExecutionContext | dg.AssetCheckExecutionContext,
    database: Postgres,
) -> Sequence[str]:
    """Return the partitions of a run.

    Raises SourceRemoved if Dagster no longer has the one that the run is for, or an end of its range. Dagster's own
    error names neither the reason nor a remedy.
    """
    name, tags = SOURCES.name or "", context.run.tags
    ends = [tags[tag] for tag in (PARTITION_TAG, RANGE_TAG, RANGE_END_TAG) if tag in tags]
    missing = [key for key in ends if not context.instance.has_dynamic_partition(name, key)]
    if missing:
        with database.connect(autocommit=True) as connection:
            for key in missing:
                # Raises SourceRemoved. A source that was added again has its partition within half a minute; its
                # materialization needs it now.
                source_of(connection, key)
        if RANGE_TAG in tags:
            raise SourceRemoved(
                f"{missing[0]}, an end of this run's range {ends[0]} to {ends[-1]}, was removed and added again after "
                "the run was requested, so its other sources are not known. Start a new run; nothing was changed."
            )
        context.instance.add_dynamic_partitions(name, missing)
    # To Dagster, a job of checks or ops alone has no partitions.
    return [tags[PARTITION_TAG]] if PARTITION_TAG in tags else context.partition_keys


def source_of(connection: Connection, key: str) -> SourceRow:
    """Return the source of a partition. Raises SourceRemoved if there is no such source, or no such shard of it."""
    name = source_name(key)
    source = find_source(connection, name)
    if source is None:
        raise SourceRemoved(
            f"Source {name} was removed after this run was requested, so there is nothing to do. To read it again, "
            f"register it: rag sources add {name}"
        )
    if key not in partition_keys(name, source.shards):
        number = f"{source.shards} shards" if source.shards > 1 else "no shards"
        raise SourceRemoved(
            f"{key} is no partition of {name}, which has {number} since this run was requested. Nothing is left to do: "
            f"its present partitions are synced by themselves. At once: rag ingest {name}"
        )
    return source


def join_sync(context: dg.AssetExecutionContext, connection: Connection) -> None:
    """Make this session's writes belong to the sync that the runs of the other shards belong to."""
    run = context.run
    sync = run.tags.get(SYNC_TAG) or run.tags.get(BACKFILL_ID_TAG) or run.root_run_id or run.run_id
    set_sync(connection, sync)
