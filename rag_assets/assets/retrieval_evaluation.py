"""Asset retrieval_evaluation: the quality of retrieval from a source, measured with its retrieval sets.

It is no part of a sync (a set of 2,000 queries takes minutes) and no writer: syncs may run at the same time.
"""

from collections.abc import Iterator, Mapping
from contextlib import closing
from typing import Any

import dagster as dg

from rag_assets.assets.failures import StepError, earlier_errors, errors_as_failures
from rag_assets.assets.run_stage import COMMON, materialize
from rag_assets.assets.vectors import dense_vectors, multi_vectors, sparse_vectors
from rag_assets.evaluation.evaluator import Evaluator, measuring_searcher
from rag_assets.evaluation.measurement import Measurement, measure_set
from rag_assets.partitions import SOURCES
from rag_assets.pipeline.plot import as_markdown, bar_chart
from rag_assets.pipeline.relevance import MEASURES
from resources.dagster_resources import (
    EmbedderResource,
    MilvusResource,
    PostgresResource,
    RetrievalResource,
    StorageResource,
    vector_stores,
)
from resources.errors import RagError
from resources.partition_keys import shard_of, source_name
from resources.postgres.evaluation.retrieval_sets import list_sets


class EvaluationConfig(dg.Config):
    """`retrieval_set`: only this one; empty: every set of the source."""

    retrieval_set: str = ""


@dg.asset(
    partitions_def=SOURCES,
    deps=[dense_vectors, sparse_vectors, multi_vectors],
    kinds={"python", "milvus", "postgres"},
    code_version="1",
    **{**COMMON, "group_name": "evaluation"},
)
def retrieval_evaluation(
    context: dg.AssetExecutionContext,
    config: EvaluationConfig,
    postgres: PostgresResource,
    milvus: MilvusResource,
    storage: StorageResource,
    embedder: EmbedderResource,
    retrieval: RetrievalResource,
) -> Iterator[dg.MaterializeResult]:
    """Recall, nDCG and MRR of each retrieval set and mode of a source, the indexes' recall against exact search, and
    latencies, recorded in PostgreSQL with the model."""
    database, name = postgres.open(), config.retrieval_set or None
    errors: list[StepError] = []
    metadata: dict[str, dict[str, Any]] = {}
    with (
        errors_as_failures(context),
        closing(milvus.open(milvus.search_consistency)) as store,
        measuring_searcher(
            database, vector_stores(store, storage, milvus, embedder), fusion=retrieval.fusion
        ) as searcher,
        database.connect(autocommit=True) as connection,
    ):
        evaluator = Evaluator(connection, searcher, storage.open())
        for key in context.partition_keys:
            if key in earlier_errors(context):
                continue
            if shard_of(key):
                metadata[key] = _SHARD
                continue
            measured: dict[str, Any] = {}
            failed: list[StepError] = []
            for retrieval_set in list_sets(connection, source=source_name(key), name=name):
                try:
                    measurement = measure_set(evaluator, retrieval_set, context.run.run_id)
                    measured |= _metadata(measurement)
                except RagError as error:
                    # The other sets are still measured.
                    failed.append(StepError(key, "retrieval_evaluation", error))
            if not failed:
                metadata[key] = measured or _NO_SETS
            errors += failed
    yield from materialize(context, metadata, errors, {})


_SHARD = {"sets": "A source is evaluated as a whole, in its own partition."}
_NO_SETS = {"sets": "None is registered for this source: rag eval build NAME --source SOURCE"}


def _metadata(measured: Measurement) -> Mapping[str, Any]:
    """Return each number under its own name, since Dagster charts them over time, and the means as a plot."""
    name, groups = measured.retrieval_set.name, [*MEASURES]
    bars = {
        result.mode: [
            (measure.value, measure.lower, measure.upper)
            for measure in (result.measures[group] for group in groups)
        ]
        for result in measured.results
    }
    title = f"{name}: {measured.queries} queries, evaluation {measured.number}"
    return {
        f"{name}/plot": dg.MetadataValue.md(as_markdown(bar_chart(title, groups, bars), title)),
        f"{name}/evaluation": measured.number,
        f"{name}/outdated": measured.outdated,
        **{
            f"{name}/{result.mode}/{group}": measure.value
            for result in measured.results
            for group, measure in result.measures.items()
        },
    }
