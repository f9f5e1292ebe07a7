"""The resources of the assets. Each contains the settings that it needs, and hands out a plain object.

The meaning of an empty URL, and how stores are opened: `open_stores`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import dagster as dg
from pydantic import Field

from rag_assets.pipeline.chunking import ChunkingConfig
from rag_assets.pipeline.limits import DeletionLimits, ParserLimits
from rag_assets.pipeline.vectors import KINDS, Embedder, Kind
from resources.files import FileStore
from resources.milvus.index_config import IndexConfig
from resources.milvus.store import MilvusStore
from resources.open_stores import open_embedder, open_milvus, open_postgres
from resources.postgres.connection import Postgres
from resources.run_processes import own_run_tags
from resources.vector_stores import ModelTarget, VectorStores


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
    ca_file: str = Field("", description="File of the authority of an https:// server.")
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
        return open_milvus(
            self.uri, self.token, Path(self.home), self.timeout, search_consistency, self.ca_file
        )

    def index_config(self) -> IndexConfig:
        return IndexConfig(self.dense_index, self.sparse_index, self.dense_search, self.shards)


class StorageResource(dg.ConfigurableResource):
    """The files: raw bytes as fetched, and embeddings as Parquet."""

    url: str = Field(description="Folder or object storage URL.")
    precision: str = Field("float32", description="Of vectors in Parquet: float32 or float16.")

    def open(self) -> FileStore:
        return FileStore(self.url)


class LimitsResource(dg.ConfigurableResource):
    """How long work may wait before a check fails."""

    outbox_seconds: float = Field(
        900.0, description="Seconds that a deletion may wait in the outbox."
    )


class RetrievalResource(dg.ConfigurableResource):
    """How candidates become results, and how far their quality may decline before a check fails."""

    fusion: Literal["weighted", "rrf"] = Field(
        "weighted", description="Of a hybrid: weighted or rrf."
    )
    margin: float = Field(0.03, description="Of nDCG@10 and the share of answered queries.")


class EmbedderResource(dg.ConfigurableResource):
    """The model, and which kinds of its vectors are kept."""

    spec: str = Field(
        "lexical",
        description="lexical, use, e5, bge-m3, sentence-transformers, openai or module:Class.",
    )
    kinds: list[str] = Field(description="Some of dense, sparse, multi.")
    options: dict[str, Any] = Field(
        default_factory=dict, description="Keyword arguments of the embedder."
    )
    api_key: str = Field("", description="Of the server that openai asks.")

    def open(self) -> Embedder:
        return open_embedder(self.spec, self.options, self._kinds, self.api_key)

    def model_target(self) -> ModelTarget:
        """Return the model and the kinds of its vectors that are kept."""
        return ModelTarget(self.open(), self._kinds)

    @property
    def _kinds(self) -> tuple[Kind, ...]:
        return tuple(kind for kind in KINDS if kind in self.kinds)


class GuardResource(dg.ConfigurableResource):
    """When a sync stops instead of deleting."""

    share: float = 0.2
    documents: int = 20

    def limits(self) -> DeletionLimits:
        return DeletionLimits(self.share, self.documents)


class ParsingResource(dg.ConfigurableResource):
    """How documents are parsed: how many at the same time, and the limits for one."""

    workers: int = 2
    seconds: float = 60.0
    memory_mib: int = 1024

    def limits(self) -> ParserLimits:
        return ParserLimits(self.workers, self.seconds, self.memory_mib)


class ChunkingResource(dg.ConfigurableResource):
    """How documents are split; sizes in characters."""

    max_chars: int = 1000
    min_chars: int = 200

    def config(self) -> ChunkingConfig:
        return ChunkingConfig(self.max_chars, self.min_chars)


def as_definition(resource: dg.ConfigurableResource) -> dg.ResourceDefinition:
    """Return the resource as a definition without configuration.

    Otherwise the Launchpad opens with 60 lines of settings around the one that matters, and Dagster shows and stores
    them, secrets included.
    """

    @dg.resource(description=type(resource).__doc__)
    def provide(context: dg.InitResourceContext) -> Iterator[dg.ConfigurableResource]:
        with resource.yield_for_execution(context) as opened:
            yield opened

    return provide


def vector_stores(
    store: MilvusStore,
    storage: StorageResource,
    milvus: MilvusResource,
    embedder: EmbedderResource,
) -> VectorStores:
    """Return the plain objects that use-cases take; `store` is an open client of `milvus`."""
    return VectorStores(store, storage.open(), milvus.index_config(), embedder.model_target())
