"""The schema: the first process that needs it upgrades it. Its triggers, under plain SQL."""

from __future__ import annotations

import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from resources import open_stores
from resources.errors import ConfigError, StoreUnavailable
from resources.partition_keys import partition_key
from resources.postgres.connection import Connection
from resources.postgres.registry.sources import SourceRow
from resources.postgres.schema import HEAD, _upgrade, migrate, table_exists
from resources.postgres.vectors.collections import register_collection
from tests.support.rows import (
    chunks_of,
    collection_of,
    new_acknowledgement,
    new_document,
    new_source,
)

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def empty_url(postgres_url: str) -> Iterator[str]:
    """A database without a schema."""
    name = f"empty_{uuid.uuid4().hex}"
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")  # pyright: ignore[reportArgumentType, reportCallIssue]
        yield postgres_url.replace("/rag?", f"/{name}?")
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")  # pyright: ignore[reportArgumentType, reportCallIssue]


def test_a_second_migration_does_nothing(empty_url: str) -> None:
    assert migrate(empty_url) is True
    assert migrate(empty_url) is False
    with psycopg.connect(empty_url) as connection:
        versions = connection.execute("SELECT version_num FROM rag_alembic_version").fetchall()
    assert versions == [(HEAD,)]


def test_of_several_processes_one_migrates_and_the_others_wait(empty_url: str) -> None:
    code = "import sys; from resources.postgres.schema import migrate; print(migrate(sys.argv[1]))"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, empty_url],
            cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for _ in range(2)
    ]  # fmt: skip
    outputs = [process.communicate(timeout=30) for process in processes]
    assert sorted(out.strip() for out, _ in outputs) == ["False", "True"], outputs


