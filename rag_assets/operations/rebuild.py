"""Rebuild of the collections from Parquet, without a model call: into new ones behind the aliases; searches go on.

All sources: each is written to a new collection under its own writer, and compared; what is found in it is looked at
(see `publishing.unfit`). Then, as every source's writer,
what was written meanwhile is caught up with and compared again, and only if all of it is consistent do the aliases
move. Killed anywhere, the next rebuild goes on; the next sync drops what is half-built. One source: its rows are
written again in place, by key, since its collection is not its own.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import dagster as dg

from rag_assets.assets import vectors
from rag_assets.assets.run_stage import Stage
from rag_assets.assets.vectors import sync_vectors, write_rows
from rag_assets.consistency.comparison import compare_collection
from rag_assets.ingestion.publishing import REBUILD, agree, drop, refusal, serve, settle, unfit
from rag_assets.operations.reembed import damaged_files
from rag_assets.operations.repair import mend
from rag_assets.partitions import partition_key
from rag_assets.pipeline.vectors import Kind
from resources.dagster_resources import EmbedderResource, MilvusResource
from resources.embedding_files import EmbeddingReader
from resources.errors import ConfigError, StoreUnavailable
from resources.fault_injection import fault_point
from resources.files import FileStore
from resources.milvus.collections import ALIASES
from resources.milvus.store import MilvusStore
from resources.postgres.connection import Connection, Postgres, Writer
from resources.postgres.registry.sources import SourceRow, get_source, list_sources
from resources.postgres.vectors.collections import (
    Collection,
    collections,
    new_collection,
    register_collection,
    void_source,
    without_embedding,
)
from resources.postgres.vectors.embeddings import OF_PART
from resources.postgres.vectors.vectors import plan_vectors

#: Seconds to wait for the moment in which no source is being written: none is kept from its writers meanwhile.
PATIENCE = 600.0


@dataclass
class Rebuild:
    """What was rebuilt, or (a dry run) would be. `refused`: why the old collections go on serving."""

    source: str | None
    dry_run: bool
    collections: dict[str, dict[str, Any]] = field(default_factory=dict)
    drift: dict[str, str] = field(default_factory=dict)
    refused: str = ""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Rebuilder:
    """The stores that a rebuild reads and writes."""

    postgres: Postgres
    store: MilvusStore
    files: FileStore
    milvus: MilvusResource
    embedder: EmbedderResource
    log: dg.DagsterLogManager
    patience: float = PATIENCE

    def all_sources(self, *, dry_run: bool = False) -> Rebuild:
        report = Rebuild(None, dry_run)
        with self.postgres.writer(REBUILD) as own:
            if not dry_run:
                for kind in ALIASES:
                    agree(own, self.store, kind)
            serving = self._serving(own.connection)
            self._require_embeddings(own.connection, serving.values(), None)
            if dry_run:
                for old in serving.values():
                    report.collections[old.alias] = {
                        "from": old.name,
                        "into": new_collection(own.connection, old.alias, old.model),
                        "chunks": _count_rows(own.connection, old.name, None),
                    }
                return report
            new: dict[Kind, Collection] = {
                kind: self._begin(own, kind, old) for kind, old in serving.items()
            }
            for kind, old in serving.items():
                report.collections[old.alias] = {
                    "from": old.name,
                    "into": new[kind].name,
                    "rows": 0,
                }
            seen = self._fill_each(own.connection, new, report)
            for item in new.values():  # before every source is held
                report.refused = report.refused or unfit(
                    own, self.store, self.files, self.milvus, self.embedder, item
                )
            if not report.refused:
                self._finish(new, seen, report)
            if report.refused:
                drop(own, self.store, new.values())
            drop(own, self.store, collections(own.connection, states=("retired",)))
            return report

    def one_source(self, name: str, *, dry_run: bool = False) -> Rebuild:
        report = Rebuild(name, dry_run)
        with self.postgres.writer(partition_key(name)) as writer:
            source = get_source(writer.connection, name)
            for kind in self.embedder.kinds:
                settle(writer, self.store, kind)  # pyright: ignore[reportArgumentType]
            serving = self._serving(writer.connection)
            self._require_embeddings(writer.connection, serving.values(), source)
            for item in serving.values():
                chunks = _count_rows(writer.connection, item.name, source.id)
                report.collections[item.alias] = {"from": item.name, "into": item.name}
                report.collections[item.alias]["chunks" if dry_run else "rows"] = chunks
            if dry_run:
                return report
            stage = self._stage(source, writer)
            with writer.transaction() as connection:
                void_source(connection, source.id, [item.name for item in serving.values()])
            for kind, item in serving.items():
                sync_vectors(stage, kind, self.store, self.files, self.milvus, self.embedder)
                found = compare_collection(writer.connection, self.store, item, source, strict=True)
                if found.verdict == "drifted":
                    mend(
                        stage, self.store, item, found
                    )  # its strays; what is missing, for the sync
                    sync_vectors(stage, kind, self.store, self.files, self.milvus, self.embedder)
                    found = compare_collection(
                        writer.connection, self.store, item, source, strict=True
                    )
                report.drift[item.name] = str(found)
                if found.verdict != "consistent":
                    report.refused = f"{item.name}, {name}: {found}"
        return report

    def _stage(self, source: SourceRow, writer: Writer) -> Stage:
        return Stage("rebuild", source, writer, self.log)

    def _serving(self, connection: Connection) -> dict[Kind, Collection]:
        """kind -> the collection that serves it. Raises ConfigError where it is of another model, or none, and where
        there is no source."""
        if not list_sources(connection):
            raise ConfigError("There is no source, and nothing to rebuild.")
        model, found, problems = self.embedder.fingerprint(), {}, []
        serving = {item.kind: item for item in collections(connection, states=("serving",))}
        for kind in ALIASES:
            if not self.embedder.wants(kind):
                continue
            if kind not in serving:
                problems.append(f"{ALIASES[kind]}: nothing is indexed yet")
            elif serving[kind].model != model:
                problems.append(
                    f"{ALIASES[kind]} serves model {serving[kind].model}, the embedder is {model}"
                )
            else:
                found[kind] = serving[kind]
        if problems:
            raise ConfigError(
                "There is nothing to rebuild:\n  " + "\n  ".join(problems) + "\nRun: rag ingest"
            )
        return found

    def _require_embeddings(
        self, connection: Connection, serving: Any, source: SourceRow | None
    ) -> None:
        """Raises ConfigError when Parquet lacks what is to be written, or is not what was once written."""
        source_id = source.id if source else None
        missing = max(without_embedding(connection, item, source_id) for item in serving)
        damaged = damaged_files(connection, self.files, self.embedder.fingerprint(), source_id)
        if missing or damaged:
            named = f": {damaged[0].path} …" if damaged else ""
            raise ConfigError(
                f"Without a model call it cannot be rebuilt: {missing} chunks have no embedding in Parquet, "
                f"{len(damaged)} files are gone or damaged{named}. First: rag rebuild parquet"
            )

    def _begin(self, own: Writer, kind: Kind, old: Collection) -> Collection:
        """The collection to fill: one that an earlier rebuild left half-built, or a new one.

        PostgreSQL knows of it before Milvus has it.
        """
        layout = self.milvus.layout(kind, self.embedder.open())
        for item in collections(own.connection, kind=kind, states=("rebuilding",)):
            lost = not self.store.has_collection(item.name)
            differs = not lost and any(
                fact.differs for fact in self.store.compare(item.name, layout)
            )
            if lost or item.model != old.model or differs:
                drop(own, self.store, [item])
            else:
                self.log.info(f"{item.name} is half-built; going on with it")
                return item
        name = new_collection(own.connection, old.alias, old.model)
        planned = Collection(name, old.alias, kind, old.model, layout.dimension, "", "rebuilding")
        with own.transaction() as connection:
            register_collection(connection, planned)
        made = Collection(
            name,
            old.alias,
            kind,
            old.model,
            layout.dimension,
            self.store.ensure_collection(name, layout),
            "rebuilding",
        )
        with own.transaction() as connection:
            register_collection(connection, made)
        return made

    def _fill_each(
        self, connection: Connection, new: Mapping[Kind, Collection], report: Rebuild
    ) -> dict[uuid.UUID, int]:
        """Writes and compares source after source. Returns source -> epoch of the writer that found it consistent."""
        seen: dict[uuid.UUID, int] = {}
        for source in list_sources(connection):
            with self.postgres.writer(partition_key(source.name)) as writer:
                self._fill(self._stage(source, writer), new, report)
                drift = {
                    item.name: compare_collection(
                        writer.connection, self.store, item, source, strict=True
                    )
                    for item in new.values()
                }
            report.drift |= {f"{source.name}: {name}": str(found) for name, found in drift.items()}
            if all(found.verdict == "consistent" for found in drift.values()):
                seen[source.id] = writer.epoch
        return seen

    def _fill(self, stage: Stage, new: Mapping[Kind, Collection], report: Rebuild) -> None:
        target = self.embedder.target(stage.part)
        for kind, item in new.items():
            stage.asset = f"rebuild {kind}"
            batches = plan_vectors(
                stage.writer,
                target,
                item.name,
                batch_rows=vectors.BATCH_CHUNKS[kind],
                among=OF_PART,
            )
            reader = EmbeddingReader(self.files, kind)
            counts = write_rows(
                stage,
                self.store,
                reader,
                item.name,
                batches,
                lambda *_: fault_point("rebuild-batch"),
            )
            report.collections[item.alias]["rows"] += sum(counts)

    def _finish(
        self, new: Mapping[Kind, Collection], seen: Mapping[uuid.UUID, int], report: Rebuild
    ) -> None:
        """As the writer of every source: catches up with those written since, compares them, and moves the aliases."""
        with self.postgres.connect(autocommit=True) as connection:
            sources = list_sources(connection)
        keys = [partition_key(source.name) for source in sources]
        with self.postgres.writers(keys, patience=self.patience) as writers:
            behind = [
                (source, writer)
                for source, writer in zip(sources, writers)
                if writer.epoch - 1 != seen.get(source.id)
            ]
            for source, writer in behind:
                self._fill(self._stage(source, writer), new, report)
            connection = writers[0].connection
            for item in new.values():
                report.refused = report.refused or refusal(
                    connection, self.store, item, [source for source, _ in behind]
                )
            if not report.refused:
                self._swap(writers[0], sources, new)

    def _swap(
        self, writer: Writer, sources: Sequence[SourceRow], new: Mapping[Kind, Collection]
    ) -> None:
        with writer.transaction() as connection:
            # No source may be added until the new collections are the ones that its sync writes.
            connection.execute("LOCK TABLE sources IN SHARE MODE")
            if {source.id for source in list_sources(connection)} - {item.id for item in sources}:
                raise StoreUnavailable(
                    "A source was added during the rebuild. What was built is kept: run it again."
                )
            for item in new.values():
                serve(writer, self.store, item)


def _count_rows(connection: Connection, collection: str, source_id: uuid.UUID | None) -> int:
    row = connection.execute(
        """SELECT count(*) FROM vector_rows r JOIN document_chunks c ON c.id = r.chunk_id
           WHERE r.collection = %(name)s AND (c.source_uuid = %(source)s OR %(source)s IS NULL)""",
        {"name": collection, "source": source_id},
    ).fetchone()
    assert row is not None
    return row[0]
