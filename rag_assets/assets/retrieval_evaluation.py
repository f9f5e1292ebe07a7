"""Asset retrieval_evaluation: how good retrieval from a source is, by its retrieval sets, as of this run.

It is no part of a sync (a set of 2,000 queries takes minutes) and no writer: what it measures may be written meanwhile.
"""

from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import Any

import dagster as dg

from rag_assets.assets.run_stage import COMMON
from rag_assets.assets.vectors import dense_vectors, multi_vectors, sparse_vectors
from rag_assets.evaluation.evaluator import Evaluator, measuring_searcher
from rag_assets.partitions import SOURCES, shard_of, source_name
from rag_assets.pipeline.plot import as_markdown, bar_chart
from rag_assets.pipeline.relevance import MEASURES
from resources.dagster_resources import (
    EmbedderResource,
    MilvusResource,
    PostgresResource,
    RetrievalResource,
    StorageResource,
)
from resources.errors import ConfigError, RagError
from resources.postgres.evaluation.evaluations import ModeResult, record_evaluation
from resources.postgres.evaluation.retrieval_sets import RetrievalSet, list_sets


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
) -> dg.MaterializeResult:
    """Recall, nDCG and MRR of each retrieval set and mode of a source, the indexes' recall against exact search, and
    latencies, kept in PostgreSQL with the model that they are of."""
    database, name = postgres.open(), config.retrieval_set or None
    errors: list[RagError] = []
    with (
        closing(milvus.open(milvus.search_consistency)) as store,
        measuring_searcher(database, store, milvus, embedder, fusion=retrieval.fusion) as searcher,
        database.connect(autocommit=True) as connection,
    ):
        evaluator = Evaluator(connection, searcher, storage.open())
        for key in context.partition_keys:
            if shard_of(key):
                context.add_asset_metadata(_SHARD, partition_key=key)
                continue
            metadata: dict[str, Any] = {}
            for known in list_sets(connection, source=source_name(key), name=name):
                try:
                    metadata |= _evaluate(evaluator, known, context.run.run_id)
                except RagError as error:  # the other sets are measured all the same
                    errors.append(error)
            context.add_asset_metadata(metadata or _NOTHING, partition_key=key)
    if errors:
        retry = any(error.transient for error in errors)
        raise dg.Failure("\n".join(map(str, errors)), allow_retries=retry)
    return dg.MaterializeResult()


_SHARD = {"sets": "A source is evaluated as a whole, in its own partition."}
_NOTHING = {"sets": "None is registered for this source: rag eval build NAME --source SOURCE"}


def _evaluate(evaluator: Evaluator, known: RetrievalSet, run: str) -> Mapping[str, Any]:
    results, outdated = evaluator.evaluate(known)
    if not results:
        raise ConfigError(
            f"Set {known.name}: source {known.source} has nothing of what its {known.queries} queries ask for. "
            f"Bring it up to date: rag ingest --name {known.source}; or make the set anew: rag eval remove {known.name}"
        )
    model, asked = evaluator.searcher.model, known.queries - outdated
    connection = evaluator.connection
    number = record_evaluation(connection, known.id, run, model, results, asked, outdated)
    return _evidence(known, number, results, outdated)


def _evidence(
    known: RetrievalSet, number: int, results: Sequence[ModeResult], outdated: int
) -> Mapping[str, Any]:
    """Each number under a name of its own, since Dagster charts them over time; and the means as a plot."""
    groups = [*MEASURES]
    bars = {
        each.mode: [
            (measure.value, measure.lower, measure.upper)
            for measure in (each.measures[name] for name in groups)
        ]
        for each in results
    }
    title = f"{known.name}: {known.queries - outdated} queries, evaluation {number}"
    return {
        f"{known.name}/plot": dg.MetadataValue.md(
            as_markdown(bar_chart(title, groups, bars), title)
        ),
        f"{known.name}/evaluation": number,
        f"{known.name}/outdated": outdated,
        **{
            f"{known.name}/{each.mode}/{name}": measure.value
            for each in results
            for name, measure in each.measures.items()
        },
    }
