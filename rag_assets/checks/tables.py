"""Checks inside PostgreSQL: documents, document_chunks and the outbox of deletions."""

from collections.abc import Callable

import dagster as dg

from rag_assets.checks.results import check_each_source
from rag_assets.consistency import table_findings
from rag_assets.consistency.finding import Finding
from rag_assets.partitions import SOURCES
from resources.dagster_resources import EmbedderResource, LimitsResource, PostgresResource
from resources.postgres.connection import Connection
from resources.postgres.registry.sources import SourceRow, get_source


def _chunk_check(
    name: str, fact: str, judge: Callable[[Connection, SourceRow], Finding]
) -> dg.AssetChecksDefinition:
    """A check that must pass before anything is published."""

    @dg.asset_check(
        asset="document_chunks",
        name=name,
        description=fact,
        blocking=True,
        partitions_def=SOURCES,
    )
    def check(
        context: dg.AssetCheckExecutionContext, postgres: PostgresResource
    ) -> dg.AssetCheckResult:
        return check_each_source(
            context,
            postgres,
            lambda connection, name: judge(connection, get_source(connection, name)),
        )

    return check


chunks_have_documents = _chunk_check(
    "chunks_have_documents",
    table_findings.DOCUMENTS_FACT,
    table_findings.chunks_have_documents,
)
chunk_positions_are_contiguous = _chunk_check(
    "chunk_positions_are_contiguous",
    table_findings.POSITIONS_FACT,
    table_findings.chunk_positions_are_contiguous,
)


@dg.asset_check(asset="documents", description=table_findings.STATUSES_FACT, partitions_def=SOURCES)
def statuses_agree(
    context: dg.AssetCheckExecutionContext, postgres: PostgresResource, embedder: EmbedderResource
) -> dg.AssetCheckResult:
    return check_each_source(
        context,
        postgres,
        lambda connection, name: table_findings.statuses_agree(
            connection, get_source(connection, name), embedder.kinds
        ),
    )


@dg.asset_check(
    asset="document_chunks",
    description="Deleted chunks have left Milvus, or wait for it no longer than they may.",
    partitions_def=SOURCES,
)
def deleted_chunks_have_left_milvus(
    context: dg.AssetCheckExecutionContext, postgres: PostgresResource, limits: LimitsResource
) -> dg.AssetCheckResult:
    return check_each_source(
        context,
        postgres,
        lambda connection, name: table_findings.deleted_chunks_have_left_milvus(
            connection, get_source(connection, name), limits.outbox_seconds
        ),
    )


TABLE_CHECKS: list[dg.AssetChecksDefinition] = [
    chunks_have_documents,
    chunk_positions_are_contiguous,
    deleted_chunks_have_left_milvus,
    statuses_agree,
]