def test_a_process_checks_the_schema_at_intervals(
    empty_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shown where the schema is dropped: at first nothing happens, after the interval it is made again."""

    def has_schema_after_opening() -> bool:
        open_stores.open_postgres(empty_url, tmp_path, lock_timeout=1)
        with psycopg.connect(empty_url) as connection:
            return table_exists(connection, "rag_alembic_version")

    assert has_schema_after_opening()
    with psycopg.connect(empty_url) as connection:
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public")
    assert not has_schema_after_opening()
    monkeypatch.setattr(open_stores, "SCHEMA_SECONDS", 0.0)
    assert has_schema_after_opening()


def test_a_dead_server_and_a_wrong_url_raise_different_errors() -> None:
    with pytest.raises(StoreUnavailable):
        migrate("postgresql://postgres@127.0.0.1:1/rag")
    with pytest.raises(ConfigError) as caught:
        migrate("postgresql://user:secret%zz@127.0.0.1/rag")
    assert "secret" not in str(caught.value)


def test_no_update_recomputes_unchanged_search_vectors(connection: Connection) -> None:
    """With a trigger before updates of its rows, PostgreSQL computes a table's generated columns in every update."""
    # TRIGGER_TYPE_ROW, _BEFORE and _UPDATE of pg_trigger.tgtype.
    before_row_update = 1 | 2 | 16
    triggers = connection.execute(
        """SELECT t.tgrelid::regclass::text, t.tgname FROM pg_trigger t
           WHERE t.tgtype & %(type)s = %(type)s
             AND EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = t.tgrelid AND a.attgenerated = 's')""",
        {"type": before_row_update},
    ).fetchall()
    assert triggers == []


KINDS = ("dense", "sparse", "multi")


def deletions(connection: Connection) -> set[tuple[uuid.UUID, str, int | None]]:
    rows = connection.execute("SELECT chunk_id, kind, row_count FROM vector_deletions").fetchall()
    assert len(rows) == len(set(rows))
    return set(rows)


@pytest.mark.parametrize("statement", ["document_chunks", "documents", "sources"])
def test_every_deletion_of_chunks_queues_the_deletion_of_their_vectors(
    connection: Connection, statement: str
) -> None:
    source, other = new_source(connection), new_source(connection, "other")
    document = new_document(connection, source, "a", ["one", "two"])
    kept = new_document(connection, other, "a", ["one"])
    for kind in KINDS:
        register_collection(connection, collection_of(kind))
    one, two = chunks_of(connection, document)
    multi = collection_of("multi").name
    for kind in KINDS:
        new_acknowledgement(
            connection, collection_of(kind).name, one, rows=7 if kind == "multi" else 1
        )
    new_acknowledgement(connection, multi, chunks_of(connection, kept)[0])
    where = {"document_chunks": "document_id", "documents": "id", "sources": "id"}[statement]
    connection.execute(
        f"DELETE FROM {statement} WHERE {where} = %s",  # pyright: ignore[reportArgumentType, reportCallIssue]
        [source.id if statement == "sources" else document],
    )
    assert deletions(connection) == {
        (one, "dense", 1), (one, "sparse", 1), (one, "multi", 7),
        (two, "dense", None), (two, "sparse", None), (two, "multi", None),
    }  # fmt: skip
    assert connection.execute("SELECT DISTINCT source_uuid FROM vector_deletions").fetchall() == [
        (source.id,)
    ]
    # The acknowledgements of deleted chunks are gone, all others are untouched.
    assert connection.execute("SELECT chunk_id FROM vector_rows").fetchall() == [
        (chunks_of(connection, kept)[0],)
    ]


def test_the_number_of_rows_is_unknown_unless_every_collection_acknowledged_them(
    connection: Connection,
) -> None:
    (chunk,) = chunks_of(connection, new_document(connection, new_source(connection), "a", ["one"]))
    for model in ("old", "new"):
        register_collection(connection, collection_of("multi", model=model))
    new_acknowledgement(connection, collection_of("multi", model="old").name, chunk, rows=3)
    connection.execute("DELETE FROM document_chunks")
    assert deletions(connection) == {(chunk, "multi", None)}


def test_a_rolled_back_deletion_queues_nothing(connection: Connection) -> None:
    document = new_document(connection, new_source(connection), "a", ["one"])
    register_collection(connection, collection_of("dense"))
    with connection.transaction(force_rollback=True):
        connection.execute("DELETE FROM documents")
        assert len(deletions(connection)) == 1
    assert deletions(connection) == set() and len(chunks_of(connection, document)) == 1


def entry(connection: Connection, source: uuid.UUID, key: str, document: uuid.UUID) -> None:
    connection.execute(
        """INSERT INTO source_entries (source_id, key, document_id, locator, change_token, content_hash)
           VALUES (%s, %s, %s, '', '', %s)""",
        [source, key, document, "c" * 64],
    )


def test_a_document_deleted_by_hand_stays_out_until_its_content_changes(
    connection: Connection,
) -> None:
    source = new_source(connection)
    for key in ("a", "b", "c"):
        entry(connection, source.id, key, new_document(connection, source, key))
    connection.execute("DELETE FROM documents WHERE source_key = 'a'")
    # Deleted in the other order, the document left its source: nothing is marked.
    connection.execute("DELETE FROM source_entries WHERE key = 'b'")
    connection.execute("DELETE FROM documents WHERE source_key = 'b'")
    marks = connection.execute(
        "SELECT key, removed_hash FROM source_entries ORDER BY key"
    ).fetchall()
    assert marks == [("a", "c" * 64), ("c", None)]


@pytest.mark.parametrize(
    ("column", "value", "status"),
    [
        ("language", "de", "pending"),
        ("created_at", "2020-01-01", "pending"),
        ("source_type", "git", "pending"),
        # The value that it has already.
        ("language", "en", "completed"),
        ("author", "somebody", "pending"),
        ("category", "news", "pending"),
        ("tags", ["new"], "pending"),
        ("tags", None, "completed"),
        # Not a field of the rows in Milvus.
        ("title", "other", "completed"),
    ],
)
def test_an_edit_of_a_field_in_milvus_makes_the_document_pending(
    connection: Connection, column: str, value: object, status: str
) -> None:
    new_document(connection, new_source(connection), "a", ["one"])
    connection.execute(f"UPDATE documents SET {column} = %s", [value])  # pyright: ignore[reportArgumentType, reportCallIssue]
    assert connection.execute("SELECT indexing_status FROM documents").fetchall() == [(status,)]


#: Long ago: a statement that does not set updated_at keeps it, unless a trigger does.
BEFORE = "2020-01-01 00:00:00+00"


@pytest.mark.parametrize(
    ("table", "change", "touched"),
    [
        ("sources", "sync_schedule = '0 3 * * *'", True),
        ("sources", "is_active = is_active", False),
        ("documents", "error_message = 'edited'", True),
        # Other triggers update the row again.
        ("documents", "content = 'one two', category = 'news'", True),
        ("documents", "title = title, content = content", False),
        ("document_chunks", "section_title = 'edited'", True),
        ("document_chunks", "section_title = section_title", False),
        ("document_chunks", "search_count = search_count + 1, last_search_score = 0.5", False),
        ("documents", "error_message = 'edited', updated_at = '2021-01-01 00:00:00+00'", False),
    ],
)
def test_updated_at_changes_when_plain_sql_changes_a_row_and_else_not(
    connection: Connection, table: str, change: str, touched: bool
) -> None:
    new_document(connection, new_source(connection), "a", ["one"])
    connection.execute(f"UPDATE {table} SET updated_at = %s", [BEFORE])  # pyright: ignore[reportArgumentType, reportCallIssue]
    with connection.transaction():
        connection.execute(f"UPDATE {table} SET {change}")  # pyright: ignore[reportArgumentType, reportCallIssue]
        rows = connection.execute(f"SELECT updated_at = now() FROM {table}").fetchall()  # pyright: ignore[reportArgumentType, reportCallIssue]
    assert rows == [(touched,)]
    if "updated_at" in change:
        assert connection.execute(
            "SELECT updated_at = '2021-01-01 00:00:00+00' FROM documents"
        ).fetchall() == [(True,)]


def test_a_database_of_the_last_version_is_upgraded_with_its_rows(empty_url: str) -> None:
    """Its rows stay as they are; from then on updated_at changes with them, and every column has a comment."""
    _upgrade(empty_url, "0018")
    with psycopg.connect(empty_url, autocommit=True) as connection:
        source = SourceRow(uuid.uuid4(), "folder", "docs", {"path": "/"}, None, True)
        # By plain SQL: the code of this version knows columns that this schema lacks.
        connection.execute(
            "INSERT INTO sources (id, source_type, name, connection_config) VALUES (%s, 'folder', 'docs', '{}')",
            [source.id],
        )
        new_document(connection, source, "a", ["one"])
        connection.execute("UPDATE documents SET updated_at = %s", [BEFORE])
        connection.execute("UPDATE documents SET category = 'old'")
        times = "SELECT updated_at = %s FROM documents"
        assert connection.execute(times, [BEFORE]).fetchall() == [(True,)]
        assert migrate(empty_url) is True
        assert connection.execute(times, [BEFORE]).fetchall() == [(True,)]
        connection.execute("UPDATE documents SET category = 'new'")
        assert connection.execute(times, [BEFORE]).fetchall() == [(False,)]
        without_comment = connection.execute(
            """SELECT count(*) FROM pg_attribute WHERE attrelid = 'documents'::regclass AND attnum > 0
               AND col_description(attrelid, attnum) IS NULL"""
        ).fetchall()
        assert without_comment == [(0,)]


def test_a_migration_that_waits_too_long_for_a_lock_is_an_error_of_the_store(
    empty_url: str,
) -> None:
    _upgrade(empty_url, "0018")
    with psycopg.connect(empty_url) as connection:
        connection.execute("LOCK TABLE documents")
        with pytest.raises(StoreUnavailable, match=r"try again: .*lock timeout") as caught:
            migrate(f"{empty_url}&options=-c%20lock_timeout%3D100ms")
    assert "\n" not in str(caught.value)
    assert migrate(empty_url) is True


def test_an_edit_does_not_hide_a_failure(connection: Connection) -> None:
    new_document(connection, new_source(connection), "a", ["one"])
    connection.execute("UPDATE documents SET indexing_status = 'failed'")
    connection.execute("UPDATE documents SET language = 'de'")
    assert connection.execute("SELECT indexing_status FROM documents").fetchall() == [("failed",)]


def test_plain_sql_cannot_give_a_source_a_name_that_no_partition_can_have(
    connection: Connection,
) -> None:
    """One such name would end every tick of the sensors. Every row is rolled back, also an accepted one."""
    names = [
        "",
        "a",
        "a/b",
        " a",
        "a.",
        "-a",
        "a\n",
        "a\tb",
        "x" * 100,
        "x" * 101,
        "a'b",
        "a,b",
        "資料 2026",
    ]
    names += [
        f"a{character}b" for character in '\x7f\x85\xa0\u2028\u202e\u3000\ufeff é東نक्क🚀_-."\\*'
    ]
    for name in names:
        try:
            assert partition_key(name) == name
            valid = True
        except ConfigError:
            valid = False
        with pytest.raises(RolledBack if valid else psycopg.errors.CheckViolation):
            with connection.transaction():
                connection.execute(
                    "INSERT INTO sources (source_type, name, connection_config) VALUES ('folder', %s, '{}')",
                    [name],
                )
                raise RolledBack(name)


class RolledBack(Exception):
    """Rolls back a transaction whose statements were accepted."""


def test_plain_sql_cannot_date_a_document_at_infinity(connection: Connection) -> None:
    new_document(connection, new_source(connection), "a")
    with pytest.raises(psycopg.errors.CheckViolation, match="finite"):
        connection.execute("UPDATE documents SET created_at = 'infinity'")
