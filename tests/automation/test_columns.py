"""The columns that the UI describes are those of the stores."""

from __future__ import annotations

from typing import LiteralString

import pytest

from rag_assets.assets.columns import COLUMNS
from rag_assets.pipeline.vectors import KINDS, Kind
from resources.milvus.collections import VECTOR_FIELD, Layout, scalars
from resources.postgres.table_sample import table_columns
from tests.support.world import World


def test_the_columns_of_the_tables(world: World) -> None:
    tables: dict[str, LiteralString] = {
        "source_documents": "source_entries",
        "documents": "documents",
        "document_chunks": "document_chunks",
    }
    for asset, table in tables.items():
        described = {name: kind for name, (kind, _) in COLUMNS[asset].items()}
        assert described == dict(table_columns(world.connection, table)), table


@pytest.mark.parametrize("kind", KINDS)
def test_the_fields_of_the_collections(kind: Kind) -> None:
    fields = {field: data_type.name for field, (data_type, _) in scalars(kind).items()}
    fields |= {"id": "VARCHAR", VECTOR_FIELD: Layout(kind, 4, {}).vector_type.name}
    assert {
        name: type_name for name, (type_name, _) in COLUMNS[f"{kind}_vectors"].items()
    } == fields


def test_every_column_is_described() -> None:
    meanings = [meaning for columns in COLUMNS.values() for _, meaning in columns.values()]
    assert all(meanings)
    # The UI would take it for HTML.
    assert not any("<" in meaning for meaning in meanings)
