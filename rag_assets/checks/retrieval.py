"""Checks of the last evaluation of each retrieval set of a source, compared with the accepted one.

They read the results that `retrieval_evaluation` stored, and run with it. No repair helps, so they are not stored in
`check_results`: the evaluations have tables of their own.
"""

from collections.abc import Callable

import dagster as dg

from rag_assets.checks.results import check_each_source
from rag_assets.consistency.finding import Finding, not_applicable
from rag_assets.evaluation.quality import LEAST_ANN_RECALL
from rag_assets.evaluation.retrieval_findings import (
    Pairs,
    indexes_find_nearest_neighbours,
    known_items_are_found,
    retrieval_quality_is_kept,
)
from rag_assets.partitions import SOURCES
from resources.dagster_resources import PostgresResource, RetrievalResource
from resources.postgres.connection import Connection
from resources.postgres.evaluation.evaluations import latest_and_accepted


def _check(
    name: str, fact: str, judge: Callable[[str, Pairs, float], Finding]
) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset="retrieval_evaluation", name=name, description=fact, partitions_def=SOURCES
    )
    def check(
        context: dg.AssetCheckExecutionContext,
        postgres: PostgresResource,
        retrieval: RetrievalResource,
    ) -> dg.AssetCheckResult:
        def of_source(connection: Connection, source: str) -> Finding:
            pairs = latest_and_accepted(connection, source)
            if not pairs:
                return not_applicable(f"no retrieval set of {source} was evaluated.")
            return judge(source, pairs, retrieval.margin)

        return check_each_source(context, postgres, of_source, stored=False)

    return check


RETRIEVAL_CHECKS: list[dg.AssetChecksDefinition] = [
    _check(
        "retrieval_quality_is_kept",
        "nDCG@10 and the share of answered queries are not below the accepted evaluation by more than the margin.",
        retrieval_quality_is_kept,
    ),
    _check(
        "indexes_find_nearest_neighbours",
        f"Of the ten exact nearest neighbours of real queries an index finds {LEAST_ANN_RECALL:.0%} or more.",
        indexes_find_nearest_neighbours,
    ),
    _check(
        "known_items_are_found",
        "The known items that the accepted evaluation found among ten results are still found.",
        known_items_are_found,
    ),
]
