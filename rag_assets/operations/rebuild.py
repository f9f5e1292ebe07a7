"""Rebuild of the collections from Parquet, without a model call; searches go on.

All sources: each is written to a new collection under its own writer, and compared; then retrieval is measured. Then,
as the writer of every source, the rebuild catches up with later writes and compares them, and the aliases move only if
everything is consistent. Killed anywhere, the next rebuild goes on; the next sync drops half-built collections.
One source: its rows are written again in place, by key, since it shares its collection with other sources.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from rag_assets.consistency.comparison import compare_collection
from rag_assets.ingestion import index
from rag_assets.ingestion.index import sync_vectors, write_rows
from rag_assets.ingestion.publishing import (
    REBUILD,
    consistency_blockers,
    drop,
    quality_blockers,
    reconcile_alias,
    recover_publication,
    serve,
)
from rag_assets.ingestion.stage import Stage
from rag_assets.operations.reembed import damaged_files
from rag_assets.operations.repair import repair_rows
from rag_assets.pipeline.drift import Drift
from rag_assets.pipeline.vectors import Kind
from resources.embedding_files import EmbeddingReader
from resources.errors import ConfigError, StoreUnavailable
from resources.fault_injection import fault_point
from resources.milvus.collections import ALIASES
from resources.partition_keys import partition_key
from resources.postgres.connection import Connection, Postgres, Writer
from resources.postgres.identity.audit_chain import append_operation
from resources.postgres.registry.sources import SourceRow, get_source, list_sources, lock_sources
from resources.postgres.vectors.collections import (
    Collection,
    collections,
    count_acknowledged,
    count_without_embedding,
    new_collection,
    register_collection,
    void_source,
)
from resources.postgres.vectors.vectors import plan_vectors
from resources.vector_stores import VectorStores

#: Seconds to wait for a moment in which no source is being written. Writers are not blocked while the rebuild waits.
PATIENCE = 600.0


@dataclass
class Rebuild:
    """The result of a rebuild, or (a dry run) its plan. `refused`: why the old collections go on serving."""

    source: str | None
    dry_run: bool
    collections: dict[str, dict[str, Any]] = field(default_factory=dict)
    drift: dict[str, str] = field(default_factory=dict)
    refused: str = ""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Rebuilder:
    """Rebuilds collections. `patience`: seconds to wait for a moment without another writer."""

    postgres: Postgres
    stores: VectorStores
    log: logging.Logger
    patience: float = PATIENCE

    def all_sources(self, *, dry_run: bool = False) -> Rebuild:
        """Write every source to new collections, and let them serve if the gate passes."""
        report = Rebuild(None, dry_run)
        self.stores.milvus.capabilities.require_kinds(self.stores.kinds)
        with self.postgres.writer(REBUILD) as own:
            if not dry_run:
                for name in self.stores.milvus.drop_unusable():
                    self.log.warning(f"{name} is dropped: this server cannot index its vectors")
                for kind in ALIASES:
                    reconcile_alias(own, self.stores.milvus, kind)
            serving = self._serving(own.connection)
            self._require_embeddings(own.connection, serving.values(), None)
            if dry_run:
                for old in serving.values():
                    report.collections[old.alias] = {
                        "from": old.name,
                        "into": new_collection(own.connection, old.alias, old.model),
                        "chunks": count_acknowledged(own.connection, old.name, None),
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
            epochs = self._fill_each(own.connection, new, report)
            # Retrieval is measured before every source is locked.
            for collection in new.values():
                report.refused = report.refused or quality_blockers(own, self.stores, collection)
            if not report.refused:
                self._finish(new, epochs, report)
            if report.refused:
                drop(own, self.stores.milvus, new.values())
            drop(own, self.stores.milvus, collections(own.connection, states=("retired",)))
            return report

    def one_source(self, name: str, *, dry_run: bool = False) -> Rebuild:
        """Write the rows of one source again, in place."""
        report = Rebuild(name, dry_run)
        with self.postgres.writer(partition_key(name)) as writer:
            source = get_source(writer.connection, name)
            for kind in self.stores.model.kinds:
                recover_publication(writer, self.stores.milvus, kind)
            serving = self._serving(writer.connection)
            self._require_embeddings(writer.connection, serving.values(), source)
            for collection in serving.values():
                chunks = count_acknowledged(writer.connection, collection.name, source.id)
                report.collections[collection.alias] = {
                    "from": collection.name,
                    "into": collection.name,
                    "chunks" if dry_run else "rows": chunks,
                }
            if dry_run:
                return report
            stage = Stage("rebuild", source, writer, self.log)
            with writer.transaction() as connection:
                void_source(connection, source.id, [item.name for item in serving.values()])
                append_operation(
                    connection, "source.rebuild", f"source:{source.id}", name=source.name
                )
            for kind, collection in serving.items():
                self._write_again(stage, kind, collection, report)
        return report

    def _write_again(
        self, stage: Stage, kind: Kind, collection: Collection, report: Rebuild
    ) -> None:
        sync_vectors(stage, kind, self.stores)
        drift = self._compare(stage.connection, collection, stage.source)
        if drift.verdict == "drifted":
            # Delete its strays; the sync writes the missing rows.
            repair_rows(stage, self.stores.milvus, collection, drift)
            sync_vectors(stage, kind, self.stores)
            drift = self._compare(stage.connection, collection, stage.source)
        report.drift[collection.name] = str(drift)
        if drift.verdict != "consistent":
            report.refused = f"{collection.name}, {stage.source.name}: {drift}"

    def _compare(self, connection: Connection, collection: Collection, source: SourceRow) -> Drift:
        return compare_collection(connection, self.stores.milvus, collection, source, strict=True)

    def _serving(self, connection: Connection) -> dict[Kind, Collection]:
        """Return kind -> the collection that serves it.

        Raises ConfigError if there is no source, or if a kind has no collection or one of another model.
        """
        if not list_sources(connection):
            raise ConfigError("There is no source, so there is nothing to rebuild.")
        model, problems = self.stores.model.fingerprint, []
        serving: dict[Kind, Collection] = {}
        recorded = {item.kind: item for item in collections(connection, states=("serving",))}
        for kind in self.stores.kinds:
            if kind not in recorded:
                problems.append(f"{ALIASES[kind]}: nothing is indexed yet")
            elif recorded[kind].model != model:
                problems.append(
                    f"{ALIASES[kind]} serves model {recorded[kind].model}, the embedder is {model}"
                )
            else:
                serving[kind] = recorded[kind]
        if problems:
            raise ConfigError(
                "There is nothing to rebuild:\n  " + "\n  ".join(problems) + "\nRun: rag ingest"
            )
        return serving

    def _require_embeddings(
        self, connection: Connection, serving: Iterable[Collection], source: SourceRow | None
    ) -> None:
        """Raises ConfigError if Parquet lacks an embedding, or a file differs from its record."""
        source_id = source.id if source else None
        missing = max(count_without_embedding(connection, item, source_id) for item in serving)
        model, files = self.stores.model.fingerprint, self.stores.files
        damaged = damaged_files(connection, files, model, source_id)
        if missing or damaged:
            named = f": {damaged[0].path} …" if damaged else ""
            raise ConfigError(
                f"A rebuild without a model call is impossible: {missing} chunks have no embedding in Parquet, "
                f"{len(damaged)} files are gone or damaged{named}. First: rag rebuild parquet"
            )

    def _begin(self, own: Writer, kind: Kind, old: Collection) -> Collection:
        """Return the collection to fill: one that an earlier rebuild left half-built, or a new one.

        PostgreSQL records it before Milvus has it.
        """
        store, layout = self.stores.milvus, self.stores.layout(kind)
        for collection in collections(own.connection, kind=kind, states=("rebuilding",)):
            lost = not store.has_collection(collection.name)
            differs = not lost and any(
                fact.differs for fact in store.compare(collection.name, layout)
            )
            if lost or collection.model != old.model or differs:
                drop(own, store, [collection])
            else:
                self.log.info(f"{collection.name} is half-built; the rebuild continues it")
                return collection
        name = new_collection(own.connection, old.alias, old.model)
        planned = Collection(name, old.alias, kind, old.model, layout.dimension, "", "rebuilding")
        with own.transaction() as connection:
            register_collection(connection, planned)
        made = replace(planned, milvus_id=store.ensure_collection(name, layout))
        with own.transaction() as connection:
            register_collection(connection, made)
        return made

    def _fill_each(
        self, connection: Connection, new: Mapping[Kind, Collection], report: Rebuild
    ) -> dict[uuid.UUID, int]:
        """Write and compare each source. Returns source -> epoch of the writer that found it consistent."""
        epochs: dict[uuid.UUID, int] = {}
        for source in list_sources(connection):
            with self.postgres.writer(partition_key(source.name)) as writer:
                self._fill(source, writer, new, report)
                drift = {
                    collection.name: self._compare(writer.connection, collection, source)
                    for collection in new.values()
                }
            report.drift |= {f"{source.name}: {name}": str(item) for name, item in drift.items()}
            if all(item.verdict == "consistent" for item in drift.values()):
                epochs[source.id] = writer.epoch
        return epochs

    def _fill(
        self, source: SourceRow, writer: Writer, new: Mapping[Kind, Collection], report: Rebuild
    ) -> None:
        for kind, collection in new.items():
            stage = Stage(f"rebuild {kind}", source, writer, self.log)
            batches = plan_vectors(
                writer,
                self.stores.model.target(stage.scope),
                collection.name,
                batch_rows=index.BATCH_CHUNKS[kind],
                all_documents=True,
            )
            counts = write_rows(
                stage,
                self.stores.milvus,
                EmbeddingReader(self.stores.files, kind),
                collection.name,
                batches,
                lambda *_: fault_point("rebuild-batch"),
            )
            report.collections[collection.alias]["rows"] += sum(counts)

    def _finish(
        self, new: Mapping[Kind, Collection], epochs: Mapping[uuid.UUID, int], report: Rebuild
    ) -> None:
        """As the writer of every source: catch up with later writes, compare them, and move the aliases."""
        with self.postgres.connect(autocommit=True) as connection:
            sources = list_sources(connection)
        keys = [partition_key(source.name) for source in sources]
        with self.postgres.writers(keys, patience=self.patience) as writers:
            behind = [
                (source, writer)
                for source, writer in zip(sources, writers)
                if writer.epoch - 1 != epochs.get(source.id)
            ]
            for source, writer in behind:
                self._fill(source, writer, new, report)
            connection = writers[0].connection
            for collection in new.values():
                report.refused = report.refused or consistency_blockers(
                    connection, self.stores.milvus, collection, [source for source, _ in behind]
                )
            if not report.refused:
                self._swap(writers[0], sources, new)

    def _swap(
        self, writer: Writer, sources: Sequence[SourceRow], new: Mapping[Kind, Collection]
    ) -> None:
        with writer.transaction() as connection:
            # No source may be added until syncs write the new collections.
            lock_sources(connection)
            if {source.id for source in list_sources(connection)} - {item.id for item in sources}:
                raise StoreUnavailable(
                    "A source was added during the rebuild. The new collections are kept: run it again."
                )
            for collection in new.values():
                serve(writer, self.stores.milvus, collection, audited=False)
            # Last: until the commit nothing else is added to the audit.
            names = [collection.name for collection in new.values()]
            append_operation(connection, "collection.rebuild", collections=names)
