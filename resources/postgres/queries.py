"""Queries whose rows are mapped by name: columns are named for the fields that they fill. Also single values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, LiteralString, TypeVar

import psycopg
from psycopg.rows import BaseRowFactory, RowMaker, kwargs_row

Parameters = Sequence[Any] | Mapping[str, Any] | None
R = TypeVar("R")


def named_row(make: Callable[..., R]) -> BaseRowFactory[R]:
    """Return a row factory that calls `make` with the columns as keyword arguments.

    A NamedTuple with these columns as its fields, in this order, is made without keywords: in 1 instead of 5 µs a row.
    """
    fields, make_tuple = getattr(make, "_fields", None), getattr(make, "_make", None)
    with_keywords = kwargs_row(make)

    def factory(cursor: Any) -> RowMaker[R]:
        columns = cursor.description and tuple(column.name for column in cursor.description)
        if make_tuple is not None and columns == fields:
            return make_tuple
        return with_keywords(cursor)

    return factory


def fetch_all(
    connection: psycopg.Connection[Any],
    make: Callable[..., R],
    query: LiteralString,
    parameters: Parameters = None,
) -> list[R]:
    """Return each row as `make(column=value, …)`."""
    with connection.cursor(row_factory=named_row(make)) as cursor:
        return cursor.execute(query, parameters).fetchall()


def fetch_first(
    connection: psycopg.Connection[Any],
    make: Callable[..., R],
    query: LiteralString,
    parameters: Parameters = None,
) -> R | None:
    """Return the first row as `make(column=value, …)`, or None if there is no row."""
    with connection.cursor(row_factory=named_row(make)) as cursor:
        return cursor.execute(query, parameters).fetchone()


def fetch_one(
    connection: psycopg.Connection[Any],
    make: Callable[..., R],
    query: LiteralString,
    parameters: Parameters = None,
) -> R:
    """Return the row of a query that always has one, such as an aggregate."""
    row = fetch_first(connection, make, query, parameters)
    assert row is not None
    return row


def scalar(
    connection: psycopg.Connection[Any], query: LiteralString, parameters: Parameters = None
) -> Any:
    """Return the first column of the first row, or None if there is no row."""
    row = connection.execute(query, parameters).fetchone()
    return None if row is None else row[0]


def scalars(
    connection: psycopg.Connection[Any], query: LiteralString, parameters: Parameters = None
) -> list[Any]:
    """Return the first column of every row."""
    return [row[0] for row in connection.execute(query, parameters)]
