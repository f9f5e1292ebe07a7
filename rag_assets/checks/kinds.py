"""Makes the checks of one kind of vectors: what each is given to look at, once for the three kinds.

What a check looks for is in `vectors.py` and `collections.py`.
"""

from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass

import dagster as dg

from rag_assets.assets.vectors import dense_vectors, multi_vectors, sparse_vectors
from rag_assets.checks.results import of_each_source, result
from rag_assets.consistency.vector_sampling import Place
from rag_assets.partitions import SOURCES
from rag_assets.pipeline.vectors import Kind
from resources.dagster_resources import (
    EmbedderResource,
    MilvusResource,
    PostgresResource,
    StorageResource,
)
from resources.files import FileStore
from resources.milvus.collections import ALIASES, Layout
from resources.milvus.store import MilvusStore
from resources.postgres.connection import Connection
from resources.postgres.consistency.check_results import REPAIR
from resources.postgres.registry.sources import SourceRow, get_source
from resources.postgres.vectors.collections import Collection, collections

ASSETS: Mapping[Kind, dg.AssetsDefinition] = {
    "dense": dense_vectors,
    "sparse": sparse_vectors,
    "multi": multi_vectors,
}


@dataclass(frozen=True)
class Subject:
    """One kind of vectors of one source, and the stores that hold them."""

    kind: Kind
    source: SourceRow
    connection: Connection
    store: MilvusStore
    files: FileStore
    milvus: MilvusResource
    embedder: EmbedderResource

    @property
    def name(self) -> str:
        """The physical collection of the current model."""
        return self.embedder.collection(self.connection, self.kind)

    @property
    def title(self) -> str:
        return f"{self.source.name} in {ALIASES[self.kind]}"

    @property
    def layout(self) -> Layout:
        return self.milvus.layout(self.kind, self.embedder.open())

    @property
    def mend(self) -> str:
        return f"{REPAIR} --source {self.source.name}"

    @property
    def recorded(self) -> Collection | None:
        """The current model's collection as PostgreSQL has it."""
        known = collections(self.connection, kind=self.kind)
        return next((collection for collection in known if collection.name == self.name), None)

    def place(self, collection: Collection) -> Place:
        model = self.embedder.open()
        return Place(self.connection, self.store, self.files, collection, self.source, model)


Look = Callable[[Subject], dg.AssetCheckResult]


def check_of_kind(
    kind: Kind, name: str, fact: str, look: Look, *, unwanted_too: bool = False
) -> dg.AssetChecksDefinition:
    """`unwanted_too`: of a kind that is not among RAG_VECTORS rows may be left, and are looked at."""

    @dg.asset_check(
        asset=ASSETS[kind],
        name=name.format(kind=kind),
        description=fact,
        partitions_def=SOURCES,
    )
    def check(
        context: dg.AssetCheckExecutionContext,
        postgres: PostgresResource,
        milvus: MilvusResource,
        storage: StorageResource,
        embedder: EmbedderResource,
    ) -> dg.AssetCheckResult:
        if not (unwanted_too or embedder.wants(kind)):
            kinds = ",".join(embedder.kinds)
            nothing = result(True, f"{kind} is not among RAG_VECTORS={kinds}: nothing is declared.")
            return of_each_source(context, postgres, lambda *_: nothing)
        with closing(milvus.open()) as store:

            def of_source(connection: Connection, source: str) -> dg.AssetCheckResult:
                row = get_source(connection, source)
                files = storage.open()
                return look(Subject(kind, row, connection, store, files, milvus, embedder))

            return of_each_source(context, postgres, of_source)

    return check
