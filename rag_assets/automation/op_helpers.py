"""How an op works on each source of its run, as the only writer of that source."""

from collections.abc import Callable
from typing import TypeVar

import dagster as dg

from rag_assets.assets.failures import StepError, may_retry, step_failure
from rag_assets.ingestion.stage import Stage
from resources.dagster_resources import PostgresResource
from resources.errors import RagError
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

    A source that fails does not stop the others; the step fails at the end. The partition of a shard stands for its
    whole source. `label` names the work in progress reports.
    """
    keys = context.partition_keys if context.has_partition_key_range else [context.partition_key]
    results: list[T] = []
    errors: list[StepError] = []
    for name in dict.fromkeys(map(source_name, keys)):
        config = {}
        try:
            with postgres.open().writer(partition_key(name), run=context.run_id) as writer:
                source = get_source(writer.connection, name)
                config = source.config
                results.append(work(Stage(label, source, writer, context.log)))
        except RagError as error:
            errors.append(StepError(name, context.op.name, error, config))
    if errors:
        retry = any(may_retry(context, item.error) for item in errors)
        raise step_failure(errors, retry=retry, others=len(results))
    return results
