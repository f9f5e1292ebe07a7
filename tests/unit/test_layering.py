"""Imports point one way, and the command line starts without what it may not need."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

#: What pure code has no business with: orchestration, stores, and the network.
WORLD = {
    "dagster", "psycopg", "psycopg2", "sqlalchemy", "alembic", "pymilvus", "milvus_lite", "grpc", "fsspec",
    "requests", "httpx", "aiohttp", "urllib3", "urllib", "http", "socket", "ssl", "asyncio", "subprocess", "boto3",
}  # fmt: skip


def imports(path: Path) -> Iterator[str]:
    """The absolute names that a module imports, wherever in it: under a function and TYPE_CHECKING too."""
    package = path.relative_to(ROOT).with_suffix("").parts
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = ".".join(package[: -node.level]) if node.level else ""
            module = ".".join(part for part in (module, node.module or "") if part)
            yield from (f"{module}.{alias.name}" for alias in node.names)


def modules(folder: str) -> list[Path]:
    found = sorted((ROOT / folder).rglob("*.py"))
    assert len(found) > 3
    return found


@pytest.mark.parametrize(
    "path", modules("rag_assets/pipeline"), ids=lambda path: path.relative_to(ROOT).as_posix()
)
def test_the_pipeline_knows_nothing_of_the_world(path: Path) -> None:
    for name in imports(path):
        assert name.split(".")[0] not in WORLD | {"resources"}, name
        assert not name.startswith("rag_assets") or name.startswith("rag_assets.pipeline"), name


@pytest.mark.parametrize(
    "path", modules("resources"), ids=lambda path: path.relative_to(ROOT).as_posix()
)
def test_resources_know_of_the_project_only_its_pipeline(path: Path) -> None:
    for name in imports(path):
        assert not name.startswith("rag_assets") or name.startswith("rag_assets.pipeline."), name


def test_the_command_line_starts_light() -> None:
    """`rag status` is to answer at once: pymilvus alone takes 0.6 s, Dagster 0.8 s, torch 3 s."""
    heavy = {"torch", "dagster", "pymilvus", "kreuzberg", "lingua", "FlagEmbedding", "pyarrow"}
    code = f"import sys, rag_assets.cli.main; print(sorted({heavy!r} & sys.modules.keys()))"
    answer = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "[]"
