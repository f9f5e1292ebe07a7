"""Imports point one way: one table names every allowed arrow between rooms.

A room is a folder. A folder with rooms below it is none: each module that lies directly in it counts by itself, except
that the ground and the top of `resources/` are named as groups.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]

#: Modules of `resources/` that know nothing of ours but the pipeline and each other.
GROUND = {
    "arrow_arrays", "batched_writes", "child_process", "credentials", "driver_errors", "errors", "extras",
    "fault_injection", "files", "frames", "home_folder", "http_answers", "library_errors", "model_server",
    "oidc_provider", "partition_keys", "run_processes", "secret_key", "storage_errors", "tls_probe", "urls", "waiting",
}  # fmt: skip
#: Modules of `resources/` that open and combine the stores.
TOP = {"embedding_files", "open_stores", "vector_stores"}

#: Packages that the pipeline must not import: orchestration, stores and the network.
WORLD = {
    "dagster", "psycopg", "psycopg2", "sqlalchemy", "alembic", "pymilvus", "milvus_lite", "grpc", "fsspec",
    "requests", "httpx", "aiohttp", "urllib3", "urllib", "http", "socket", "ssl", "asyncio", "subprocess", "boto3",
}  # fmt: skip

#: Dagster's doors, and the only rooms that may import Dagster or its resources.
DOORS = {
    "assets", "checks", "automation", "cli", "definitions", "deployment", "dagster_internals", "dagster_storage",
    "job_runs", "partitions", "resources/dagster_resources",
}  # fmt: skip

ARROWS: Mapping[str, str] = {
    "cli": (
        "assets consistency deployment embedded evaluation ground identity ingestion job_runs "
        "milvus operations partitions pipeline postgres/connection postgres/consistency "
        "postgres/documents postgres/evaluation postgres/identity postgres/registry "
        "postgres/run_queue postgres/scope postgres/vectors search serving settings sources"
    ),
    "deployment": (
        "automation dagster_storage definitions embedded evaluation ground identity job_runs "
        "milvus operations pipeline postgres/connection postgres/connection_pool "
        "postgres/consistency postgres/evaluation postgres/identity postgres/registry "
        "postgres/schema redis search settings stores"
    ),
    "job_runs": "ground partitions",
    "definitions": (
        "assets automation checks dagster_internals resources/dagster_resources settings"
    ),
    "automation": (
        "assets checks consistency dagster_internals dagster_storage ground ingestion "
        "operations partitions pipeline postgres/connection postgres/consistency "
        "postgres/documents postgres/evaluation postgres/registry postgres/vectors "
        "resources/dagster_resources settings sources"
    ),
    "assets": (
        "dagster_internals evaluation ground ingestion milvus parsing partitions pipeline "
        "postgres/connection postgres/evaluation postgres/registry postgres/table_sample "
        "resources/dagster_resources settings"
    ),
    "operations": (
        "consistency ground ingestion milvus parsing pipeline postgres/connection "
        "postgres/consistency postgres/documents postgres/identity postgres/registry "
        "postgres/vectors sources stores"
    ),
    "checks": (
        "assets consistency dagster_internals evaluation ground partitions pipeline "
        "postgres/connection postgres/consistency postgres/evaluation postgres/registry "
        "resources/dagster_resources settings"
    ),
    "ingestion": (
        "consistency embedders evaluation ground milvus parsing pipeline postgres/connection "
        "postgres/consistency postgres/documents postgres/evaluation postgres/identity "
        "postgres/idle_sources postgres/registry postgres/scope postgres/table_sample "
        "postgres/vectors sources stores"
    ),
    "identity": "ground pipeline postgres/connection postgres/connection_pool postgres/identity",
    "evaluation": (
        "consistency ground milvus pipeline postgres/connection postgres/evaluation "
        "postgres/registry postgres/vectors search stores"
    ),
    "consistency": (
        "embedders ground milvus pipeline postgres/connection postgres/consistency "
        "postgres/registry postgres/scope postgres/vectors sources stores"
    ),
    "resources/dagster_resources": "ground milvus pipeline postgres/connection stores",
    "postgres/consistency": "postgres/connection postgres/queries postgres/schema postgres/vectors",
    "postgres/idle_sources": (
        "pipeline postgres/connection postgres/documents postgres/queries postgres/scope "
        "postgres/vectors"
    ),
    "search": (
        "embedders ground milvus pipeline postgres/connection postgres/connection_pool "
        "postgres/registry postgres/search postgres/vectors"
    ),
    "stores": (
        "embedded embedders ground milvus pipeline postgres/connection postgres/schema "
        "postgres/scope postgres/vectors redis rerankers"
    ),
    "postgres/vectors": (
        "ground pipeline postgres/bulk_copy postgres/connection postgres/documents "
        "postgres/queries postgres/registry postgres/scope postgres/table_statistics "
        "postgres/work_table"
    ),
    "postgres/documents": (
        "ground pipeline postgres/bulk_copy postgres/connection postgres/queries "
        "postgres/registry postgres/scope postgres/work_table"
    ),
    "postgres/evaluation": (
        "ground pipeline postgres/bulk_copy postgres/connection postgres/queries postgres/registry"
    ),
    "postgres/search": (
        "ground pipeline postgres/bulk_copy postgres/connection postgres/queries postgres/registry"
    ),
    "postgres/identity": "ground pipeline postgres/connection postgres/queries",
    "sources": "ground parsing pipeline postgres/registry",
    "dagster_storage": "embedded ground partitions settings",
    "postgres/registry": (
        "ground pipeline postgres/bulk_copy postgres/connection postgres/identity "
        "postgres/queries postgres/work_table"
    ),
    "dagster_internals": "partitions",
    "postgres/bulk_copy": "postgres/connection",
    "postgres/schema": "ground postgres/connection postgres/queries",
    "postgres/run_queue": "postgres/connection postgres/queries",
    "postgres/table_sample": "postgres/connection postgres/queries",
    "postgres/table_statistics": "postgres/connection postgres/queries",
    "postgres/work_table": "postgres/connection postgres/queries",
    "embedded": "ground",
    "embedders": "ground pipeline",
    "rerankers": "embedders ground pipeline",
    "milvus": "ground pipeline",
    "parsing": "ground pipeline",
    "postgres/connection_pool": "ground postgres/connection",
    "postgres/connection": "ground postgres/idle_sessions postgres/queries",
    "settings": "ground pipeline",
    "ground": "pipeline",
    "postgres/scope": "pipeline",
    "partitions": "",
    "pipeline": "",
    "postgres/queries": "",
    "own_resources": "",
    "serving": (
        "deployment ground identity pipeline postgres/connection_pool postgres/documents "
        "postgres/identity postgres/queries redis search settings"
    ),
    "postgres/idle_sessions": "",
    "redis": "ground",
}


def room(module: str) -> str:
    """Return the room of a module, as the table names it."""
    parts = module.split(".")
    if parts[0] == "rag_assets":
        return parts[1] if len(parts) > 1 else "rag_assets"
    if len(parts) == 2 and not (ROOT / "resources" / parts[1]).is_dir():
        name = parts[1]
        return "ground" if name in GROUND else "stores" if name in TOP else f"resources/{name}"
    if parts[1] == "postgres" and len(parts) > 2:
        return f"postgres/{parts[2]}"
    return parts[1] if len(parts) > 1 else "resources"


@cache
def modules() -> Mapping[str, Path]:
    """Return module -> file for all modules of the project, packages without code left out."""
    found = {}
    for top in ("rag_assets", "resources"):
        for path in (ROOT / top).rglob("*.py"):
            if "migrations" in path.parts or path.name == "__init__.py":
                continue
            found[".".join(path.relative_to(ROOT).with_suffix("").parts)] = path
    for path in (ROOT / "resources").rglob("__init__.py"):
        if len(ast.parse(path.read_text(encoding="utf-8")).body) > 1:
            found[".".join(path.parent.relative_to(ROOT).parts)] = path
    assert len(found) > 200
    return found


@cache
def imported_names(path: Path) -> frozenset[str]:
    """Return the absolute names that a module imports, also under functions and TYPE_CHECKING."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: expected absolute imports"
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return frozenset(names)


