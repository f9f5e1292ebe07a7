"""Indexes that a large first load builds after its rows: when they are dropped, and that they return."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from resources.postgres.connection import Connection, Postgres, Writer
from resources.postgres.documents.deferred_indexes import (
    DEFERRED,
    build_deferred_indexes,
    defer_indexes,
)
from tests.support.rows import new_document, new_source


def definitions(connection: Connection) -> dict[str, str]:
    """Return index -> its definition, of all indexes of the two tables."""
    return dict(
        connection.execute(
            """SELECT indexname, indexdef FROM pg_indexes
               WHERE schemaname = 'public' AND tablename IN ('documents', 'document_chunks')"""
        ).fetchall()
    )


@pytest.fixture
def writer(postgres_url: str, connection: Connection) -> Iterator[Writer]:
    with Postgres(postgres_url, lock_timeout=1).writer("docs") as writer:
        yield writer
    build_deferred_indexes(connection, [])


def test_dropped_indexes_return_as_they_were_when_the_sync_has_ended(
    connection: Connection, writer: Writer
) -> None:
    before = definitions(connection)
    assert defer_indexes(writer)
    assert set(before) - set(definitions(connection)) == set(DEFERRED)
    source = new_source(connection)
    connection.execute("UPDATE sources SET sync_status = 'running'")
    new_document(connection, source, "a", ["some words"])
    assert build_deferred_indexes(connection, [source.id]) == []
    connection.execute("UPDATE sources SET sync_status = 'completed'")
    assert build_deferred_indexes(connection, [source.id]) == list(DEFERRED)
    assert definitions(connection) == before
    assert build_deferred_indexes(connection, [source.id]) == []


def test_indexes_of_tables_with_rows_or_readers_stay(
    connection: Connection, writer: Writer, postgres_url: str
) -> None:
    with psycopg.connect(postgres_url) as reader:
        reader.execute("SELECT FROM document_chunks")
        assert not defer_indexes(writer)
    new_document(connection, new_source(connection), "a")
    assert not defer_indexes(writer)
    assert set(DEFERRED) <= set(definitions(connection))


def test_a_role_that_does_not_own_the_tables_leaves_the_indexes(
    connection: Connection, writer: Writer
) -> None:
    connection.execute("CREATE ROLE test_writer")
    connection.execute("GRANT ALL ON ALL TABLES IN SCHEMA public TO test_writer")
    try:
        writer.connection.execute("SET ROLE test_writer")
        assert not defer_indexes(writer)
        writer.connection.execute("RESET ROLE")
        assert defer_indexes(writer)
        writer.connection.execute("SET ROLE test_writer")
        assert build_deferred_indexes(writer.connection, []) == []
        writer.connection.execute("RESET ROLE")
    finally:
        connection.execute("DROP OWNED BY test_writer")
        connection.execute("DROP ROLE test_writer")


def test_two_sessions_build_them_once(connection: Connection, writer: Writer) -> None:
    assert defer_indexes(writer)
    with writer.connection.transaction():
        # The other session has begun to build.
        writer.connection.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended('rag-assets indexes', 0))"
        )
        assert build_deferred_indexes(connection, []) == []
    assert build_deferred_indexes(connection, []) == list(DEFERRED)
