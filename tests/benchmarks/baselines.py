"""The other sides of `ingestion`: where their interpreters are, and how they are run.

Each has one of its own, since they ask for different versions of pymilvus: `make rivals` makes them in `.rivals/`, with
what is newest. RAG_BENCH_RIVALS names another folder.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from resources.embedded.stack import start_milvus, start_postgres
from tests.benchmarks.rag_command import ROOT, fresh_home
from tests.benchmarks.workload import copy_corpus

FOLDER = Path(os.environ.get("RAG_BENCH_RIVALS", ROOT / ".rivals"))

#: Name -> (folder of its environment, its script, what must be importable).
RIVALS = {
    "LangChain": ("langchain", "langchain_index", "langchain_classic, langchain_milvus, psycopg"),
    "LlamaIndex": (
        "llama_index",
        "llama_index_pipeline",
        "llama_index.core, llama_index.vector_stores.milvus, llama_index.storage.docstore.postgres",
    ),
}


def python_of(rival: str) -> Path:
    return FOLDER / RIVALS[rival][0] / "bin" / "python"


def missing(rival: str) -> str | None:
    """Why the rival cannot be run here, and what mends it."""
    python = python_of(rival)
    if not python.exists():
        return f"{python} is not there: make rivals"
    tried = subprocess.run([python, "-c", f"import {RIVALS[rival][2]}"], capture_output=True, text=True)  # fmt: skip
    if tried.returncode:
        last = tried.stderr.strip().rpartition("\n")[2]
        return f"{python} cannot be used ({last}): make rivals"
    return None


def measure(
    python: Path | str, module: str, corpus: Path, files: int | None = None
) -> dict[str, Any]:
    """What a script says of indexing a copy of the corpus, in a fresh home with both servers."""
    with fresh_home() as home:
        folder = copy_corpus(corpus, home / "corpus", files)
        script = Path(__file__).with_name(f"{module}.py")
        servers = (start_postgres(home).url, start_milvus(home).uri)
        found = subprocess.run(
            [python, "-P", script, *servers, folder],
            env=os.environ | {"PYTHONPATH": str(ROOT), "GRPC_VERBOSITY": "NONE"},
            stdout=subprocess.PIPE,
            text=True,
        )
    if found.returncode:
        raise SystemExit(f"{module}: exit code {found.returncode}")
    return json.loads(found.stdout.splitlines()[-1])
