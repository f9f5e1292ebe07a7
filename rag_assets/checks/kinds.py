"""Makes the checks of one kind of vectors: opens the stores and hands them to a plain function."""

from collections.abc import Callable
from contextlib import closing

import dagster as dg

from rag_assets.checks.results import check_each_source
from rag_assets.consistency.check_target import CheckTarget
from rag_assets.consistency.finding import Finding, not_applicable
from rag_assets.partitions import SOURCES
from rag_assets.pipeline.vectors import Kind
from resources.dagster_resources import (
    EmbedderResource,
    MilvusResource,
    PostgresResource,
    StorageResource,
    vector_stores,
)
from resources.postgres.connection import Connection
from resources.postgres.registry.sources import get_source


def check_of_kind(
    kind: Kind,
    name: str,
    fact: str,
    judge: Callable[[CheckTarget], Finding],
    *,
    also_dropped_kinds: bool = False,
) -> dg.AssetChecksDefinition:
    """`also_dropped_kinds`: check a kind that is no longer in RAG_VECTORS too, since rows of it may remain."""

    @dg.asset_check(
        asset=f"{kind}_vectors",
        name=name.format(kind=kind),
        description=fact,
        partitions_def=SOURCES,
    )
    def check(
        context: dg.AssetCheckExecutionContext,
        postgres: PostgresResource,
        milvus: MilvusResource,
        storage: StorageResource,
        embedder: EmbedderResource,
    ) -> dg.AssetCheckResult:
        if kind not in embedder.kinds and not also_dropped_kinds:
            kinds = ",".join(embedder.kinds)
            reason = f"{kind} is not among RAG_VECTORS={kinds}."
            return check_each_source(context, postgres, lambda *_: not_applicable(reason))
        with closing(milvus.open()) as store:
            stores = vector_stores(store, storage, milvus, embedder)

            def of_source(connection: Connection, source: str) -> Finding:
                return judge(CheckTarget(kind, get_source(connection, source), connection, stores))

            return check_each_source(context, postgres, of_source)

    return check
