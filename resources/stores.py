"""Opens PostgreSQL, Milvus and the embedder as settings name them. An empty URL means the embedded server under `home`,
which is started when it does not run.

The command line (`Deployment`) and Dagster's resources (`configured`) open them here. What they are made of is imported
where it is needed: most `rag` commands ask no Milvus and start without pymilvus.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resources.embedded.stack import start_milvus, start_postgres
from resources.postgres.connection import Postgres
from resources.postgres.schema import migrate

if TYPE_CHECKING:
    from rag_assets.pipeline.vectors import Embedder
    from resources.milvus.store import MilvusStore


def postgres_url(url: str, home: Path) -> str:
    return url or start_postgres(home).url


def milvus_uri(uri: str, home: Path) -> str:
    return uri or start_milvus(home).uri


def open_postgres(url: str, home: Path, lock_timeout: float) -> Postgres:
    """The database at the schema of this code."""
    url = postgres_url(url, home)
    migrate(url)
    return Postgres(url, lock_timeout)


def open_milvus(uri: str, token: str, home: Path, timeout: float) -> MilvusStore:
    """The server; the embedded one knows no token."""
    from resources.milvus.store import MilvusStore

    return MilvusStore(milvus_uri(uri, home), token if uri else "", timeout)


def open_embedder(spec: str, options: Mapping[str, Any]) -> Embedder:
    """The embedder; made once a process, since its model is loaded at the first use."""
    return _embedder(spec, tuple(sorted(options.items())))


@functools.lru_cache(maxsize=4)
def _embedder(spec: str, options: tuple[tuple[str, Any], ...]) -> Embedder:
    from resources.embedders.registry import create_embedder

    return create_embedder(spec, **dict(options))
