"""Source type `sql` with a real PostgreSQL, and with SQLite as another database."""

from __future__ import annotations

import datetime
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from rag_assets.pipeline.entries import Content, Entry
from resources.errors import ConfigError, SourceError, SourceUnavailable
from resources.sources import sql as module
from resources.sources.base import Source
from resources.sources.registry import open_source

QUERY = "SELECT id, body, title, changed, amount FROM articles WHERE title <> 'a:b'"
MAPPING = {"key": "id", "text": "body", "title": "title", "metadata": ["amount"]}


class Table:
    """The table `articles`, in either database."""

    def __init__(self, connection: Any, url: str, placeholder: str) -> None:
        self.connection, self.url, self.placeholder = connection, url, placeholder

    def execute(self, statement: str, *values: Any) -> None:
        self.connection.execute(statement.replace("?", self.placeholder), values)

    def put(self, key: int, body: str | None, title: str = "T", changed: int = 0) -> None:
        at = datetime.datetime(2024, 1, 1, 0, 0, changed)
        self.execute("DELETE FROM articles WHERE id = ?", key)
        values = (key, body, title, at.isoformat(" "), 1.5)
        self.execute(
            "INSERT INTO articles (id, body, title, changed, amount) VALUES (?, ?, ?, ?, ?)",
            *values,
        )

    def source(self, **config: Any) -> Source:
        return open_source("sql", {"url": self.url, "query": QUERY, **MAPPING, **config})


@pytest.fixture(params=["postgresql", "sqlite"])
def table(request: pytest.FixtureRequest, postgres_url: str, tmp_path: Path) -> Iterator[Table]:
    columns = "(id integer PRIMARY KEY, body text, title text, changed timestamp, amount numeric)"
    if request.param == "sqlite":
        path = tmp_path / "articles.db"
        with sqlite3.connect(path, isolation_level=None) as connection:
            connection.execute(f"CREATE TABLE articles {columns}")
            yield Table(connection, f"sqlite:///{path}", "?")
        return
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f"CREATE TABLE articles {columns}")  # pyright: ignore
        try:
            yield Table(connection, postgres_url, "%s")
        finally:
            connection.execute("DROP TABLE articles")


def contents(source: Source) -> dict[str, str]:
    entries = list(source.list())
    source.prefetch(entries)
    return {e.key: content.data.decode() for e in entries if (content := source.fetch(e))}


@pytest.mark.parametrize("updated_at", [None, "changed"])
def test_rows_are_documents(table: Table, updated_at: str | None) -> None:
    table.put(1, "one", "First")
    table.put(2, "天文台")
    table.put(3, "left out", "a:b")
    source = table.source(updated_at=updated_at)
    assert contents(source) == {"1": "one", "2": "天文台"}
    content = source.fetch(Entry("1", "", None, None))
    assert content is not None and content.about is not None
    assert content.about["title"] == "First"
    assert float(content.about["metadata"]["amount"]) == 1.5
    source.close()


def test_without_updated_at_the_hash_of_the_row_reveals_a_change(table: Table) -> None:
    for key in (1, 2, 3):
        table.put(key, f"text {key}")
    before = {entry.key: entry.change_token for entry in table.source().list()}
    table.put(2, "text 2", "another title")
    # This column is not used.
    table.put(3, "text 3", changed=9)
    after = {entry.key: entry.change_token for entry in table.source().list()}
    assert {key for key in before if before[key] != after[key]} == {"2"}


def test_updated_at_reveals_a_change_and_no_text_is_read(table: Table) -> None:
    table.put(1, "one")
    table.put(2, "two")
    table.execute("UPDATE articles SET changed = NULL WHERE id = 2")
    before = {entry.key: entry for entry in table.source(updated_at="changed").list()}
    # Only a fetch reveals a change.
    assert before["2"].change_token is None
    assert before["1"].size == 4 * 3
    table.execute("UPDATE articles SET body = 'unseen' WHERE id = 1")
    after = {entry.key: entry for entry in table.source(updated_at="changed").list()}
    assert after["1"].change_token == before["1"].change_token
    table.put(1, "one", changed=5)
    after = {entry.key: entry for entry in table.source(updated_at="changed").list()}
    assert after["1"].change_token != before["1"].change_token


