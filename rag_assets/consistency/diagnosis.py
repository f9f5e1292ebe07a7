"""Diagnosis of one source: all of its faults, each in the form that its repair needs. Changes nothing.

A repair starts from a diagnosis, and a second one confirms it. The asset checks report the same faults.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field

from rag_assets.consistency.collection_findings import awaits_publication
from rag_assets.consistency.comparison import compare_collection
from rag_assets.consistency.vector_sampling import (
    CollectionView,
    inspect_all,
    search_for_themselves,
)
from rag_assets.pipeline.drift import Drift
from rag_assets.pipeline.vectors import Kind
from resources.embedding_files import damaged
from resources.milvus.collections import ALIASES, Comparison
from resources.postgres.connection import Connection
from resources.postgres.consistency.repairs import (
    Contradiction,
    contradictions,
    misplaced_chunks,
)
from resources.postgres.consistency.table_checks import waiting_by_kind
from resources.postgres.registry.sources import SourceRow
from resources.postgres.scope import SyncScope
from resources.postgres.vectors.collections import collections
from resources.postgres.vectors.embeddings import (
    ChunkOfDocument,
    EmbeddingFile,
    chunks_without_embedding,
    files_of_source,
)
from resources.vector_stores import VectorStores


@dataclass
class Diagnosis:
    """The faults of a source.

    `drift`: by collection. `documents`: (id, key, whether its chunks are in doubt). `chunks`: without a document in
    their source. `files`: damaged ones, with the damage. `lacking`: (document, key, chunk) without an embedding.
    `unsound`: collection -> row -> problem. `differences`: collection -> facts that differ from their declaration.
    `aliases`: that point elsewhere, except those that wait for a publication. `overdue`: deletions that wait too long.
    """

    drift: dict[str, Drift] = field(default_factory=dict)
    documents: list[Contradiction] = field(default_factory=list)
    chunks: list[uuid.UUID] = field(default_factory=list)
    files: list[tuple[EmbeddingFile, str]] = field(default_factory=list)
    lacking: list[ChunkOfDocument] = field(default_factory=list)
    unsound: dict[str, Mapping[str, str]] = field(default_factory=dict)
    differences: dict[str, list[Comparison]] = field(default_factory=dict)
    aliases: list[str] = field(default_factory=list)
    overdue: int = 0

    @property
    def counts(self) -> dict[str, int]:
        """Return the number of faults of each kind besides drift."""
        return {
            "contradicting_documents": len(self.documents),
            "misplaced_chunks": len(self.chunks),
            "damaged_files": len(self.files),
            "chunks_without_embedding": len(self.lacking),
            "unsound_rows": sum(map(len, self.unsound.values())),
            "collection_differences": sum(map(len, self.differences.values())),
            "wrong_aliases": len(self.aliases),
            "overdue_deletions": self.overdue,
        }

    @property
    def is_clean(self) -> bool:
        return not any(self.counts.values()) and all(
            drift.verdict == "consistent" for drift in self.drift.values()
        )


def diagnose(
    connection: Connection, source: SourceRow, stores: VectorStores, outbox_seconds: float
) -> Diagnosis:
    """Compare everything of a source. Of its vectors a sample, and all of them if the sample has an unsound one.

    `outbox_seconds`: a deletion that waits longer is overdue.
    """
    diagnosis, model = Diagnosis(), stores.model
    names: dict[Kind, str] = {kind: model.collection(connection, kind) for kind in stores.kinds}
    # Before the reads below: they load a collection that is not loaded.
    for kind, name in names.items():
        facts = stores.milvus.compare(name, stores.layout(kind))
        if wrong := [fact for fact in facts if fact.differs]:
            diagnosis.differences[name] = wrong
        alias_target = stores.milvus.alias_target(kind)
        recorded = {item.name: item for item in collections(connection, kind=kind)}.get(name)
        if alias_target != name and not awaits_publication(recorded, alias_target):
            diagnosis.aliases.append(ALIASES[kind])
    diagnosis.drift = {
        collection.name: compare_collection(connection, stores.milvus, collection, source)
        for collection in collections(connection)
    }
    diagnosis.documents = contradictions(connection, source.id, model.kinds, list(names.values()))
    diagnosis.chunks = misplaced_chunks(connection, source.id)
    target = model.target(SyncScope(source.id))
    diagnosis.files = damaged(stores.files, files_of_source(connection, target))
    diagnosis.lacking = chunks_without_embedding(connection, target)
    diagnosis.unsound = unsound_rows(connection, source, stores)
    waiting = waiting_by_kind(connection, source.id, outbox_seconds)
    diagnosis.overdue = sum(len(item.overdue) for item in waiting)
    return diagnosis


def unsound_rows(
    connection: Connection, source: SourceRow, stores: VectorStores
) -> dict[str, Mapping[str, str]]:
    """Return collection -> row -> problem of its vector, or that no search finds it."""
    unsound: dict[str, Mapping[str, str]] = {}
    for collection in collections(connection):
        kind = collection.kind
        if not stores.model.keeps(kind) or collection.name != stores.model.collection(
            connection, kind
        ):
            continue
        view = CollectionView(connection, stores, collection, source)
        lost = search_for_themselves(view).lost
        problems = inspect_all(view).flaws | dict.fromkeys(lost, "no search finds it")
        if problems:
            unsound[collection.name] = problems
    return unsound
