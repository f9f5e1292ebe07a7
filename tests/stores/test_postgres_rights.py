"""Roles of PostgreSQL that lack rights, on a real server: one sentence for each, never a traceback."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

import psycopg
import pytest

from resources.errors import ConfigError
from resources.postgres.connection import Postgres
from resources.postgres.connection_pool import Connections
from resources.postgres.schema import migrate

ROLES = ("test_plain", "test_reader", "test_no_login")


@pytest.fixture
def roles(postgres_url: str) -> Iterator[None]:
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        for statement in (
            "CREATE ROLE test_plain LOGIN",
            "CREATE ROLE test_reader LOGIN",
            "CREATE ROLE test_no_login",
            "GRANT SELECT ON ALL TABLES IN SCHEMA public TO test_reader",
        ):
            connection.execute(statement)
        yield
        for role in ROLES:
            connection.execute(f"DROP OWNED BY {role}")
            connection.execute(f"DROP ROLE {role}")


@pytest.fixture
def empty_database(postgres_url: str) -> Iterator[str]:
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE test_empty")
        yield urlsplit(postgres_url)._replace(path="/test_empty").geturl()
        connection.execute("DROP DATABASE test_empty WITH (FORCE)")


def as_role(url: str, role: str) -> str:
    parts = urlsplit(url)
    place = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=f"{role}@{place}").geturl()


def test_each_missing_right_is_a_sentence(
    postgres_url: str, empty_database: str, roles: None
) -> None:
    plain, reader = as_role(postgres_url, "test_plain"), as_role(postgres_url, "test_reader")

    def write() -> None:
        with Postgres(reader).writer("docs"):
            raise AssertionError

    def search() -> None:
        with Connections(plain).connection() as connection:
            connection.execute("SELECT FROM sources")

    # A role that may read needs no other right to search.
    assert not migrate(reader)
    with Connections(reader).connection() as connection:
        connection.execute("SELECT FROM sources")
    for action, reason in (
        (write, "permission denied for table partition_writers"),
        (search, "permission denied for table sources"),
        (lambda: migrate(plain), "permission denied for table rag_alembic_version"),
        (
            lambda: migrate(as_role(empty_database, "test_plain")),
            "permission denied for schema public",
        ),
    ):
        with pytest.raises(ConfigError, match=reason) as caught:
            action()
        assert "GRANT CREATE ON DATABASE" in str(caught.value) and "\n" not in str(caught.value)


def test_a_wrong_role_and_a_missing_database_are_named(postgres_url: str, roles: None) -> None:
    missing = urlsplit(postgres_url)._replace(path="/test_nowhere").geturl()
    for url, reason in (
        (as_role(postgres_url, "test_no_login"), "not permitted to log in"),
        (as_role(postgres_url, "test_nobody"), 'role "test_nobody" does not exist'),
        (missing, 'database "test_nowhere" does not exist'),
    ):
        with pytest.raises(ConfigError, match=reason), Postgres(url).connect():
            pass
        # A pool tries a wrong role again and again.
        with pytest.raises(ConfigError, match=reason), Connections(url).connection():
            pass
