"""Opens PostgreSQL, Milvus, the embedder and the reranker of the settings, for the command line and for Dagster.

An empty URL means the embedded server under `home`, which is started if it is not running. Milvus and the embedders are
imported at first use: most `rag` commands use no Milvus and start without pymilvus.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resources.embedded.process import find
from resources.embedded.stack import (
    PostgresEndpoint,
    restart_valkey,
    start_milvus,
    start_postgres,
    start_valkey,
)
from resources.extras import is_installed
from resources.postgres.connection import Postgres
from resources.postgres.schema import migrate
from resources.waiting import waiting

if TYPE_CHECKING:
    from rag_assets.pipeline.reranker import Reranker
    from rag_assets.pipeline.vectors import Embedder, Kind
    from resources.milvus.store import MilvusStore
    from resources.redis.client import RedisClient

#: Seconds that an embedded server has to start, or to answer again.
START_SECONDS = 60.0
#: Seconds until the schema of a database, and whether the embedded server answers, are checked again: a run opens it
#: for each of its stages and checks.
SCHEMA_SECONDS = 10.0
#: URL -> monotonic time at which its schema was last found or made current.
_MIGRATED_AT: dict[str, float] = {}
#: Home -> its embedded server, and the monotonic time at which it last answered.
_ANSWERED: dict[Path, tuple[PostgresEndpoint, float]] = {}


def postgres_url(url: str, home: Path) -> str:
    if url:
        return url
    # Two connections and a lock, for each stage and each check: 10 ms.
    server, answered_at = _ANSWERED.get(home, (None, 0.0))
    if server and time.monotonic() - answered_at < SCHEMA_SECONDS and find(server.pid):
        return server.url
    with waiting("the embedded PostgreSQL", START_SECONDS):
        server = start_postgres(home, timeout=START_SECONDS)
    _ANSWERED[home] = server, time.monotonic()
    return server.url


def milvus_uri(uri: str, home: Path) -> str:
    if uri:
        return uri
    with waiting("the embedded Milvus", START_SECONDS):
        return start_milvus(home, timeout=START_SECONDS).uri


def redis_url(url: str, home: Path) -> str:
    """Return the URL of the Redis server; "" where none is configured and the embedded Valkey is not installed."""
    if url or not is_installed("valkey"):
        return url
    with waiting("the embedded Valkey", START_SECONDS):
        return start_valkey(home, timeout=START_SECONDS).url


def open_redis(url: str, ca_file: str, pool_size: int, home: Path) -> RedisClient | None:
    """Return a client of the Redis server, or None if there is none. An embedded server that is killed is restarted."""
    from resources.redis.client import RedisClient

    if not (found := redis_url(url, home)):
        return None
    restart = None if url else functools.partial(restart_valkey, home)
    return RedisClient(found, ca_file=ca_file, pool_size=pool_size, restart=restart)


def open_postgres(url: str, home: Path, lock_timeout: float) -> Postgres:
    """Return the database, migrated to the schema of this code."""
    url = postgres_url(url, home)
    if time.monotonic() - _MIGRATED_AT.get(url, -SCHEMA_SECONDS) >= SCHEMA_SECONDS:
        migrate(url)
        _MIGRATED_AT[url] = time.monotonic()
    return Postgres(url, lock_timeout)


def open_milvus(
    uri: str, token: str, home: Path, timeout: float, search_consistency: str, ca_file: str = ""
) -> MilvusStore:
    """Return a client of the server. The embedded server has no token and no certificate."""
    from resources.milvus.store import MilvusStore

    if not uri:
        return MilvusStore(milvus_uri(uri, home), "", timeout, search_consistency)
    return MilvusStore(uri, token, timeout, search_consistency, ca_file)


def open_embedder(
    spec: str, options: Mapping[str, Any], kinds: tuple[Kind, ...], api_key: str = ""
) -> Embedder:
    """Return the embedder of these kinds, one per process, since it loads its model at first use.

    Only `openai` takes a key. A model without sparse vectors gets them from words: `combined`.
    """
    if api_key and spec == "openai":
        options = {**options, "api_key": api_key}
    return _embedder(spec, tuple(sorted(options.items())), kinds)


@functools.lru_cache(maxsize=4)
def _embedder(spec: str, options: tuple[tuple[str, Any], ...], kinds: tuple[Kind, ...]) -> Embedder:
    from resources.embedders.combined import for_kinds
    from resources.embedders.registry import create_embedder

    return for_kinds(create_embedder(spec, **dict(options)), kinds)


def open_reranker(name: str, options: Mapping[str, Any], api_key: str = "") -> Reranker | None:
    """Return the reranker, one per process, or None without a name. Only `endpoint` takes a key."""
    if not name:
        return None
    if api_key and name == "endpoint":
        options = {**options, "api_key": api_key}
    return _reranker(name, tuple(sorted(options.items())))


@functools.lru_cache(maxsize=1)
def _reranker(name: str, options: tuple[tuple[str, Any], ...]) -> Reranker:
    from resources.rerankers.registry import create_reranker

    return create_reranker(name, **dict(options))
