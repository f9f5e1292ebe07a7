"""The LlamaIndex baseline of `ingestion`: Markdown files through an IngestionPipeline, docstore in PostgreSQL.

A script for LlamaIndex's interpreter (see `baselines`).
"""
# LlamaIndex is not a dependency of this project:
# pyright: reportMissingImports=false, reportIncompatibleMethodOverride=false

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from langchain_text_splitters import MarkdownTextSplitter
from llama_index.core import Document
from llama_index.core.embeddings import BaseEmbedding
from llama_index.core.ingestion import DocstoreStrategy, IngestionPipeline
from llama_index.core.node_parser import LangchainNodeParser
from llama_index.storage.docstore.postgres import PostgresDocumentStore
from llama_index.storage.kvstore.postgres import PostgresKVStore
from llama_index.vector_stores.milvus import MilvusVectorStore

from tests.benchmarks.free_embedder import vector
from tests.benchmarks.workload import INDEX, MAX_CHARS, NAME, markdown_files, run_phases

#: Rows per insert into Milvus, and documents per statement.
BATCH = 500


class FreeEmbedding(BaseEmbedding):
    """The same vectors as `FreeEmbedder`, as lists of floats for LlamaIndex's interface."""

    def _get_text_embedding(self, text: str) -> list[float]:
        return vector(text).tolist()

    def _get_query_embedding(self, query: str) -> list[float]:
        return vector(query).tolist()

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return vector(query).tolist()


def documents(folder: Path) -> list[Document]:
    """The files as documents. Their metadata is not embedded, as on the other sides."""
    documents = []
    for path in markdown_files(folder):
        key = path.relative_to(folder).as_posix()
        text = path.read_text(encoding="utf-8", errors="replace")
        documents.append(
            Document(
                text=text,
                id_=key,
                metadata={"source": key},
                excluded_embed_metadata_keys=["source"],
            )
        )
    return documents


def prepare(postgres_url: str, milvus_uri: str, folder: Path) -> Callable[[], tuple[int, int]]:
    store = MilvusVectorStore(
        milvus_uri,
        collection_name=NAME,
        dim=len(vector("")),
        index_config={key: value for key, value in INDEX.items() if key != "metric_type"},
        similarity_metric=INDEX["metric_type"],
        consistency_level="Strong",
        batch_size=BATCH,
        use_async_client=False,
    )
    keys = PostgresKVStore(
        NAME,
        postgres_url.replace("postgresql:", "postgresql+psycopg2:", 1),
        postgres_url.replace("postgresql:", "postgresql+asyncpg:", 1),
    )
    pipeline = IngestionPipeline(
        transformations=[
            LangchainNodeParser(MarkdownTextSplitter(chunk_size=MAX_CHARS, chunk_overlap=0)),
            FreeEmbedding(embed_batch_size=BATCH),
        ],
        vector_store=store,
        docstore=PostgresDocumentStore(keys, batch_size=BATCH),
        # Also deletes the nodes of deleted files, as the other sides do.
        docstore_strategy=DocstoreStrategy.UPSERTS_AND_DELETE,
        # The cache is in memory, so a new process cannot use it; here it would only cost time.
        disable_cache=True,
    )

    def run() -> tuple[int, int]:
        # A changed document is replaced as a whole; the number of deletions is not reported.
        return len(pipeline.run(documents=documents(folder))), 0

    return run


if __name__ == "__main__":
    run_phases(
        prepare,
        (
            "llama-index-core",
            "llama-index-vector-stores-milvus",
            "llama-index-storage-docstore-postgres",
            "pymilvus",
        ),
    )
