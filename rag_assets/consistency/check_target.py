"""The target of a check of vectors: one kind of vectors of one source, and the stores that contain them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from rag_assets.consistency.vector_sampling import CollectionView
from rag_assets.pipeline.vectors import Kind
from resources.milvus.collections import ALIASES, Layout
from resources.postgres.connection import Connection
from resources.postgres.registry.sources import SourceRow
from resources.postgres.vectors.collections import Collection, collections
from resources.vector_stores import VectorStores


@dataclass(frozen=True)
class CheckTarget:
    kind: Kind
    source: SourceRow
    connection: Connection
    stores: VectorStores

    @cached_property
    def name(self) -> str:
        """The physical collection of the current model."""
        return self.stores.model.collection(self.connection, self.kind)

    @property
    def title(self) -> str:
        return f"{self.source.name} in {ALIASES[self.kind]}"

    @property
    def layout(self) -> Layout:
        return self.stores.layout(self.kind)

    @cached_property
    def recorded(self) -> Collection | None:
        """The current model's collection as PostgreSQL records it."""
        recorded = collections(self.connection, kind=self.kind)
        return next((collection for collection in recorded if collection.name == self.name), None)

    def view(self, collection: Collection) -> CollectionView:
        return CollectionView(self.connection, self.stores, collection, self.source)
