"""Fixtures: the session's stores, emptied before each test, without Dagster."""

from __future__ import annotations

from collections.abc import Iterator
from typing import LiteralString

import psycopg
import pytest

from resources.milvus.store import MilvusStore
from resources.postgres.connection import Connection
from resources.postgres.connection_pool import Connections
from tests.support.identity import CountedPasswords, Identity, one_user

#: The other tables are emptied by their foreign keys.
EMPTIED: tuple[LiteralString, ...] = (
    "sources",
    "vector_deletions",
    "vector_collections",
    "embedding_files",
    "partition_writers",
    "document_versions",
)


@pytest.fixture
def connection(postgres_url: str) -> Iterator[Connection]:
    """A session in autocommit mode."""
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        for table in EMPTIED:
            connection.execute(f"DELETE FROM {table}")
        yield connection


@pytest.fixture
def store(milvus_uri: str) -> Iterator[MilvusStore]:
    store = MilvusStore(milvus_uri)
    for name in store.client.list_collections():
        for alias in store.client.list_aliases(name).get("aliases", []):
            store.client.drop_alias(alias)
        store.client.drop_collection(name)
    yield store
    store.close()


@pytest.fixture(scope="module")
def connections(postgres_url: str) -> Iterator[Connections]:
    connections = Connections(postgres_url, size=20)
    yield connections
    connections.close()


@pytest.fixture(scope="module")
def passwords() -> Iterator[CountedPasswords]:
    passwords = CountedPasswords()
    yield passwords
    passwords.close()


@pytest.fixture
def identity(
    connection: Connection, connections: Connections, passwords: CountedPasswords
) -> Iterator[Identity]:
    with one_user(connection, connections, passwords) as identity:
        yield identity
