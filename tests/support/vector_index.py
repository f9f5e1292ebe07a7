"""Two sources that are indexed in both stores without a pipeline, and a server whose scans misread."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from rag_assets.consistency.comparison import compare_collection
from rag_assets.pipeline.drift import DRIFT_CLASSES, Drift
from rag_assets.pipeline.vectors import Kind, Multi, Sparse
from resources.milvus.collections import Layout
from resources.milvus.rows import EVERYTHING, RowFields, Span, row_ids
from resources.milvus.store import MilvusStore
from resources.postgres.connection import Connection
from resources.postgres.documents.row_fingerprint import row_fingerprint
from resources.postgres.registry.sources import SourceRow
from resources.postgres.vectors.collections import Collection, register_collection
from tests.support.milvus_rows import DENSE, MULTI, SPARSE, foreign, vectors
from tests.support.rows import (
    chunks_of,
    collection_of,
    new_acknowledgement,
    new_document,
    new_source,
)

LAYOUTS: dict[Kind, Layout] = {"dense": DENSE, "sparse": SPARSE, "multi": MULTI}
TOKENS = 3
DOCUMENTS, CHUNKS = 6, 4


@dataclass
class Index:
    """Two sources with all their rows, acknowledged; `source` is the compared one."""

    connection: Connection
    store: MilvusStore
    kind: Kind
    collection: Collection = field(init=False)
    source: SourceRow = field(init=False)
    documents: list[uuid.UUID] = field(default_factory=list)
    chunks: list[uuid.UUID] = field(default_factory=list)

    def __post_init__(self) -> None:
        name = collection_of(self.kind).name
        self.collection = collection_of(
            self.kind, self.store.ensure_collection(name, LAYOUTS[self.kind])
        )
        register_collection(self.connection, self.collection)
        self.source, other = new_source(self.connection), new_source(self.connection, "other")
        for number in range(DOCUMENTS):
            texts = [f"text {number} {n}" for n in range(CHUNKS)]
            self.documents.append(new_document(self.connection, self.source, str(number), texts))
        self.chunks = [
            c for document in self.documents for c in chunks_of(self.connection, document)
        ]
        self.write(self.chunks)
        self.write(
            chunks_of(self.connection, new_document(self.connection, other, "x", ["text 0 0"]))
        )

    @property
    def name(self) -> str:
        return self.collection.name

    def ids(self, *numbers: int) -> list[str]:
        """The row ids of the chunks with these numbers; without a number, of all."""
        chosen = [self.chunks[n] for n in numbers] if numbers else self.chunks
        return [row_id for chunk in chosen for row_id in row_ids(chunk, self.kind, TOKENS)]

    def rows(self, chunks: Sequence[uuid.UUID]) -> list[RowFields]:
        rows = self.connection.execute(
            f"""SELECT c.id, {row_fingerprint("c", "d", "s")}, d.id, d.source_type, s.name, d.language, c.position, 0,
                  c.chunk_type, d.author, d.category, d.filter_tags
                FROM document_chunks c JOIN documents d ON d.id = c.document_id JOIN sources s ON s.id = d.source_uuid
                WHERE c.id = ANY(%(chunks)s)""",
            {"model": self.collection.model, "chunks": list(chunks)},
        ).fetchall()
        return [RowFields(*row) for row in rows]

    def write(
        self, chunks: Sequence[uuid.UUID], *, acknowledge: bool = True, **changes: Any
    ) -> None:
        """Upsert the chunks as PostgreSQL has them now; `changes` replace fields of the rows."""
        rows = [replace(row, **changes) for row in self.rows(chunks)]
        count = len(rows)
        if self.kind == "dense":
            counts = self.store.upsert_dense(self.name, rows, vectors(count))
        elif self.kind == "sparse":
            ones = Sparse(
                np.arange(count + 1), np.arange(count, dtype=np.uint32), np.ones(count, np.float32)
            )
            counts = self.store.upsert_sparse(self.name, rows, ones)
        else:
            tokens = Multi(np.arange(count + 1) * TOKENS, vectors(count * TOKENS))
            counts = self.store.upsert_multi(self.name, rows, tokens)
        if acknowledge:
            for row, n in zip(rows, counts):
                self.connection.execute(
                    "DELETE FROM vector_rows WHERE chunk_id = %s", [row.chunk_id]
                )
                new_acknowledgement(
                    self.connection, self.name, row.chunk_id, row.row_fingerprint, n
                )

    def delete(self, *ids: str) -> None:
        self.store.client.delete(self.name, ids=list(ids))

    def compare(self, store: MilvusStore | None = None) -> Drift:
        return compare_collection(
            self.connection, store or self.store, self.collection, self.source
        )

    def assert_drift(self, **classes: Sequence[str]) -> None:
        drift = self.compare()
        row_ids_by_class = {name: sorted(getattr(drift, name)) for name in DRIFT_CLASSES}
        assert row_ids_by_class == {name: sorted(classes.get(name, [])) for name in DRIFT_CLASSES}
        assert drift.contradictions == []
        assert drift.verdict == ("drifted" if classes else "consistent")


def orphan_row(index: Index, row_id: str, source: str = "docs") -> dict[str, Any]:
    """A row of no document, in the layout of the index."""
    row = foreign(row_id, source)
    if index.kind == "sparse":
        row |= {"vector": {1: 1.0}, "vocabulary_size": 1}
    if index.kind == "multi":
        row |= {"chunk_id": "", "token_count": 1, "token_positions": [0]}
    return row


class DisturbedStore(MilvusStore):
    """A server whose scans misread, or whose rows change between two reads."""

    misread: Callable[[list[tuple[str, str]]], list[tuple[str, str]]]
    after_first_read: Callable[[], object] | None

    def scan(self, name: str, span: Span = EVERYTHING, where: str = ""):
        for bucket in super().scan(name, span, where):
            yield self.misread(bucket)

    def fingerprints(self, name: str, ids: Sequence[str]) -> dict[str, str]:
        fingerprints = super().fingerprints(name, ids)
        if ids and (change := self.after_first_read):
            object.__setattr__(self, "after_first_read", None)
            change()
        return fingerprints


def disturbed(
    index: Index,
    misread: Callable[[list[tuple[str, str]]], list[tuple[str, str]]] = list,
    after_first_read: Callable[[], object] | None = None,
) -> MilvusStore:
    """The index's server; `misread` changes the buckets of scans, `after_first_read` runs once between two reads."""
    store = DisturbedStore(index.store.uri)
    object.__setattr__(store, "misread", misread)
    object.__setattr__(store, "after_first_read", after_first_read)
    return store