@cache
def imports() -> Mapping[str, set[str]]:
    """Return module -> the project's modules that it imports."""
    known = modules()
    graph: dict[str, set[str]] = {}
    for module, path in known.items():
        names = (
            name if name in known else name.rpartition(".")[0] for name in imported_names(path)
        )
        graph[module] = {name for name in names if name in known and name != module}
    return graph


def arrows() -> dict[str, set[str]]:
    """Return room -> the rooms that its modules import."""
    graph: dict[str, set[str]] = {room(module): set() for module in imports()}
    for module, names in imports().items():
        graph[room(module)] |= {room(name) for name in names} - {room(module)}
    return graph


def circles(graph: Mapping[str, set[str]]) -> list[str]:
    """Return the nodes that reach themselves."""

    def reachable(start: str) -> set[str]:
        seen: set[str] = set()
        waiting = list(graph[start])
        while waiting:
            if (node := waiting.pop()) not in seen:
                seen.add(node)
                waiting += graph[node]
        return seen

    return [node for node in graph if node in reachable(node)]


def is_forbidden(importer: str, name: str) -> bool:
    """Whether a module of this room must not import the name, whatever the table allows."""
    if importer == "pipeline" and (
        name.split(".")[0] in WORLD | {"resources"}
        or (name.startswith("rag_assets") and not name.startswith("rag_assets.pipeline"))
    ):
        return True
    of_dagster = name.startswith(
        ("dagster", "resources.dagster_resources", "rag_assets.partitions")
    )
    return of_dagster and importer not in DOORS


def test_the_table_names_every_arrow_between_rooms_and_no_other() -> None:
    allowed = {name: set(names.split()) for name, names in ARROWS.items()}
    actual = arrows()
    nothing: set[str] = set()
    violations = [
        *(
            f"not in the table: {a} -> {b}"
            for a in actual
            for b in actual[a] - allowed.get(a, nothing)
        ),
        *(
            f"no import needs: {a} -> {b}"
            for a in allowed
            for b in allowed[a] - actual.get(a, nothing)
        ),
        *(f"in a circle of rooms: {name}" for name in circles(actual)),
    ]
    assert sorted(violations) == []


def test_no_module_is_in_a_circle_or_imports_a_forbidden_name() -> None:
    violations = [
        *(f"in a circle: {module}" for module in circles(imports())),
        *(
            f"forbidden: {module} -> {name}"
            for module, path in modules().items()
            for name in imported_names(path)
            if is_forbidden(room(module), name)
        ),
    ]
    assert sorted(violations) == []
