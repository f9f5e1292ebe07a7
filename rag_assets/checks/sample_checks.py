"""Checks of a random sample of one source's rows in Milvus: the quick form of `…_vectors_match_postgres`."""

from contextlib import closing

import dagster as dg

from rag_assets.checks.results import check_each_source
from rag_assets.consistency.finding import Finding
from rag_assets.consistency.quick_comparison import vectors_sample_matches_postgres
from rag_assets.partitions import SOURCES
from rag_assets.pipeline.vectors import KINDS, Kind
from resources.dagster_resources import EmbedderResource, MilvusResource, PostgresResource
from resources.postgres.connection import Connection
from resources.postgres.registry.sources import get_source


def _sample_check(kind: Kind) -> dg.AssetChecksDefinition:
    full_check = f"{kind}_vectors_match_postgres"

    @dg.asset_check(
        asset=f"{kind}_vectors",
        name=f"{kind}_vectors_sample_matches_postgres",
        description="A random sample shows no drift. Only the full form can exclude drift.",
        partitions_def=SOURCES,
    )
    def check(
        context: dg.AssetCheckExecutionContext,
        postgres: PostgresResource,
        milvus: MilvusResource,
        embedder: EmbedderResource,
    ) -> dg.AssetCheckResult:
        with closing(milvus.open()) as store:

            def of_source(connection: Connection, name: str) -> Finding:
                source = get_source(connection, name)
                return vectors_sample_matches_postgres(
                    connection, store, kind, source, full_check, kept=kind in embedder.kinds
                )

            return check_each_source(context, postgres, of_source, quick_form_of=full_check)

    return check


QUICK_CHECKS: list[dg.AssetChecksDefinition] = [_sample_check(kind) for kind in KINDS]
