"""The resources that Dagster configures. Each holds configuration, and hands out a plain object that does the work.

What an empty URL means, and how each is opened: `stores`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dagster as dg
from pydantic import Field

from rag_assets.pipeline.identity import model_fingerprint
from rag_assets.pipeline.index_kinds import index_problems
from rag_assets.pipeline.vectors import Embedder, Kind
from resources.errors import ConfigError
from resources.files import FileStore
from resources.milvus.collections import ALIASES, Layout
from resources.milvus.store import MilvusStore
from resources.open_stores import open_embedder, open_milvus, open_postgres
from resources.postgres.connection import Connection, Postgres
from resources.postgres.scope import SyncScope
from resources.postgres.vectors.collections import written_collection
from resources.postgres.vectors.embeddings import Target
from resources.run_processes import own_run_tags


class PostgresResource(dg.ConfigurableResource):
    """PostgreSQL: the truth about sources, documents and chunks."""

    url: str = Field("", description="libpq URL; empty: the embedded server.")
    home: str = Field(description="Home of the embedded server.")
    lock_timeout: float = Field(
        60.0, description="Seconds to wait for another writer of a partition."
    )

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:
        # Every job has this resource, and its steps run in the process of the run.
        if context.instance is None or context.run is None:
            return
        tags = own_run_tags(context.run.run_id)
        if not tags.items() <= context.run.tags.items():
            context.instance.add_run_tags(context.run.run_id, tags)

    def open(self) -> Postgres:
        return open_postgres(self.url, Path(self.home), self.lock_timeout)


class MilvusResource(dg.ConfigurableResource):
    """Milvus: the vectors, derived from PostgreSQL and Parquet."""

    uri: str = Field("", description="http://host:port; empty: the embedded Milvus Lite.")
    token: str = Field("", description="user:password, or an API key.")
    home: str = Field(description="Home of the embedded server.")
    timeout: float = Field(30.0, description="Seconds a request may take.")
    dense_index: dict[str, Any] = Field(description="index_type, metric_type and params.")
    sparse_index: dict[str, Any] = Field(description="index_type, metric_type and params.")
    dense_search: dict[str, Any] = Field(
        default_factory=dict, description="Search parameters of dense and multi."
    )
    shards: int = 2

    search_consistency: str = Field("Bounded", description="Of searches that measure retrieval.")

    def open(self, search_consistency: str = "Strong") -> MilvusStore:
        return open_milvus(self.uri, self.token, Path(self.home), self.timeout, search_consistency)

    def layout(self, kind: Kind, embedder: Embedder) -> Layout:
        """What the collection of this kind is declared to be."""
        dimension = {"dense": embedder.dimension, "multi": embedder.token_dimension, "sparse": 0}[
            kind
        ]
        index = self.sparse_index if kind == "sparse" else self.dense_index
        if kind != "sparse" and (problems := index_problems(index, dimension=dimension)):
            raise ConfigError("RAG_DENSE_INDEX: " + "; ".join(problems))
        return Layout(kind, dimension, index, self.shards)

    def search_params(self, kind: Kind) -> dict[str, Any]:
        return {} if kind == "sparse" else self.dense_search


class StorageResource(dg.ConfigurableResource):
    """The files: raw bytes as fetched, and embeddings as Parquet."""

    url: str = Field(description="Folder or object storage URL.")
    precision: str = Field("float32", description="Of vectors in Parquet: float32 or float16.")

    def open(self) -> FileStore:
        return FileStore(self.url)


class LimitsResource(dg.ConfigurableResource):
    """From when on what waits is a fault."""

    outbox_seconds: float = Field(
        900.0, description="Seconds that a deletion may wait in the outbox."
    )


class RetrievalResource(dg.ConfigurableResource):
    """How candidates become results, and how far their quality may decline before that is a fault."""

    fusion: str = Field("weighted", description="Of a hybrid: weighted or rrf.")
    margin: float = Field(0.03, description="Of nDCG@10 and the share of answered queries.")


class EmbedderResource(dg.ConfigurableResource):
    """The model, and which kinds of its vectors are kept."""

    spec: str = Field("lexical", description="lexical, bge-m3, openai or module:Class.")
    kinds: list[str] = Field(description="Some of dense, sparse, multi.")
    options: dict[str, Any] = Field(
        default_factory=dict, description="Keyword arguments of the embedder."
    )
    api_key: str = Field("", description="Of the server that openai asks.")

    def open(self) -> Embedder:
        return open_embedder(self.spec, self.options, self.api_key)

    def fingerprint(self) -> str:
        return model_fingerprint(self.open().identity)

    def wants(self, kind: Kind) -> bool:
        return kind in self.kinds

    def target(self, part: SyncScope) -> Target:
        return Target(part, self.fingerprint(), tuple(self.kinds))  # pyright: ignore[reportArgumentType]

    def collection(self, connection: Connection, kind: Kind) -> str:
        """The physical collection that this model's vectors are written to."""
        return written_collection(connection, ALIASES[kind], self.fingerprint())
