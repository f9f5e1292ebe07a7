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
        {"torch", "dagster", "pymilvus", "numpy", "pydantic", "psycopg", "rag_assets.deployment"},
    ),
    "a search, and rag ingest of a source with nothing to do": (
        "import rag_assets.cli.search, rag_assets.search.searcher, rag_assets.cli.ingest,"
        " rag_assets.operations.ingest_targets, rag_assets.ingestion.up_to_date",
        {"dagster", "pandas", "scipy", "requests", "kreuzberg", "lingua", "rag_assets.evaluation"},
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
    "the identity and the dimension of a model of sentence-transformers": (
        "import json, pathlib, tempfile; folder = pathlib.Path(tempfile.mkdtemp());"
        "types = [f'sentence_transformers.models.{name}' for name in ('Transformer', 'Normalize')];"
        "modules = [{'path': '', 'type': name} for name in types];"
        "_ = (folder / 'modules.json').write_text(json.dumps(modules));"
        "_ = (folder / 'config.json').write_text(json.dumps({'hidden_size': 8}));"
        "from resources.embedders.registry import create_embedder;"
        "embedder = create_embedder('sentence-transformers', model=str(folder));"
        "assert embedder.identity['revision'].startswith('sha256:') and embedder.dimension == 8;"
        "import shutil; shutil.rmtree(folder)",
        {"torch", "sentence_transformers", "transformers", "huggingface_hub"},
    ),
}

#: Cases -> the library that they need.
NEEDS = {
    "the identity of BGE-M3": "FlagEmbedding",
    "the identity and the dimension of a model of sentence-transformers": "sentence_transformers",
}


#: pymilvus without the libraries that it asks about types, which it knows nevertheless where a process has them.
PYMILVUS = """
import sys
from resources.milvus.driver import MilvusClient
from pymilvus.client.entity_helper import entity_is_sparse_matrix
from pymilvus.orm.schema import check_is_row_based, infer_dtype_bydata

assert entity_is_sparse_matrix([{1: 0.5}]) and not entity_is_sparse_matrix([[0.5, 0.5]])
assert check_is_row_based([{"id": 1}])
print(sorted({"pandas", "pyarrow", "scipy", "scipy.sparse", "requests"} & sys.modules.keys()))

from pymilvus.client.global_topology import requests
assert issubclass(requests.exceptions.RequestException, OSError)
import pandas
from pandas.api.types import is_scalar
assert pandas.__name__ in sys.modules and callable(pandas.read_csv) and is_scalar(1)
assert not check_is_row_based(pandas.DataFrame({"id": [1]}))
from pymilvus.orm.schema import pd
assert type(pd.DataFrame({"id": [1]})) is pandas.DataFrame
assert len(pd.DataFrame.from_records([(1,), (2,)])) == 2
assert infer_dtype_bydata("text").name == "VARCHAR"
try:
    from scipy.sparse import csr_array
except ModuleNotFoundError:
    pass
else:
    assert entity_is_sparse_matrix(csr_array([[0.5, 0.0]]))
"""


def test_pymilvus_loads_no_library_for_arguments_that_nobody_passes() -> None:
    process = subprocess.run(
        [sys.executable, "-c", PYMILVUS], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (process.returncode, process.stdout) == (0, "[]\n"), process.stderr


@pytest.mark.parametrize("name", LIGHT)
def test_no_heavy_library_is_loaded(name: str) -> None:
    if name in NEEDS and find_spec(NEEDS[name]) is None:
        pytest.skip(f"{NEEDS[name]} is not installed")
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
