"""The baselines of `ingestion`: other libraries that index the same files, each run by its own interpreter.

They require different versions of pymilvus. `make baselines` creates their environments in `.baselines/`, with the
newest packages. RAG_BENCH_BASELINES names another folder.
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

FOLDER = Path(os.environ.get("RAG_BENCH_BASELINES", ROOT / ".baselines"))

#: Name -> (folder of its environment, its script, its required modules).
BASELINES = {
    "LangChain": ("langchain", "langchain_index", "langchain_classic, langchain_milvus, psycopg"),
    "LlamaIndex": (
        "llama_index",
        "llama_index_pipeline",
        "llama_index.core, llama_index.vector_stores.milvus, llama_index.storage.docstore.postgres",
    ),
}


def python_of(environment: str) -> Path:
    return FOLDER / environment / "bin" / "python"


def missing(environment: str, modules: str, target: str = "baselines") -> str | None:
    """The reason why a program cannot run in an environment, with the command that fixes it; None if it can."""
    python = python_of(environment)
    if not python.exists():
        return f"{python} is missing: make {target}"
    process = subprocess.run([python, "-c", f"import {modules}"], capture_output=True, text=True)
    if process.returncode:
        last = process.stderr.strip().rpartition("\n")[2]
        return f"{python} cannot import its modules ({last}): make {target}"
    return None


def measure(
    python: Path | str, module: str, corpus: Path, files: int | None = None
) -> dict[str, Any]:
    """Run a script on a copy of the corpus, in a fresh home with both servers. Returns its figures."""
    with fresh_home() as home:
        folder = copy_corpus(corpus, home / "corpus", files)
        script = Path(__file__).with_name(f"{module}.py")
        servers = (start_postgres(home).url, start_milvus(home).uri)
        process = subprocess.run(
            [python, "-P", script, *servers, folder],
            env=os.environ | {"PYTHONPATH": str(ROOT), "GRPC_VERBOSITY": "NONE"},
            stdout=subprocess.PIPE,
            text=True,
        )
    if process.returncode:
        raise SystemExit(f"{module}: exit code {process.returncode}")
    return json.loads(process.stdout.splitlines()[-1])
