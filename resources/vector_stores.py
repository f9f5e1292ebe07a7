"""The stores that vectors are read from and written to, and the model that they come from, as plain objects.

Use-cases take these; Dagster's resources and the command line make them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from rag_assets.pipeline.identity import model_fingerprint
from rag_assets.pipeline.vectors import KINDS, Embedder, Kind
from resources.files import FileStore
from resources.milvus.collections import ALIASES, Layout
from resources.milvus.index_config import IndexConfig
from resources.milvus.store import MilvusStore
from resources.postgres.connection import Connection
from resources.postgres.scope import SyncScope
from resources.postgres.vectors.collections import written_collection
from resources.postgres.vectors.target import Target


@dataclass(frozen=True)
class ModelTarget:
    """The configured model, and the kinds of its vectors that are kept."""

    embedder: Embedder
    kinds: tuple[Kind, ...]

    @cached_property
    def fingerprint(self) -> str:
        return model_fingerprint(self.embedder.identity)

    def keeps(self, kind: Kind) -> bool:
        return kind in self.kinds

    def target(self, scope: SyncScope) -> Target:
        """Return the model and kinds that the vectors of a source or shard must come from."""
        return Target(scope, self.fingerprint, self.kinds)

    def collection(self, connection: Connection, kind: Kind) -> str:
        """Return the physical collection that this model's vectors are written to."""
        return written_collection(connection, ALIASES[kind], self.fingerprint)


@dataclass(frozen=True)
class VectorStores:
    """Milvus and the embedding files, with the declared indexes and the model."""

    milvus: MilvusStore
    files: FileStore
    index: IndexConfig
    model: ModelTarget

    @property
    def kinds(self) -> list[Kind]:
        """The kinds that are kept, in the order of KINDS."""
        return [kind for kind in KINDS if self.model.keeps(kind)]

    def layout(self, kind: Kind) -> Layout:
        """Return the declaration of this kind's collection."""
        return self.index.layout(kind, self.model.embedder)
