"""What jobs of ops do for each source of a run, as its writer, and how their errors end a step."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import dagster as dg

from rag_assets.assets.run_stage import Stage
from rag_assets.partitions import partition_key, source_name
from resources.dagster_resources import PostgresResource
from resources.errors import RagError
from resources.postgres.registry.sources import get_source

T = TypeVar("T")


@contextmanager
def errors_as_failures() -> Iterator[None]:
    """An error of ours fails the step with its message; it is retried only where it may go away by itself."""
    try:
        yield
    except RagError as error:
        raise dg.Failure(str(error), allow_retries=error.transient) from error


def for_each_source(
    context: dg.OpExecutionContext,
    postgres: PostgresResource,
    what: str,
    work: Callable[[Stage], T],
) -> list[T]:
    """What `work` returns for each source of this run (one, or a range in a backfill), whole where a shard is."""
    keys = context.partition_keys if context.has_partition_key_range else [context.partition_key]
    done = []
    for name in dict.fromkeys(map(source_name, keys)):
        with (
            errors_as_failures(),
            postgres.open().writer(partition_key(name), run=context.run_id) as writer,
        ):
            source = get_source(writer.connection, name)
            done.append(work(Stage(what, source, writer, context.log)))
    return done
