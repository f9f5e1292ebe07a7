"""The embedded stack: PostgreSQL and Milvus Lite under one home folder (`RAG_HOME`).

All functions are idempotent and safe to call from several processes at once; servers keep running when their starter
ends. All files are under home: `postgres/`, `milvus/` (data), `run/` (locks, records), `logs/`; only the
PostgreSQL socket moves to the temporary folder when the path of home is too long for one. POSIX systems only.
"""

from __future__ import annotations

from pathlib import Path

from resources.embedded.milvus import (
    MilvusEndpoint,
    running_milvus,
    start_milvus,
    stop_milvus,
)
from resources.embedded.postgres import (
    PostgresEndpoint,
    running_postgres,
    start_postgres,
    stop_postgres,
)

__all__ = [
    "MilvusEndpoint",
    "PostgresEndpoint",
    "running",
    "start_milvus",
    "start_postgres",
    "stop",
]


def stop(home: Path, *, timeout: float = 30) -> list[str]:
    """Stop the servers of this home, each within `timeout` seconds. Return the names of those stopped."""
    home = home.expanduser().resolve()
    if not (home / "run").is_dir():
        return []
    servers = {"milvus": stop_milvus, "postgres": stop_postgres}
    return [name for name, stop_one in servers.items() if stop_one(home, timeout)]


def running(home: Path) -> dict[str, str]:
    """Return the servers that run for this home: `postgres` → URL, `milvus` → URI. Takes a few milliseconds."""
    home = home.expanduser().resolve()
    urls = {"postgres": running_postgres(home), "milvus": running_milvus(home)}
    return {name: url for name, url in urls.items() if url}
