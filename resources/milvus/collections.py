"""The three collections: fields, indexes, aliases; what is declared, and what a server has instead.

Fields are the schema reference's, and three more: `source` (its name), `row_fingerprint` (what makes a row right), and
in the multi collection `chunk_id`. Rows hold no text.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pymilvus import DataType

from rag_assets.pipeline.vectors import Kind

#: What readers call each collection; an alias of the physical one.
ALIASES: Mapping[Kind, str] = {
    "dense": "dense_collection",
    "sparse": "sparse_collection",
    "multi": "multi_collection",
}

#: Name of the vector field, and of its index, in each collection.
VECTOR_FIELD = "vector"


#: A MilvusClient. pymilvus declares each method as plain and as coroutine at once, which no type checker can follow.
Client = Any

_IDENTITY = "rag.identity"


@dataclass(frozen=True)
class Layout:
    """What a collection is declared to be. `index` has index_type, metric_type and params."""

    kind: Kind
    dimension: int
    index: Mapping[str, Any]
    shards: int = 2


def create(client: Client, name: str, layout: Layout, timeout: float) -> None:
    """Creates the collection with its index and loads it."""
    schema = client.create_schema(auto_id=False, enable_dynamic_field=True)
    schema.add_field("id", DataType.VARCHAR, max_length=255, is_primary=True)
    if layout.kind == "sparse":
        schema.add_field(VECTOR_FIELD, DataType.SPARSE_FLOAT_VECTOR)
        schema.add_field("vocabulary_size", DataType.INT32)
    else:
        schema.add_field(VECTOR_FIELD, DataType.FLOAT_VECTOR, dim=layout.dimension)
    if layout.kind == "multi":
        schema.add_field("chunk_id", DataType.VARCHAR, max_length=255)
        schema.add_field("token_count", DataType.INT32)
        schema.add_field("token_positions", DataType.JSON)
    schema.add_field("document_id", DataType.VARCHAR, max_length=255)
    schema.add_field("source_type", DataType.VARCHAR, max_length=255)
    schema.add_field("source", DataType.VARCHAR, max_length=1020)
    schema.add_field("language", DataType.VARCHAR, max_length=2)
    schema.add_field("chunk_position", DataType.INT32)
    schema.add_field("created_timestamp", DataType.INT64)
    schema.add_field("row_fingerprint", DataType.VARCHAR, max_length=64)
    index = client.prepare_index_params()
    index.add_index(
        VECTOR_FIELD,
        index_name=VECTOR_FIELD,
        index_type=layout.index["index_type"],
        metric_type=layout.index["metric_type"],
        params=dict(layout.index.get("params", {})),
    )
    client.create_collection(
        name,
        schema=schema,
        index_params=index,
        num_shards=layout.shards,
        consistency_level="Strong",
        timeout=timeout,
        # Milvus Lite numbers every collection 0, and keeps properties; other servers number them apart.
        **({"properties": {_IDENTITY: str(uuid.uuid4())}} if is_lite(client) else {}),
    )


def identity(client: Client, name: str, timeout: float) -> str:
    """What tells a collection from one of the same name that was made after it was lost."""
    description = client.describe_collection(name, timeout=timeout)
    return (
        f"{description.get('collection_id')}:{description.get('properties', {}).get(_IDENTITY, '')}"
    )


def is_lite(client: Client) -> bool:
    return "lite" in client.get_server_version()


def differences(client: Client, name: str, layout: Layout, timeout: float) -> list[str]:
    """What the server's collection has otherwise than declared, a sentence each; empty when all is as it should be."""
    if not client.has_collection(name, timeout=timeout):
        return [f"{name}: expected a collection, found none"]
    found: list[str] = []
    description = client.describe_collection(name, timeout=timeout)
    fields = {field["name"]: field for field in description["fields"]}
    wanted_type = DataType.SPARSE_FLOAT_VECTOR if layout.kind == "sparse" else DataType.FLOAT_VECTOR
    vector = fields.get(VECTOR_FIELD)
    if vector is None or vector["type"] != wanted_type:
        found.append(
            f"{name}.{VECTOR_FIELD}: expected {wanted_type.name}, found {vector and vector['type']!r}"
        )
    elif layout.kind != "sparse" and int(vector["params"].get("dim", 0)) != layout.dimension:
        found.append(
            f"{name}: expected dimension {layout.dimension}, found {vector['params'].get('dim')}"
        )
    state = client.get_load_state(name, timeout=timeout).get("state")
    if getattr(state, "name", str(state)) != "Loaded":
        found.append(f"{name}: expected to be loaded, found {getattr(state, 'name', state)}")
    if VECTOR_FIELD not in client.list_indexes(name):
        return [*found, f"{name}: expected an index on {VECTOR_FIELD}, found none"]
    index = client.describe_index(name, VECTOR_FIELD, timeout=timeout)
    for key in ("index_type", "metric_type"):
        if index.get(key) != layout.index[key]:
            found.append(f"{name}: expected {key} {layout.index[key]}, found {index.get(key)}")
    for key, value in layout.index.get("params", {}).items():
        actual = index.get(key, (index.get("params") or {}).get(key))
        if actual is not None and float(actual) != float(value):
            found.append(f"{name}: expected {key} {value}, found {actual}")
    if index.get("state") not in (None, "Finished", 3):
        found.append(f"{name}: expected a finished index, found {index.get('state')}")
    return found
