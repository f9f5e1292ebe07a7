"""LangChain's side of `ingestion`: Markdown files through `index()` into Milvus, its records in PostgreSQL.

A script for another interpreter (RAG_BENCH_PYTHON): `langchain_index.py POSTGRES_URL MILVUS_URI FOLDER`. It indexes the
folder three times (cold, unchanged, 1 % edited: it edits the files) and prints one JSON line of seconds and counts.
"""
# LangChain is no dependency of this project:
# pyright: reportMissingImports=false

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
from langchain_classic.indexes import SQLRecordManager
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.indexing import index
from langchain_milvus import Milvus
from langchain_text_splitters import MarkdownTextSplitter

from tests.benchmarks.free_embedder import vector
from tests.benchmarks.workload import edit_one_percent, markdown_files, until_quiet

#: Seconds from the start of this process until it can begin.
IMPORTS = time.time() - psutil.Process().create_time()

#: Chunks a batch: one query for records, one insert into Milvus. As fast as LangChain's default of 100.
BATCH = 500


class FreeEmbeddings(Embeddings):
    """The function that the other side has, as LangChain's interface wants it: lists of floats."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [vector(text).tolist() for text in texts]

    def embed_query(self, text: str) -> list[float]:
        return vector(text).tolist()


def chunks(folder: Path) -> Iterator[Document]:
    """Of about the other side's size (RAG_CHUNK_MAX_CHARS), without overlap, as there."""
    splitter = MarkdownTextSplitter(chunk_size=1000, chunk_overlap=0)
    for path in markdown_files(folder):
        text = path.read_text(encoding="utf-8", errors="replace")
        source = path.relative_to(folder).as_posix()
        yield from splitter.split_documents([Document(text, metadata={"source": source})])


def main(postgres_url: str, milvus_uri: str, folder: Path) -> dict[str, Any]:
    records = SQLRecordManager(
        "benchmark", db_url=postgres_url.replace("postgresql:", "postgresql+psycopg:", 1)
    )
    records.create_schema()
    store = Milvus(
        FreeEmbeddings(),
        collection_name="benchmark",
        connection_args={"uri": milvus_uri},
        index_params={
            "index_type": "HNSW",
            "metric_type": "IP",
            "params": {"M": 16, "efConstruction": 256},
        },
        consistency_level="Strong",
    )

    def run() -> tuple[float, dict[str, int]]:
        nonlocal quiet
        quiet = until_quiet() and quiet
        started = time.perf_counter()
        # "full", as the other side: also what a deleted file left is deleted. "incremental" deletes and adds anew the
        # chunks of a file that two batches share, 310 of 20,695 when nothing has changed.
        found = index(
            chunks(folder),
            records,
            store,
            batch_size=BATCH,
            cleanup="full",
            source_id_key="source",
            key_encoder="blake2b",
        )
        return time.perf_counter() - started, dict(found)

    quiet = True
    cold, first = run()
    unchanged, second = run()
    edits = edit_one_percent(folder)
    edited, third = run()
    if second["num_added"] or second["num_deleted"] or third["num_added"] < edits:
        raise SystemExit(f"not what was to be measured: {first}, {second}, {third}")
    return {
        "cold": cold,
        "unchanged": unchanged,
        "edited": edited,
        "chunks": first["num_added"],
        "imports": IMPORTS,
        "quiet": quiet,
    }


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))))
