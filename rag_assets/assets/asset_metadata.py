"""The metadata of the assets' definitions: the table, its columns and their lineage, its address, and their page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dagster as dg

from rag_assets.assets.columns import COLUMNS, LINEAGE
from rag_assets.assets.documentation import documentation
from rag_assets.pipeline.vectors import KINDS
from rag_assets.settings.load import Settings
from resources.milvus.collections import ALIASES
from resources.urls import without_secrets

#: Asset -> the page that explains it.
_PAGES: Mapping[str, str] = {
    "source_documents": "how-to/add-a-source.md",
    "retrieval_evaluation": "how-to/measure-retrieval.md",
    "compacted_embeddings": "explanation/data-model.md",
}
#: Asset -> the table of PostgreSQL that contains it.
_TABLES: Mapping[str, str] = {
    "source_documents": "source_entries",
    "documents": "documents",
    "document_chunks": "document_chunks",
    "retrieval_evaluation": "retrieval_evaluations",
}
_FILES: Mapping[str, str] = {
    "source_documents": "raw",
    "chunk_embeddings": "embeddings",
    "compacted_embeddings": "embeddings",
}


def definition_metadata(asset: str, settings: Settings) -> dict[str, Any]:
    """Return the metadata of an asset's definition, under Dagster's names where it has some."""
    metadata: dict[str, Any] = {
        "docs": documentation(_PAGES.get(asset, "explanation/data-model.md"))
    }
    if table := _TABLES.get(asset):
        metadata |= {"dagster/table_name": f"public.{table}", "dagster/storage_kind": "postgres"}
    if folder := _FILES.get(asset):
        storage = without_secrets(settings.effective_storage_url).rstrip("/")
        metadata["dagster/uri"] = f"{storage}/{folder}"
    for kind in KINDS:
        if asset == f"{kind}_vectors":
            metadata |= {"dagster/table_name": ALIASES[kind], "dagster/storage_kind": "milvus"}
            if settings.milvus_uri:
                metadata["dagster/uri"] = without_secrets(settings.milvus_uri)
    if asset in COLUMNS:
        metadata["dagster/column_schema"] = column_schema(asset)
    if asset in LINEAGE:
        metadata["dagster/column_lineage"] = dg.TableColumnLineage(
            {
                column: [dg.TableColumnDep(dg.AssetKey(name), source) for name, source in sources]
                for column, sources in LINEAGE[asset].items()
            }
        )
    return metadata


def column_schema(asset: str, actual: Mapping[str, str] | None = None) -> dg.TableSchema:
    """Return the columns of an asset. `actual`: column -> type, as the store reports them."""
    declared = COLUMNS[asset]
    types = actual or {name: kind for name, (kind, _) in declared.items()}
    return dg.TableSchema(
        [
            dg.TableColumn(name, kind, description=declared[name][1] if name in declared else None)
            for name, kind in types.items()
        ]
    )
