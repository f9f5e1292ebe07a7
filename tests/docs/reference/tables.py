"""The page of tables: PostgreSQL's from the catalog of a migrated database, Milvus's from their declarations."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import psycopg
from psycopg.rows import class_row
from pymilvus import DataType

from rag_assets.assets.columns import COLUMNS
from rag_assets.pipeline.vectors import KINDS, Kind
from resources.milvus.collections import ALIASES, VECTOR_FIELD, scalars
from tests.docs.reference import deviations
from tests.docs.reference.markdown import code, table
from tests.docs.reference.markdown import page as markdown_page

INTRODUCTION = """\
The tables are in the schema `public` of the database that `RAG_POSTGRES_URL` names. The same comments are in the
database: `\\d+ documents` in psql shows them. Read any of them; write `sources` and `documents` only: triggers bring
the change to Milvus. Dagster's own tables, in the schema `dagster`, and Alembic's are not listed."""

_SHORT_TYPES = (
    (re.compile(r"character varying"), "varchar"),
    (re.compile(r"character(?=\()"), "char"),
    (re.compile(r"timestamp with time zone"), "timestamptz"),
    (re.compile(r"double precision"), "float8"),
)


class Column(NamedTuple):
    relation: str
    is_view: bool
    relation_comment: str | None
    name: str
    type: str
    not_null: bool
    default: str | None
    generated: bool
    comment: str | None


class Index(NamedTuple):
    relation: str
    definition: str


def columns(url: str) -> list[Column]:
    """Return the columns of every table and view, without the monthly partitions."""
    with (
        psycopg.connect(url) as connection,
        connection.cursor(row_factory=class_row(Column)) as cursor,
    ):
        return cursor.execute(
            """SELECT c.relname AS relation, c.relkind = 'v' AS is_view,
                 obj_description(c.oid, 'pg_class') AS relation_comment, a.attname AS name,
                 format_type(a.atttypid, a.atttypmod) AS type, a.attnotnull AS not_null,
                 pg_get_expr(d.adbin, d.adrelid) AS default, a.attgenerated <> '' AS generated,
                 col_description(c.oid, a.attnum) AS comment
               FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
               LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
               WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v') AND NOT c.relispartition
                 AND c.relname <> 'rag_alembic_version'
               ORDER BY c.relname, a.attnum"""
        ).fetchall()


def indexes(url: str) -> list[Index]:
    """Return the indexes of these tables, the primary key first."""
    with (
        psycopg.connect(url) as connection,
        connection.cursor(row_factory=class_row(Index)) as cursor,
    ):
        return cursor.execute(
            """SELECT c.relname AS relation,
                 CASE WHEN i.indisprimary THEN 'primary key' WHEN i.indisunique THEN 'unique' ELSE 'index' END
                 || substring(pg_get_indexdef(i.indexrelid) FROM ' USING (.*)') AS definition
               FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid JOIN pg_class x ON x.oid = i.indexrelid
               WHERE c.relnamespace = 'public'::regnamespace AND NOT c.relispartition
               ORDER BY c.relname, NOT i.indisprimary, NOT i.indisunique, x.relname"""
        ).fetchall()


def page(url: str) -> str:
    found = columns(url)
    relations = list(dict.fromkeys(column.relation for column in found))
    all_indexes = indexes(url)
    return markdown_page(
        "Tables and collections",
        INTRODUCTION,
        "Tables and views: " + ", ".join(f"[{name}](#{name})" for name in relations) + ".",
        *(
            _relation(
                [column for column in found if column.relation == name],
                [index.definition for index in all_indexes if index.relation == name],
            )
            for name in relations
        ),
        "## Milvus",
        "The collections are aliases of physical ones (table [vector_collections](#vector_collections)). A row has no "
        "text.\nThe dynamic field is enabled, and the consistency level is Strong.",
        *(_collection(kind) for kind in KINDS),
        deviations.section(),
    )


def _relation(of_relation: Sequence[Column], definitions: Sequence[str]) -> str:
    first = of_relation[0]
    rows = [
        (code(column.name), short_type(column.type), _default(column), column.comment or "")
        for column in of_relation
    ]
    parts = [
        f"## {first.relation}",
        ("View. " if first.is_view else "") + (first.relation_comment or ""),
        table(("column", "type", "default", "meaning"), rows),
    ]
    if definitions:
        parts.append("\n".join(f"- {code(shown_index(definition))}" for definition in definitions))
    return "\n\n".join(parts)


def short_type(text: str) -> str:
    for pattern, short in _SHORT_TYPES:
        text = pattern.sub(short, text)
    return text


def _default(column: Column) -> str:
    if column.generated:
        return "generated"
    if column.default is None:
        return "" if column.not_null or column.is_view else "NULL"
    return code(re.sub(r"::[a-z]+( varying| with time zone)?(\[\])?", "", column.default))


def shown_index(definition: str) -> str:
    """Return an index as `unique (source_type, source_id)`: the usual method is not named."""
    kind, _, rest = re.sub(r"(primary key|unique|index)(\w+) ", r"\1 \2 ", definition).partition(
        "btree "
    )
    text = " ".join((f"{kind}{rest}" if rest else kind).split()).replace('"', "")
    text = re.sub(r" WITH \(.*?\)", "", text)
    return re.sub(r"\((\w+)\)::text", r"\1", text).replace("::text", "")


def _collection(kind: Kind) -> str:
    meanings = {name: meaning for name, (_, meaning) in COLUMNS[f"{kind}_vectors"].items()}
    vector = "SPARSE_FLOAT_VECTOR" if kind == "sparse" else "FLOAT_VECTOR(dimension of the model)"
    types = {"id": "VARCHAR(255)", VECTOR_FIELD: vector} | {
        name: _field_type(*declared) for name, declared in scalars(kind).items()
    }
    rows = [(code(name), field_type, meanings[name]) for name, field_type in types.items()]
    return f"## {ALIASES[kind]}\n\n" + table(("field", "type", "meaning"), rows)


def _field_type(data_type: DataType, parameters: Mapping[str, object]) -> str:
    if data_type == DataType.ARRAY:
        return f"ARRAY of {parameters['max_capacity']} VARCHAR({parameters['max_length']})"
    length = parameters.get("max_length")
    return f"{data_type.name}({length})" if length else data_type.name
