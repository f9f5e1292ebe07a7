"""Filters: whatever a value contains, the expression has exactly the requested conditions and unchanged values."""

from __future__ import annotations

import re
import string
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from milvus_lite.schema.types import CollectionSchema, DataType, FieldSchema
from milvus_lite.search.filter import compile_filter, evaluate, parse_expr
from milvus_lite.search.filter import eval as evaluation
from milvus_lite.search.filter.ast import And, ArrayContainsOp, InOp

from rag_assets.pipeline.filters import MAX_CHARACTERS, Filters
from resources.embedded.array_filters import evaluate_arrays_by_column

NAMES = ("source", "source_type", "tags", "category", "author", "chunk_type")
#: Any text that PostgreSQL can store; characters with a meaning in expressions are more frequent.
TEXTS = st.text(
    st.one_of(
        st.characters(exclude_characters="\0", codec="utf-8"),
        st.sampled_from("\"'\\\n\r\t%_[](){}$\x7f\u2028" + string.ascii_letters),
    ),
    min_size=1,
    max_size=50,
)


@given(st.dictionaries(st.sampled_from(NAMES), st.lists(TEXTS, min_size=1, max_size=3), min_size=1))
def test_a_value_never_becomes_a_part_of_the_expression(conditions: dict[str, Any]) -> None:
    filters = Filters.of(conditions)
    parsed: Any = parse_expr(filters.expression())
    nodes = parsed.operands if isinstance(parsed, And) else [parsed]
    parsed_conditions = {}
    for node in nodes:
        assert isinstance(node, (InOp, ArrayContainsOp))
        field = node.value if isinstance(node, ArrayContainsOp) else node.field
        parsed_conditions[field.name] = [value.value for value in node.values.elements]  # pyright: ignore
    assert parsed_conditions == conditions
    assert filters.columns == conditions.keys()


@pytest.mark.parametrize("value", ["", "a\0b", "\ud800", "x" * 1001, 7, True, ["a", None]])
def test_a_value_that_no_store_can_contain_is_rejected(value: object) -> None:
    with pytest.raises(ValueError, match=r"tags: expected .*found"):
        Filters.of({"tags": value, "source": value})


def test_a_value_longer_than_its_field_is_rejected() -> None:
    for name, most in MAX_CHARACTERS.items():
        assert Filters.of({name: "é" * most})
        with pytest.raises(
            ValueError, match=re.escape(f"{name}: expected at most {most} characters")
        ):
            Filters.of({name: "é" * (most + 1)})


SCHEMA = CollectionSchema(
    [
        FieldSchema("id", DataType.VARCHAR, is_primary=True),
        FieldSchema("category", DataType.VARCHAR),
        FieldSchema("tags", DataType.ARRAY, element_type=DataType.VARCHAR),
    ],
    enable_dynamic_field=True,
)
FEW = st.sampled_from(["a", "b", "", 'quo"te', "é"])
ROWS = st.lists(st.tuples(FEW, st.lists(FEW, max_size=3)), max_size=9)


@given(ROWS, ROWS, st.lists(FEW, min_size=1), st.sets(st.sampled_from(["category", "colour"])))
def test_arrays_evaluated_by_column_find_the_rows_that_milvus_lite_finds_one_by_one(
    first: list[Any], second: list[Any], tags: list[str], others: set[str]
) -> None:
    arrow = pa.schema(
        {"category": pa.string(), "tags": pa.list_(pa.string()), "$meta": pa.string()}
    )
    parts = [
        pa.Table.from_pylist(
            [{"category": c, "tags": t, "$meta": '{"colour": "a"}'} for c, t in rows], arrow
        )
        for rows in (first, second)
    ]
    table = pa.concat_tables([parts[0], parts[1].slice(1)])
    conditions = [Filters(tags=tuple(tags)).expression(), *(f'{name} == "a"' for name in others)]
    compiled = compile_filter(" and ".join(conditions), SCHEMA)
    one_by_one = evaluation.evaluate_python
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluation, "evaluate_python", fail)
        evaluate_arrays_by_column()
        selected = evaluate(compiled, table)
        patch.setattr(evaluation, "evaluate_python", one_by_one)
    assert selected.to_pylist() == one_by_one(compiled, table).to_pylist()


def fail(*_: object) -> pa.BooleanArray:
    raise AssertionError("rows were evaluated one by one")
