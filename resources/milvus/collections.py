"""The three collections: fields, indexes, aliases; what is declared, and what a server has instead.

Fields are the schema reference's, and more: `source` (its name), what else searches filter by (author, category, tags,
chunk_type), `row_fingerprint` (what makes a row right), and in the multi collection `chunk_id`. Rows hold no text.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pymilvus import DataType
from pymilvus.client.types import ConsistencyLevel

from rag_assets.pipeline.vectors import Kind
from resources.errors import ConfigError

#: What readers call each collection; an alias of the physical one.
ALIASES: Mapping[Kind, str] = {
    "dense": "dense_collection",
    "sparse": "sparse_collection",
    "multi": "multi_collection",
}

#: Name of the vector field, and of its index, in each collection.
VECTOR_FIELD = "vector"
CONSISTENCY = "Strong"

#: What mends a collection whose fields are others than declared: no repair does.
REBUILD = "rag rebuild milvus"

#: Tags of a row, and bytes of each: what `rag_filter_tags` leaves of a document's (characters take up to four).
TAGS, TAG_BYTES = 64, 400

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

    @property
    def vector_type(self) -> DataType:
        sparse = self.kind == "sparse"
        return DataType.SPARSE_FLOAT_VECTOR if sparse else DataType.FLOAT_VECTOR

    @property
    def vector_parameters(self) -> dict[str, int]:
        return {} if self.kind == "sparse" else {"dim": self.dimension}


def scalars(kind: Kind) -> dict[str, tuple[DataType, dict[str, Any]]]:
    """What a row says besides its id and its vector: field -> type and parameters."""
    text: dict[str, Any] = {"max_length": 255}
    own: dict[Kind, dict[str, tuple[DataType, dict[str, Any]]]] = {
        "dense": {},
        "sparse": {"vocabulary_size": (DataType.INT32, {})},
        "multi": {
            "chunk_id": (DataType.VARCHAR, text),
            "token_count": (DataType.INT32, {}),
            "token_positions": (DataType.JSON, {}),
        },
    }
    return own[kind] | {
        "document_id": (DataType.VARCHAR, text),
        "source_type": (DataType.VARCHAR, text),
        "source": (DataType.VARCHAR, {"max_length": 1020}),
        "language": (DataType.VARCHAR, {"max_length": 2}),
        "chunk_position": (DataType.INT32, {}),
        "created_timestamp": (DataType.INT64, {}),
        # Milvus counts bytes, PostgreSQL characters.
        "chunk_type": (DataType.VARCHAR, {"max_length": 4 * 50}),
        "author": (DataType.VARCHAR, {"max_length": 4 * 255}),
        "category": (DataType.VARCHAR, {"max_length": 4 * 100}),
        "tags": (
            DataType.ARRAY,
            {"element_type": DataType.VARCHAR, "max_capacity": TAGS, "max_length": TAG_BYTES},
        ),
        "row_fingerprint": (DataType.VARCHAR, {"max_length": 64}),
    }


def create(client: Client, name: str, layout: Layout, timeout: float) -> None:
    """Creates the collection with its index and loads it."""
    schema = client.create_schema(auto_id=False, enable_dynamic_field=True)
    schema.add_field("id", DataType.VARCHAR, max_length=255, is_primary=True)
    schema.add_field(VECTOR_FIELD, layout.vector_type, **layout.vector_parameters)
    for field, (data_type, parameters) in scalars(layout.kind).items():
        schema.add_field(field, data_type, **parameters)
    client.create_collection(
        name,
        schema=schema,
        num_shards=layout.shards,
        consistency_level=CONSISTENCY,
        timeout=timeout,
        # Milvus Lite numbers every collection 0, and keeps properties; other servers number them apart.
        **({"properties": {_IDENTITY: str(uuid.uuid4())}} if is_lite(client) else {}),
    )
    # Of no rows an index is made at once; waiting for it, pymilvus would sleep half a second before it looks.
    client.create_index(name, _index(client, layout), timeout=timeout, sync=False)
    client.load_collection(name, timeout=timeout)


def require_fields(client: Client, name: str, layout: Layout, timeout: float) -> None:
    """Raises ConfigError where an existing collection has not the declared fields: they are settled when it is made."""
    description = client.describe_collection(name, timeout=timeout)
    refuse_other_fields(name, _compare_fields(description, layout))


def refuse_other_fields(name: str, facts: Iterable[Comparison]) -> None:
    wrong = [fact for fact in facts if fact.part == "fields" and fact.differs]
    if wrong:
        raise ConfigError(
            f"{name} was made with other fields than are declared, by an earlier version or another model:\n  "
            + "\n  ".join(
                f"{fact.fact}: expected {fact.declared}, found {fact.actual}" for fact in wrong
            )
            + f"\nNothing was written to it. Make it anew, from Parquet and without a model call: {REBUILD}"
        )


def make_index(client: Client, name: str, layout: Layout, timeout: float) -> None:
    """Makes the index the declared one, of the rows that are there. Searches wait until it is loaded again."""
    client.release_collection(name, timeout=timeout)
    if VECTOR_FIELD in client.list_indexes(name):
        client.drop_index(name, VECTOR_FIELD, timeout=timeout)
    client.create_index(name, _index(client, layout), timeout=timeout)
    client.load_collection(name, timeout=timeout)


def _index(client: Client, layout: Layout) -> Any:
    index = client.prepare_index_params()
    index.add_index(
        VECTOR_FIELD,
        index_name=VECTOR_FIELD,
        index_type=layout.index["index_type"],
        metric_type=layout.index["metric_type"],
        params=dict(layout.index.get("params", {})),
    )
    return index


def identity(client: Client, name: str, timeout: float) -> str:
    """What tells a collection from one of the same name that was made after it was lost."""
    description = client.describe_collection(name, timeout=timeout)
    return (
        f"{description.get('collection_id')}:{description.get('properties', {}).get(_IDENTITY, '')}"
    )


def is_lite(client: Client) -> bool:
    """Whether it is Milvus Lite: `milvus_lite-3.2.2`. (The server in the wheel `milvus` says `v2.3.5-lite`.)"""
    return client.get_server_version().startswith("milvus_lite")


@dataclass(frozen=True, slots=True)
class Comparison:
    """One fact of a collection, as declared and as the server reports it; None: this server does not report it.

    `part` says what mends it: the collection is made anew (with other fields no row can be written), its index is, or
    it is loaded.
    """

    fact: str
    declared: object
    actual: object
    part: Literal["collection", "fields", "index", "load"]

    @property
    def differs(self) -> bool:
        return self.actual is not None and str(self.actual) != str(self.declared)


def compare(client: Client, name: str, layout: Layout, timeout: float) -> list[Comparison]:
    """Fact by fact, what is declared and what the server has. Of a collection that is not there, only that."""
    if not client.has_collection(name, timeout=timeout):
        return [Comparison("collection", name, "none", "collection")]
    description = client.describe_collection(name, timeout=timeout)
    state = client.get_load_state(name, timeout=timeout).get("state")
    return [
        Comparison("collection", name, name, "collection"),
        *_compare_fields(description, layout),
        # Milvus Lite says 1 shard and Strong whatever was asked for.
        *(
            Comparison(fact, declared, None if is_lite(client) else actual, "collection")
            for fact, declared, actual in (
                ("shards", layout.shards, description.get("num_shards")),
                ("consistency level", CONSISTENCY, _consistency(description)),
            )
        ),
        *_compare_index(client, name, layout, timeout),
        Comparison("load state", "Loaded", getattr(state, "name", state), "load"),
    ]


def _compare_fields(description: Mapping[str, Any], layout: Layout) -> Iterator[Comparison]:
    fields = {field["name"]: field for field in description["fields"]}

    def type_of(field: str) -> str:
        return DataType(fields[field]["type"]).name if field in fields else "none"

    primary = [field for field, found in fields.items() if found.get("is_primary")]
    yield Comparison("primary key", "id", ", ".join(primary) or "none", "fields")
    yield Comparison("field id", DataType.VARCHAR.name, type_of("id"), "fields")
    declared = layout.vector_type.name
    yield Comparison(f"field {VECTOR_FIELD}", declared, type_of(VECTOR_FIELD), "fields")
    if layout.kind != "sparse":
        found = fields.get(VECTOR_FIELD, {}).get("params", {}).get("dim", "none")
        yield Comparison("dimension", layout.dimension, found, "fields")
    for field, (data_type, _) in scalars(layout.kind).items():
        yield Comparison(f"field {field}", data_type.name, type_of(field), "fields")


def _compare_index(
    client: Client, name: str, layout: Layout, timeout: float
) -> Iterator[Comparison]:
    if VECTOR_FIELD not in client.list_indexes(name):
        yield Comparison("index", layout.index["index_type"], "none", "index")
        return
    index = client.describe_index(name, VECTOR_FIELD, timeout=timeout)
    for key in ("index_type", "metric_type"):
        yield Comparison(key, layout.index[key], index.get(key, "none"), "index")
    for key, value in layout.index.get("params", {}).items():
        actual = index.get(key, (index.get("params") or {}).get(key))
        yield Comparison(key, float(value), None if actual is None else float(actual), "index")
    state = index.get("state")
    yield Comparison("index state", "Finished", "Finished" if state == 3 else state, "index")


def _consistency(description: Mapping[str, Any]) -> object:
    level = description.get("consistency_level")
    return ConsistencyLevel.Name(level) if isinstance(level, int) else level
