"""Asset documents: the raw bytes as text with a title and a language, one row per document."""

from collections.abc import Iterator

import dagster as dg

from rag_assets.assets.run_stage import COMMON, run_stage
from rag_assets.assets.source_documents import source_documents
from rag_assets.ingestion.parse import find_idle_documents, sync_documents
from rag_assets.partitions import SOURCES
from resources.dagster_resources import ParsingResource, PostgresResource, StorageResource
from resources.parsing import PARSER_VERSION


@dg.asset(
    partitions_def=SOURCES,
    deps=[source_documents],
    kinds={"python", "postgres"},
    code_version=PARSER_VERSION,
    pool="postgres",
    **COMMON,
)
def documents(
    context: dg.AssetExecutionContext,
    postgres: PostgresResource,
    storage: StorageResource,
    parsing: ParsingResource,
) -> Iterator[dg.MaterializeResult]:
    """One row per document: its text decoded, parsed and repaired, its title, language and author. Table `documents`.

    A document that cannot be read is recorded as failed with the reason; its last good text is kept.
    Near-duplicates are marked (view `near_duplicates`), not dropped.
    """
    limits = parsing.limits()
    yield from run_stage(
        context,
        postgres,
        lambda stage: sync_documents(stage, storage.open(), limits),
        lambda connection, sources: find_idle_documents(connection, sources, limits),
    )
