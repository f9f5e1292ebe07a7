"""What is wrong with one source, looked for once: what a repair starts from, and what it must not find afterwards.

Each entry is what an asset check reports, in the form that mends it. Nothing is changed here.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field

from rag_assets.consistency.comparison import compare_collection
from rag_assets.consistency.vector_sampling import Place, inspect_all, search_for_themselves
from rag_assets.pipeline.drift import Drift
from rag_assets.pipeline.vectors import KINDS, Kind
from resources.dagster_resources import EmbedderResource, LimitsResource, MilvusResource
from resources.embedding_files import damaged
from resources.files import FileStore
from resources.milvus.collections import ALIASES, Comparison
from resources.milvus.store import MilvusStore
from resources.postgres.connection import Connection
from resources.postgres.consistency.counts import waiting_deletions
from resources.postgres.consistency.repairs import contradictions, misplaced_chunks
from resources.postgres.registry.sources import SourceRow
from resources.postgres.scope import SyncScope
from resources.postgres.vectors.collections import collections
from resources.postgres.vectors.embeddings import EmbeddingFile, files_of_source, without_embedding


@dataclass(frozen=True)
class World:
    """Where is looked: the stores, and what they are configured to hold."""

    store: MilvusStore
    files: FileStore
    milvus: MilvusResource
    embedder: EmbedderResource
    limits: LimitsResource

    @property
    def kinds(self) -> list[Kind]:
        return [kind for kind in KINDS if self.embedder.wants(kind)]


@dataclass
class Findings:
    """`drift`: by collection; `documents`: (id, key, whether its chunks are in doubt); `chunks`: without a document of
    their source; `lacking`: (document, key, chunk) without an embedding; `unsound`: collection -> row -> reason;
    `differences`: collection -> facts that are not as declared; `overdue`: deletions that wait too long."""

    drift: dict[str, Drift] = field(default_factory=dict)
    documents: list[tuple[uuid.UUID, str, bool]] = field(default_factory=list)
    chunks: list[uuid.UUID] = field(default_factory=list)
    files: list[tuple[EmbeddingFile, str]] = field(default_factory=list)
    lacking: list[tuple[uuid.UUID, str, uuid.UUID]] = field(default_factory=list)
    unsound: dict[str, Mapping[str, str]] = field(default_factory=dict)
    differences: dict[str, list[Comparison]] = field(default_factory=dict)
    aliases: list[str] = field(default_factory=list)
    overdue: int = 0

    @property
    def counts(self) -> dict[str, int]:
        """Everything but the drift, as numbers."""
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
    def nothing(self) -> bool:
        return not any(self.counts.values()) and all(
            drift.verdict == "consistent" for drift in self.drift.values()
        )


def find(connection: Connection, source: SourceRow, world: World) -> Findings:
    """Compares everything of a source; vectors in a sample, and all of them where the sample has an unsound one."""
    found, known = Findings(), collections(connection)
    for kind in world.kinds:  # before the reads below, which load what is not loaded
        name = world.embedder.collection(connection, kind)
        facts = world.store.compare(name, world.milvus.layout(kind, world.embedder.open()))
        if wrong := [fact for fact in facts if fact.differs]:
            found.differences[name] = wrong
        if world.store.alias_target(kind) != name:
            found.aliases.append(ALIASES[kind])
    found.drift = {
        item.name: compare_collection(connection, world.store, item, source) for item in known
    }
    names = [world.embedder.collection(connection, kind) for kind in world.kinds]
    found.documents = contradictions(connection, source.id, world.embedder.kinds, names)
    found.chunks = misplaced_chunks(connection, source.id)
    target = world.embedder.target(SyncScope(source.id))
    found.files = damaged(world.files, files_of_source(connection, target))
    found.lacking = without_embedding(connection, target)
    found.unsound = unsound_rows(connection, source, world)
    waiting = waiting_deletions(connection, source.id, world.limits.outbox_seconds)
    found.overdue = sum(row[3] for row in waiting)
    return found


def unsound_rows(
    connection: Connection, source: SourceRow, world: World
) -> dict[str, Mapping[str, str]]:
    """collection -> row -> what is wrong with its vector, or that no search finds it."""
    unsound: dict[str, Mapping[str, str]] = {}
    for collection in collections(connection):
        kind = collection.kind
        if kind not in world.kinds or collection.name != world.embedder.collection(
            connection, kind
        ):
            continue
        model = world.embedder.open()
        place = Place(connection, world.store, world.files, collection, source, model)
        index = world.milvus.layout(kind, model).index["index_type"]
        lost = search_for_themselves(place, index, world.milvus.search_params(kind)).lost
        wrong = inspect_all(place).flaws | dict.fromkeys(lost, "no search finds it")
        if wrong:
            unsound[collection.name] = wrong
    return unsound
