"""The schema: brought to date by whoever comes first; its triggers, on plain SQL."""

from __future__ import annotations

import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from rag_assets.partitions import partition_key
from resources import open_stores
from resources.errors import ConfigError, StoreUnavailable
from resources.postgres.connection import Connection
from resources.postgres.schema import HEAD, migrate
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


def test_of_two_processes_one_migrates_and_the_other_waits(empty_url: str) -> None:
    code = "import sys; from resources.postgres.schema import migrate; print(migrate(sys.argv[1]))"
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code, empty_url],
            cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for _ in range(3)
    ]  # fmt: skip
    answers = [process.communicate(timeout=30) for process in started]
    assert sorted(out.strip() for out, _ in answers) == ["False", "False", "True"], answers


def test_a_process_asks_for_the_schema_at_intervals(
    empty_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen by what it does where the schema is gone: nothing at first, and after the interval it is made."""

    def opened() -> bool:
        open_stores.open_postgres(empty_url, tmp_path, lock_timeout=1)
        with psycopg.connect(empty_url) as connection:
            row = connection.execute("SELECT to_regclass('rag_alembic_version')").fetchone()
        return row != (None,)

    assert opened()
    with psycopg.connect(empty_url) as connection:
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public")
    assert not opened()
    monkeypatch.setattr(open_stores, "SCHEMA_SECONDS", 0.0)
    assert opened()


def test_no_server_and_no_url_are_told_apart() -> None:
    with pytest.raises(StoreUnavailable):
        migrate("postgresql://postgres@127.0.0.1:1/rag")
    with pytest.raises(ConfigError) as caught:
        migrate("postgresql://user:secret%zz@127.0.0.1/rag")
    assert "secret" not in str(caught.value)


def test_no_update_makes_search_vectors_anew_that_it_does_not_change(
    connection: Connection,
) -> None:
    """PostgreSQL makes generated columns anew in each update of a table with a trigger before updates of its rows."""
    before_row_update = 1 | 2 | 16  # TRIGGER_TYPE_ROW, _BEFORE, _UPDATE of pg_trigger.tgtype
    rows = connection.execute(
        """SELECT t.tgrelid::regclass::text, t.tgname FROM pg_trigger t
           WHERE t.tgtype & %(wanted)s = %(wanted)s
             AND EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = t.tgrelid AND a.attgenerated = 's')""",
        {"wanted": before_row_update},
    ).fetchall()
    assert rows == []


KINDS = ("dense", "sparse", "multi")


def deletions(connection: Connection) -> set[tuple[uuid.UUID, str, int | None]]:
    rows = connection.execute("SELECT chunk_id, kind, row_count FROM vector_deletions").fetchall()
    assert len(rows) == len(set(rows))
    return set(rows)


@pytest.mark.parametrize("statement", ["document_chunks", "documents", "sources"])
def test_whatever_deletes_chunks_orders_their_vectors_out(
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
    # Nothing is acknowledged any more of what is gone, and what stays is untouched.
    assert connection.execute("SELECT chunk_id FROM vector_rows").fetchall() == [
        (chunks_of(connection, kept)[0],)
    ]


def test_the_rows_of_a_chunk_are_not_known_while_one_of_two_collections_did_not_say(
    connection: Connection,
) -> None:
    (chunk,) = chunks_of(connection, new_document(connection, new_source(connection), "a", ["one"]))
    for model in ("old", "new"):
        register_collection(connection, collection_of("multi", model=model))
    new_acknowledgement(connection, collection_of("multi", model="old").name, chunk, rows=3)
    connection.execute("DELETE FROM document_chunks")
    assert deletions(connection) == {(chunk, "multi", None)}


def test_a_rolled_back_deletion_orders_nothing(connection: Connection) -> None:
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


def test_a_document_deleted_by_hand_stays_out_at_this_content(connection: Connection) -> None:
    source = new_source(connection)
    for key in ("a", "b", "c"):
        entry(connection, source.id, key, new_document(connection, source, key))
    connection.execute("DELETE FROM documents WHERE source_key = 'a'")
    # The other way round the source lost it: there is nothing to mark.
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
        ("language", "en", "completed"),  # as it was
        ("author", "somebody", "pending"),
        ("category", "news", "pending"),
        ("tags", ["new"], "pending"),
        ("tags", None, "completed"),
        ("title", "other", "completed"),  # not beside the vectors
    ],
)
def test_an_edit_of_what_stands_beside_vectors_makes_work(
    connection: Connection, column: str, value: object, status: str
) -> None:
    new_document(connection, new_source(connection), "a", ["one"])
    connection.execute(f"UPDATE documents SET {column} = %s", [value])  # pyright: ignore[reportArgumentType, reportCallIssue]
    found = connection.execute("SELECT indexing_status FROM documents").fetchall()
    assert found == [(status,)]


def test_an_edit_does_not_hide_a_failure(connection: Connection) -> None:
    new_document(connection, new_source(connection), "a", ["one"])
    connection.execute("UPDATE documents SET indexing_status = 'failed'")
    connection.execute("UPDATE documents SET language = 'de'")
    assert connection.execute("SELECT indexing_status FROM documents").fetchall() == [("failed",)]


def test_plain_sql_cannot_name_a_source_as_no_partition_can_be_named(
    connection: Connection,
) -> None:
    """One bad name would end every tick of the sensors. A row, refused or not, leaves nothing behind."""
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
            taken = True
        except ConfigError:
            taken = False
        with pytest.raises(psycopg.errors.CheckViolation if not taken else Undone):
            with connection.transaction():
                connection.execute(
                    "INSERT INTO sources (source_type, name, connection_config) VALUES ('folder', %s, '{}')",
                    [name],
                )
                raise Undone(name)


class Undone(Exception):
    """Ends a transaction whose work was allowed."""


def test_plain_sql_cannot_date_a_document_at_infinity(connection: Connection) -> None:
    new_document(connection, new_source(connection), "a")
    with pytest.raises(psycopg.errors.CheckViolation, match="finite"):
        connection.execute("UPDATE documents SET created_at = 'infinity'")
