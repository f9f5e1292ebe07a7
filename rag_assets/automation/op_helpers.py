"""How an op works on each source of its run, as the only writer of that source."""

from collections.abc import Callable
from typing import TypeVar

import dagster as dg

from rag_assets.assets.failures import (
    StepError,
    as_stage_error,
    may_retry,
    report_retry,
    step_failure,
)
from rag_assets.assets.interruptions import RunInterrupted, end_if_canceled
from rag_assets.assets.run_partitions import partitions_of_run, source_of
from rag_assets.ingestion.stage import Stage
from resources.dagster_resources import PostgresResource
from resources.partition_keys import partition_key, source_name

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
    database = postgres.open()
    results: list[T] = []
    errors: list[StepError] = []
    for name in dict.fromkeys(map(source_name, partitions_of_run(context, database))):
        end_if_canceled(context)
        config = {}
        try:
            with database.writer(partition_key(name), run=context.run_id) as writer:
                source = source_of(writer.connection, partition_key(name))
                config = source.config
                results.append(work(Stage(label, source, writer, context.log)))
        except RunInterrupted:
            raise
        except Exception as raised:
            # Broad, since no fault of one source may end the work on the others.
            error = as_stage_error(raised, context.log)
            errors.append(StepError(name, context.op.name, error, config))
    if errors:
        if retry := any(may_retry(context, item.error) for item in errors):
            report_retry(context, errors[0].error)
        raise step_failure(errors, retry=retry, others=len(results))
    return results
