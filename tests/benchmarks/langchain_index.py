"""The LangChain baseline of `ingestion`: Markdown files through `index()` into Milvus, its records in PostgreSQL.

A script for LangChain's interpreter (see `baselines`).
"""
# LangChain is not a dependency of this project:
# pyright: reportMissingImports=false

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from langchain_classic.indexes import SQLRecordManager
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.indexing import index
from langchain_milvus import Milvus
from langchain_text_splitters import MarkdownTextSplitter

from tests.benchmarks.free_embedder import vector
from tests.benchmarks.workload import INDEX, MAX_CHARS, NAME, markdown_files, run_phases

#: Chunks per batch: one query for records, one insert into Milvus. As fast as LangChain's default of 100.
BATCH = 500


class FreeEmbeddings(Embeddings):
    """The same vectors as `FreeEmbedder`, as lists of floats for LangChain's interface."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [vector(text).tolist() for text in texts]

    def embed_query(self, text: str) -> list[float]:
        return vector(text).tolist()


def chunks(folder: Path) -> Iterator[Document]:
    splitter = MarkdownTextSplitter(chunk_size=MAX_CHARS, chunk_overlap=0)
    for path in markdown_files(folder):
        text = path.read_text(encoding="utf-8", errors="replace")
        source = path.relative_to(folder).as_posix()
        yield from splitter.split_documents([Document(text, metadata={"source": source})])


def prepare(postgres_url: str, milvus_uri: str, folder: Path) -> Callable[[], tuple[int, int]]:
    records = SQLRecordManager(
        NAME, db_url=postgres_url.replace("postgresql:", "postgresql+psycopg:", 1)
    )
    records.create_schema()
    store = Milvus(
        FreeEmbeddings(),
        collection_name=NAME,
        connection_args={"uri": milvus_uri},
        index_params=INDEX,
        consistency_level="Strong",
    )

    def run() -> tuple[int, int]:
        # "full" also deletes the chunks of deleted files, as rag-assets does. "incremental" deletes and adds again the
        # chunks of a file that spans two batches: 310 of 20,695 if nothing has changed.
        counts = index(
            chunks(folder),
            records,
            store,
            batch_size=BATCH,
            cleanup="full",
            source_id_key="source",
            key_encoder="blake2b",
        )
        return counts["num_added"], counts["num_deleted"]

    return run


if __name__ == "__main__":
    run_phases(prepare, ("langchain-core", "langchain-classic", "langchain-milvus", "pymilvus"))
