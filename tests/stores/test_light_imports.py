"""Modules that start fast: each one is loaded in a new process, without the libraries that would cost it seconds."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOAD_SETTINGS = "from rag_assets.settings.load import load_settings; load_settings()"

#: name -> the code, and the libraries that it must not load. pymilvus takes 0.6 s, Dagster 0.8 s, torch 3 s.
LIGHT: dict[str, tuple[str, set[str]]] = {
    "the command line": (
        "import rag_assets.cli.main",
        {"torch", "dagster", "pymilvus", "kreuzberg", "lingua", "FlagEmbedding", "pyarrow"},
    ),
    "the public names, before they are used": (
        "import rag_assets; rag_assets.RagError",
        {"rag_assets.deployment", "rag_assets.search", "pydantic", "numpy", "pymilvus"},
    ),
    "the settings": (LOAD_SETTINGS, {"dagster", "croniter"}),
    "a schedule in the settings": (
        f"import os; os.environ['RAG_SYNC_SCHEDULE'] = '0 3 * * *'; {LOAD_SETTINGS}",
        {"dagster"},
    ),
    "parsing": ("import resources.parsing", {"kreuzberg", "ftfy", "lingua", "charset_normalizer"}),
    "the identity of BGE-M3": (
        "from resources.embedders.registry import create_embedder;"
        "assert create_embedder('bge-m3').identity['model'] == 'BAAI/bge-m3'",
        {"torch", "FlagEmbedding", "transformers"},
    ),
}


@pytest.mark.parametrize("name", LIGHT)
def test_no_heavy_library_is_loaded(name: str) -> None:
    if name == "the identity of BGE-M3" and find_spec("FlagEmbedding") is None:
        pytest.skip("the extra bge-m3 is not installed")
    code, heavy = LIGHT[name]
    process = subprocess.run(
        [
            sys.executable,
            "-c",
            f"import sys; {code}; print(sorted({heavy!r} & sys.modules.keys()))",
        ],
        cwd=ROOT,
        env={key: value for key, value in os.environ.items() if not key.startswith("RAG_")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (process.returncode, process.stdout.strip()) == (0, "[]"), process.stderr
