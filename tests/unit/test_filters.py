"""Filters: whatever a value contains, the expression has exactly the requested conditions and unchanged values."""

from __future__ import annotations

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

from rag_assets.pipeline.filters import Filters
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
    assert parsed_conditions == {name: list(getattr(filters, name)) for name in conditions}
    assert filters.columns == conditions.keys()


@pytest.mark.parametrize("value", ["", "\ud800", 7, True, ["a", None]])
def test_a_value_that_no_store_can_contain_is_rejected(value: object) -> None:
    with pytest.raises(ValueError, match=r"tags: expected .*found"):
        Filters.of({"tags": value, "source": value})


@pytest.mark.parametrize("value", ["a\0b", "x" * 1001])
def test_a_name_that_no_source_can_have_is_rejected(value: str) -> None:
    with pytest.raises(ValueError, match=r"source: expected .*found"):
        Filters.of({"source": value})


def test_of_a_value_longer_than_its_field_the_beginning_is_searched_for() -> None:
    for name, most in (("tags", 100), ("category", 100), ("author", 255)):
        assert getattr(Filters.of({name: "é" * 300}), name) == ("é" * most,)
    with pytest.raises(ValueError, match="chunk_type: expected at most 50 characters, found 51"):
        Filters.of({"chunk_type": "é" * 51})


@pytest.mark.parametrize(
    "value", ["Café olé", "Cafe\u0301  ole\u0301 ", "Ca\u00adfé\u200b olé\u2060"]
)
def test_a_value_in_another_form_finds_the_stored_one(value: str) -> None:
    for name in ("tags", "category", "author"):
        assert "Café olé" in getattr(Filters.of({name: value}), name)
        assert "Café olé" in Filters(tags=(value,)).tags


def test_a_value_that_plain_sql_stored_in_another_form_is_found_as_it_is() -> None:
    assert "Cafe\u0301" in Filters.of({"category": "Cafe\u0301"}).category


def test_the_name_of_a_source_is_found_in_any_normal_form() -> None:
    for name in ("café", "cafe\u0301"):
        assert {"café", "cafe\u0301"} <= set(Filters.of({"source": name}).source)
    # Two blanks are another name than one.
    assert Filters.of({"source": "a  b"}).source == ("a  b",)


def test_rows_of_unknown_language_meet_a_condition_on_the_language() -> None:
    filters = Filters.of({"language": ["ja", "de"]})
    assert filters.expression() == '(language in ["ja", "de"] or language == "")'


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