def test_changed_rows_are_read_in_batches(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEYS", 10)
    for key in range(25):
        table.put(key, f"text {key}")
    source: Any = table.source()
    batch_sizes = []
    read = source._read
    monkeypatch.setattr(source, "_read", lambda keys: batch_sizes.append(len(keys)) or read(keys))
    assert contents(source) == {str(key): f"text {key}" for key in range(25)}
    assert batch_sizes == [10, 10, 5]


def test_only_a_deleted_row_and_a_row_without_text_fail(table: Table) -> None:
    table.put(1, None)
    table.put(2, "two")
    table.put(3, "three")
    source = table.source()
    entries = list(source.list())
    table.execute("DELETE FROM articles WHERE id = 3")
    source.prefetch(entries)
    without_text, intact, deleted = sorted(entries, key=lambda entry: entry.key)
    assert source.fetch(intact)
    with pytest.raises(SourceError, match="no text in body"):
        source.fetch(without_text)
    with pytest.raises(SourceError, match="deleted since"):
        source.fetch(deleted)


def test_keys_may_have_any_type(table: Table) -> None:
    table.put(7, "seven")
    for key in ("id * 1.5", "'k''' || id", "changed"):
        query = f"SELECT {key} AS id, body, title, amount FROM articles"
        assert list(contents(table.source(query=query)).values()) == ["seven"]


def test_keys_of_several_types_in_one_column_are_found(tmp_path: Path) -> None:
    path = tmp_path / "mixed.db"
    with sqlite3.connect(path, isolation_level=None) as connection:
        connection.execute("CREATE TABLE articles (id, body text, title text)")
        connection.execute("INSERT INTO articles VALUES (1, 'one', 'T'), ('abc', 'two', 'T')")
    config = {"query": "SELECT * FROM articles", "key": "id", "text": "body"}
    source = open_source("sql", {"url": f"sqlite:///{path}", **config})
    assert contents(source) == {"1": "one", "abc": "two"}


def test_a_query_that_fails_or_lacks_columns_is_an_error(table: Table) -> None:
    with pytest.raises(SourceError, match="nothing_here"):
        list(table.source(query="SELECT * FROM nothing_here").list())
    table.put(1, "one")
    with pytest.raises(SourceError, match=r"has no 'amount', 'title'"):
        list(table.source(query="SELECT id, body FROM articles").list())
    table.put(1, "one")
    with pytest.raises(SourceError, match="has no id"):
        list(table.source(query=QUERY.replace("SELECT id", "SELECT NULL AS id")).list())


@pytest.mark.parametrize("updated_at", [None, "changed"])
def test_equal_names_of_columns_are_an_error(table: Table, updated_at: str | None) -> None:
    table.put(1, "one")
    query = "SELECT id, body, title, changed, amount, title AS body FROM articles"
    with pytest.raises(SourceError, match="The query has the column 'body' 2 times"):
        list(table.source(query=query, updated_at=updated_at).list())


def test_a_row_changed_this_moment_is_read_again_by_the_next_listing(table: Table) -> None:
    table.put(1, "one")
    table.put(2, "two")
    now = datetime.datetime.now(datetime.UTC).replace(microsecond=0, tzinfo=None)
    table.execute("UPDATE articles SET changed = ? WHERE id = 1", now.isoformat(" "))
    source = table.source(updated_at="changed")
    tokens = [{e.key: e.change_token for e in source.list()} for _ in range(2)]
    assert tokens[0]["1"] != tokens[1]["1"] and tokens[0]["2"] == tokens[1]["2"]


@pytest.mark.parametrize("updated_at", [None, "changed"])
def test_times_that_python_does_not_have_stop_no_other_row(
    postgres_url: str, updated_at: str | None
) -> None:
    rows = [
        ("infinity", "-infinity", "20000-01-01"),
        ("0044-03-15 BC", "2024-01-01 12:00+00", None),
    ]
    values = ", ".join(
        f"({n}, 'text', {', '.join('NULL' if t is None else repr(t) for t in row)})"
        for n, row in enumerate(rows)
    )
    query = (
        "SELECT id, body, changed::timestamp, seen::timestamptz, day::date "
        f"FROM (VALUES {values}) AS v (id, body, changed, seen, day)"
    )
    config = {"key": "id", "text": "body", "metadata": "*", "updated_at": updated_at}
    source = open_source("sql", {"url": postgres_url, "query": query, **config})
    entries = list(source.list())
    source.prefetch(entries)
    first, second = ((source.fetch(entry) or Content(b"")).about or {} for entry in entries)
    assert first["metadata"]["seen"] == "-infinity" and first["metadata"]["day"] == "20000-01-01"
    assert second["metadata"]["seen"] == "2024-01-01T12:00:00+00:00"
    if updated_at is None:
        assert second["metadata"]["changed"] == "0044-03-15 00:00:00 BC"
    else:
        assert entries[0].change_token == "infinity"


def test_a_query_cannot_write(postgres_url: str) -> None:
    source = open_source(
        "sql",
        {
            "url": postgres_url,
            "query": "WITH gone AS (DELETE FROM sources RETURNING *) SELECT * FROM gone",
            "key": "id",
            "text": "name",
        },
    )
    with pytest.raises(SourceError):
        list(source.list())
    source = open_source(
        "sql",
        {
            "url": postgres_url,
            "query": "SELECT nextval('s') AS id, 'x' AS t",
            "key": "id",
            "text": "t",
        },
    )
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("CREATE SEQUENCE s")
        try:
            with pytest.raises(SourceError, match="read-only"):
                list(source.list())
        finally:
            connection.execute("DROP SEQUENCE s")


def test_a_database_that_does_not_answer_is_unavailable() -> None:
    source = open_source(
        "sql",
        {"url": "postgresql://ada@127.0.0.1:9/x", "query": "SELECT 1", "key": "a", "text": "b"},
        {"password": "hush"},
    )
    with pytest.raises(SourceUnavailable) as caught:
        list(source.list())
    assert "hush" not in str(caught.value)


def test_all_problems_of_a_configuration_are_reported_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        open_source(
            "sql", {"url": "postgresql://u:hush@h/d", "query": "DELETE FROM x", "table": "x"}
        )
    message = str(caught.value)
    for name in ("url:", "query:", "table:", "text:"):
        assert name in message
    assert "hush" not in message
    with pytest.raises(ConfigError, match="nosuch"):
        open_source("sql", {"url": "nosuch://h/d", "query": "SELECT 1", "key": "a", "text": "b"})
    with pytest.raises(ConfigError, match="key: missing"):
        open_source("sql", {"url": "sqlite:///x", "query": "SELECT 1", "text": "b"})
