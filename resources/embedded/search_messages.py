"""Messages of Milvus Lite's searches by columns, where Milvus Lite runs Python for each number and each hit.

It unpacks a query into a list of 1,024 numbers, and makes three dictionaries and a JSON text of each hit, although only
ids are asked for: half of the processor time of a search. The equal message takes a tenth of that. Its own functions
make the messages of all other searches. Loaded only in the process of Milvus Lite.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from pymilvus.grpc_gen import common_pb2, schema_pb2

from resources.embedded import milvus_lite_internals as lite


def replace_messages() -> None:
    """Replace the functions of Milvus Lite in this process."""
    lite.servicer.build_search_result_data = functools.partial(
        build_results, original=lite.servicer.build_search_result_data
    )
    lite.search_translator._decode_placeholder_group = functools.partial(
        decode_queries, original=lite.search_translator._decode_placeholder_group
    )


def build_results(
    results: Sequence[Sequence[dict[str, Any]]],
    schema: Any,
    top_k: int,
    pk_name: str,
    *,
    original: Callable[..., Any],
    **options: Any,
) -> Any:
    """`build_search_result_data` of Milvus Lite, which describes the arguments."""
    plan: Any = options.get("projection_plan")
    if not _is_of_ids(plan, schema, pk_name) or options.get("group_by_field") is not None:
        return original(results, schema, top_k, pk_name, **options)
    pks = [hit["id"] for hits in results for hit in hits]
    ids = schema_pb2.IDs()
    ids.str_id.data.extend(pks)
    message = schema_pb2.SearchResultData(
        num_queries=len(results),
        top_k=top_k,
        scores=[hit["distance"] for hits in results for hit in hits],
        ids=ids,
        topks=[len(hits) for hits in results],
        output_fields=plan.response_schema_fields,
        primary_field_name=pk_name,
    )
    if plan.response_schema_fields:
        column = message.fields_data.add(field_name=pk_name, type=schema_pb2.DataType.VarChar)
        column.scalars.string_data.data.extend(pks)
    if schema.enable_dynamic_field:
        column = message.fields_data.add(
            field_name="$meta", type=schema_pb2.DataType.JSON, is_dynamic=True
        )
        column.scalars.json_data.data.extend([b"{}"] * len(pks))
    return message


def decode_queries(placeholders: bytes, *, original: Callable[[bytes], list[Any]]) -> list[Any]:
    """`_decode_placeholder_group` of Milvus Lite: a list of vectors, here as arrays if they are dense."""
    group = common_pb2.PlaceholderGroup()
    group.ParseFromString(placeholders)
    # Milvus Lite reads the first one, too.
    for queries in group.placeholders[:1]:
        is_dense = queries.type == common_pb2.PlaceholderType.FloatVector
        if is_dense and queries.values and all(map(_is_vector, queries.values)):
            return [np.frombuffer(value, "<f4") for value in queries.values]
    return original(placeholders)


def _is_vector(value: bytes) -> bool:
    return len(value) > 0 and len(value) % 4 == 0


def _is_of_ids(plan: Any, schema: Any, pk_name: str) -> bool:
    """Whether hits have no other field than the id, and the id is a text."""
    return (
        plan is not None
        and plan.response_schema_fields in ((), (pk_name,))
        and not plan.explicit_dynamic_fields
        and not plan.include_all_dynamic
        and any(
            field.is_primary and field.dtype == lite.DataType.VARCHAR for field in schema.fields
        )
    )
