"""The embedded stack: PostgreSQL, Milvus Lite and Valkey under one home folder (`RAG_HOME`).

All functions are idempotent and safe to call from several processes at once; servers keep running when their starter
ends. All files are under home: `postgres/`, `milvus/` (data), `run/` (locks, records), `logs/`; only the sockets of
PostgreSQL and Valkey move to the temporary folder when the path of home is too long for one. POSIX systems only.
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
from resources.embedded.valkey import (
    ValkeyEndpoint,
    restart_valkey,
    running_valkey,
    start_valkey,
    stop_valkey,
)

__all__ = [
    "MilvusEndpoint",
    "PostgresEndpoint",
    "ValkeyEndpoint",
    "restart_valkey",
    "running",
    "start_milvus",
    "start_postgres",
    "start_valkey",
    "stop",
]


def stop(home: Path, *, timeout: float = 30) -> list[str]:
    """Stop the servers of this home, each within `timeout` seconds. Return the names of those stopped."""
    home = home.expanduser().resolve()
    if not (home / "run").is_dir():
        return []
    servers = {"valkey": stop_valkey, "milvus": stop_milvus, "postgres": stop_postgres}
    return [name for name, stop_one in servers.items() if stop_one(home, timeout)]


def running(home: Path) -> dict[str, str]:
    """Return the servers that run for this home: `postgres`, `milvus`, `valkey` → URL. Takes a few milliseconds."""
    home = home.expanduser().resolve()
    urls = {
        "postgres": running_postgres(home),
        "milvus": running_milvus(home),
        "valkey": running_valkey(home),
    }
    return {name: url for name, url in urls.items() if url}
