"""How an op works on each source of its run, as the only writer of that source."""

from collections.abc import Callable
from typing import TypeVar

import dagster as dg

from rag_assets.assets.run_stage import errors_as_failures
from rag_assets.ingestion.stage import Stage
from resources.dagster_resources import PostgresResource
from resources.partition_keys import partition_key, source_name
from resources.postgres.registry.sources import get_source

T = TypeVar("T")


def for_each_source(
    context: dg.OpExecutionContext,
    postgres: PostgresResource,
    label: str,
    work: Callable[[Stage], T],
) -> list[T]:
    """Call `work` for each source of this run: one, or a range in a backfill. Returns the results.

    The partition of a shard stands for its whole source. `label` names the work in progress reports.
    """
    keys = context.partition_keys if context.has_partition_key_range else [context.partition_key]
    results = []
    for name in dict.fromkeys(map(source_name, keys)):
        with (
            errors_as_failures(),
            postgres.open().writer(partition_key(name), run=context.run_id) as writer,
        ):
            source = get_source(writer.connection, name)
            results.append(work(Stage(label, source, writer, context.log)))
    return results
