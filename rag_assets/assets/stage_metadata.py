"""The evidence of a stage as the metadata of a materialization."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, LiteralString

import dagster as dg

from rag_assets.assets.asset_metadata import column_schema
from rag_assets.ingestion.stage import Outcome
from resources.postgres.connection import Connection
from resources.postgres.table_sample import total_rows, total_rows_in_milvus

#: Asset -> the table that has a row for each of its rows.
_TABLES: Mapping[str, LiteralString] = {
    "source_documents": "source_entries",
    "documents": "documents",
    "document_chunks": "document_chunks",
    "chunk_embeddings": "embeddings",
}


def stage_metadata(asset: str, outcome: Outcome, seconds: float) -> dict[str, Any]:
    """Return the metadata of one partition. Dagster charts each number under its own name."""
    values: dict[str, Any] = {
        "plan": dg.MetadataValue.json(outcome.plan.as_dict()),
        **outcome.plan.as_dict(),
        "seconds": round(seconds, 3),
        "dagster/partition_row_count": outcome.rows,
        **outcome.metadata,
    }
    for name, rows in outcome.tables.items():
        values[name] = dg.MetadataValue.table([dg.TableRecord(dict(row)) for row in rows])
    if outcome.columns:
        # A stage of vectors reports the table of the chunks; its own rows are in Milvus.
        actual = None if asset.endswith("_vectors") else dict(outcome.columns)
        values["dagster/column_schema"] = column_schema(asset, actual)
    if outcome.sample:
        values["sample"] = dg.MetadataValue.table(
            [
                dg.TableRecord({name: str(value) for name, value in row.items()})
                for row in outcome.sample
            ],
            schema=dg.TableSchema([dg.TableColumn(name, "string") for name in outcome.sample[0]]),
        )
    return values


def total_metadata(connection: Connection, asset: str) -> dict[str, Any]:
    """Return the number of rows of all sources, unless counting takes long.

    Without it, the overview of an asset shows that of one partition.
    """
    if table := _TABLES.get(asset):
        return {"dagster/row_count": total_rows(connection, table)}
    kind = asset.removesuffix("_vectors")
    total = total_rows_in_milvus(connection, kind)
    return {} if total is None else {"dagster/row_count": total}
