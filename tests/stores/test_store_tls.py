"""TLS to PostgreSQL, Milvus and Valkey: the right certificate serves, a foreign or misnamed one is named in a sentence.

The embedded servers speak no TLS; a proxy before them does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from functools import partial

import pytest
from sqlalchemy import NullPool, create_engine, text

from rag_assets.dagster_storage import dagster_url
from resources.driver_errors import driver_error
from resources.embedded.postgres import SOCKET_NAME
from resources.embedded.stack import start_valkey, stop
from resources.errors import ConfigError, RagError
from resources.milvus.store import MilvusStore
from resources.postgres.connection import Postgres
from resources.postgres.connection_pool import Connections
from resources.postgres.schema import migrate
from resources.redis.client import RedisClient
from tests.support.tls import SSL_REQUEST, Authorities, tls_proxy


@pytest.fixture(scope="module")
def authorities(tmp_path_factory: pytest.TempPathFactory) -> Authorities:
    return Authorities.make(tmp_path_factory.mktemp("authorities"))


@pytest.fixture(scope="module")
def valkey_path(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    home = tmp_path_factory.mktemp("valkey")
    yield start_valkey(home).url.removeprefix("unix://")
    stop(home)


def assert_refused(call: Callable[[], object], *parts: str) -> None:
    """The call raises one sentence or two with the setting, which nothing tries again."""
    with pytest.raises(ConfigError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message and all(part in message for part in parts), message


def select_by_pool(url: str) -> None:
    connections = Connections(url, size=1)
    try:
        with connections.connection() as connection:
            connection.execute("SELECT 1")
    finally:
        connections.close()


def select_by_dagster(url: str) -> None:
    """As Dagster's storage does: by SQLAlchemy and psycopg2. Its errors are translated where runs and commands end."""
    engine = create_engine(dagster_url(url), poolclass=NullPool)
    try:
        with engine.connect() as connection:
            connection.execute(text("SELECT 1"))
    except Exception as error:
        known = driver_error(error)
        assert known is not None
        raise known from error


#: Every way in which PostgreSQL is opened.
OPENINGS: tuple[Callable[[str], object], ...] = (
    lambda url: Postgres(url).connect().__enter__().close(),
    select_by_pool,
    migrate,
    select_by_dagster,
)


def test_every_connection_to_postgresql_verifies_the_certificate(
    postgres_url: str, authorities: Authorities
) -> None:
    path, _, folder = postgres_url.removeprefix("postgresql://postgres@/").partition("?host=")

    def url(port: int, authority: str) -> str:
        return (
            f"postgresql://postgres@localhost:{port}/{path}?sslmode=verify-full"
            f"&sslrootcert={authority}"
        )

    upstream = f"{folder}/{SOCKET_NAME}"
    refused = ("certificate of PostgreSQL cannot be verified", "RAG_POSTGRES_URL", "sslrootcert")
    with tls_proxy(upstream, authorities.server_context("localhost"), SSL_REQUEST) as port:
        for open_it in OPENINGS:
            open_it(url(port, authorities.own))
            assert_refused(partial(open_it, url(port, authorities.foreign)), *refused)
    with tls_proxy(upstream, authorities.server_context("db.example"), SSL_REQUEST) as port:
        for open_it in OPENINGS:
            assert_refused(partial(open_it, url(port, authorities.own)), *refused)


def test_milvus_is_reached_by_tls_with_its_authority(
    milvus_uri: str, authorities: Authorities
) -> None:
    upstream = milvus_uri.removeprefix("http://")

    def names(port: int, authority: str) -> list[str]:
        store = MilvusStore(f"https://localhost:{port}", timeout=1, ca_file=authority)
        try:
            return store.collection_names()
        finally:
            store.close()

    refused = ("certificate of Milvus at https://localhost", "RAG_MILVUS_CA", "RAG_MILVUS_URI")
    with tls_proxy(upstream, authorities.server_context("localhost", "h2")) as port:
        # First: pymilvus keeps connections that succeeded by their address.
        assert_refused(lambda: names(port, authorities.foreign), *refused)
        assert names(port, authorities.own) == MilvusStore(milvus_uri).collection_names()
    with tls_proxy(upstream, authorities.server_context("milvus.example", "h2")) as port:
        assert_refused(lambda: names(port, authorities.own), *refused, "Hostname mismatch")


def test_valkey_is_reached_by_tls_with_its_authority(
    valkey_path: str, authorities: Authorities
) -> None:
    def ping(scheme: str, port: int, authority: str) -> None:
        async def run() -> None:
            client = RedisClient(f"{scheme}://localhost:{port}", ca_file=authority)
            try:
                await client.check()
                assert await client.run(lambda valkey: valkey.ping())
            finally:
                await client.close()

        asyncio.run(run())

    refused = ("certificate of rediss://localhost", "RAG_REDIS_CA", "RAG_REDIS_URL")
    with tls_proxy(valkey_path, authorities.server_context("localhost")) as port:
        ping("rediss", port, authorities.own)
        assert_refused(lambda: ping("rediss", port, authorities.foreign), *refused)
        with pytest.raises(RagError, match="does not answer"):
            ping("redis", port, "")
    with tls_proxy(valkey_path, authorities.server_context("redis.example")) as port:
        assert_refused(lambda: ping("rediss", port, authorities.own), *refused)
