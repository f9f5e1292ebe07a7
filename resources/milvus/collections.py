"""The three collections: fields, indexes, aliases, and the comparison of the declared with the actual ones.

Fields of the schema reference, and further ones: `source` (its name), the other fields that searches filter by (author,
category, tags, chunk_type), `row_fingerprint` (it identifies the correct content of a row), and `chunk_id` in the multi
collection. Rows contain no text.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

from rag_assets.pipeline.vectors import Kind
from resources.errors import ConfigError
from resources.milvus.driver import ConsistencyLevel, DataType, MilvusException

#: The alias of each physical collection; readers use only aliases.
ALIASES: Mapping[Kind, str] = {
    "dense": "dense_collection",
    "sparse": "sparse_collection",
    "multi": "multi_collection",
}

#: Name of the vector field and of its index in each collection.
VECTOR_FIELD = "vector"
CONSISTENCY = "Strong"

#: The command that fixes a collection with other fields than declared; `rag repair` cannot.
REBUILD = "rag rebuild milvus"

#: Maximum tags of a row and bytes of a tag: the limits of `rag_filter_tags` (a character takes up to four bytes).
TAGS, TAG_BYTES = 64, 400

#: A MilvusClient. pymilvus declares each method as function and as coroutine at once; no type checker can follow.
Client = Any

_IDENTITY = "rag.identity"


@dataclass(frozen=True)
class Layout:
    """The declaration of a collection. `index` has index_type, metric_type and params."""

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
    """The fields of a row besides its id and its vector: field -> type and parameters."""
    text: dict[str, Any] = {"max_length": 255}
    kind_fields: dict[Kind, dict[str, tuple[DataType, dict[str, Any]]]] = {
        "dense": {},
        "sparse": {"vocabulary_size": (DataType.INT32, {})},
        "multi": {
            "chunk_id": (DataType.VARCHAR, text),
            "token_count": (DataType.INT32, {}),
            "token_positions": (DataType.JSON, {}),
        },
    }
    return kind_fields[kind] | {
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
    """Create the collection with its index and load it. Without its index it would not stay: nothing can read it."""
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
        # Milvus Lite numbers every collection 0 and keeps properties; other servers number each one differently.
        **({"properties": {_IDENTITY: str(uuid.uuid4())}} if is_lite(client) else {}),
    )
    try:
        _create_index(client, name, layout, timeout)
    except MilvusException:
        # A concurrent sync may have created it too, with the index: then its rows must stay.
        with suppress(MilvusException):
            if not client.list_indexes(name):
                client.drop_collection(name, timeout=timeout)
        raise
    client.load_collection(name, timeout=timeout)


def load(client: Client, name: str, layout: Layout, timeout: float) -> None:
    """Load the collection. Create its index first if a process was killed before it did."""
    try:
        client.load_collection(name, timeout=timeout)
    except MilvusException:
        if client.list_indexes(name):
            raise
        _create_index(client, name, layout, timeout)
        client.load_collection(name, timeout=timeout)


def _create_index(client: Client, name: str, layout: Layout, timeout: float) -> None:
    # Without rows the index is built at once. With sync=True, pymilvus sleeps half a second before it looks.
    client.create_index(name, _index(client, layout), timeout=timeout, sync=False)


def require_fields(client: Client, name: str, layout: Layout, timeout: float) -> None:
    """Raise ConfigError if an existing collection lacks the declared fields: fields cannot change after creation."""
    description = client.describe_collection(name, timeout=timeout)
    require_declared_fields(name, _compare_fields(description, layout))


def require_declared_fields(name: str, facts: Iterable[Comparison]) -> None:
    """Raise ConfigError if one of the facts is a field that differs from its declaration."""
    wrong = [fact for fact in facts if fact.part == "fields" and fact.differs]
    if wrong:
        raise ConfigError(
            f"{name} was created with other fields than declared, by an earlier version or another model:\n  "
            + "\n  ".join(
                f"{fact.fact}: expected {fact.declared}, found {fact.actual}" for fact in wrong
            )
            + f"\nNothing was written to it. Create it again from Parquet, without a model call: {REBUILD}"
        )


def make_index(client: Client, name: str, layout: Layout, timeout: float) -> None:
    """Replace the index with the declared one over the existing rows. Searches wait until it is loaded again."""
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
    """The identity of a collection: another one of the same name, created after a loss, has another identity."""
    description = client.describe_collection(name, timeout=timeout)
    return (
        f"{description.get('collection_id')}:{description.get('properties', {}).get(_IDENTITY, '')}"
    )


def is_lite(client: Client) -> bool:
    """Whether it is Milvus Lite (`milvus_lite-3.2.2`). The server of the wheel `milvus` reports `v2.3.5-lite`."""
    return client.get_server_version().startswith("milvus_lite")


@dataclass(frozen=True, slots=True)
class Comparison:
    """One fact of a collection: the declared and the actual value. `actual` is None if this server does not report it.

    `part` is the part to fix: create the collection again (also for other fields, as no row can be written), build its
    index again, or load it.
    """

    fact: str
    declared: object
    actual: object
    part: Literal["collection", "fields", "index", "load"]

    @property
    def differs(self) -> bool:
        return self.actual is not None and str(self.actual) != str(self.declared)


def compare(client: Client, name: str, layout: Layout, timeout: float) -> list[Comparison]:
    """The declared and the actual facts. For a missing collection, the only fact is that it is missing."""
    if not client.has_collection(name, timeout=timeout):
        return [Comparison("collection", name, "none", "collection")]
    description = client.describe_collection(name, timeout=timeout)
    state = client.get_load_state(name, timeout=timeout).get("state")
    return [
        Comparison("collection", name, name, "collection"),
        *_compare_fields(description, layout),
        # Milvus Lite reports 1 shard and Strong for every collection.
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

    primary = [name for name, description in fields.items() if description.get("is_primary")]
    yield Comparison("primary key", "id", ", ".join(primary) or "none", "fields")
    yield Comparison("field id", DataType.VARCHAR.name, type_of("id"), "fields")
    declared = layout.vector_type.name
    yield Comparison(f"field {VECTOR_FIELD}", declared, type_of(VECTOR_FIELD), "fields")
    if layout.kind != "sparse":
        dimension = fields.get(VECTOR_FIELD, {}).get("params", {}).get("dim", "none")
        yield Comparison("dimension", layout.dimension, dimension, "fields")
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
