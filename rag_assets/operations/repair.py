"""Repair of one source: wrong rows are voided or deleted by key, and the stages write them again.

Safe while ingestion runs: the repair is the partition's only writer, each orphan is judged again right before it is
deleted, and nothing is touched if reads of Milvus disagree. Rows come from Parquet without a model call; only a text
whose file is gone or damaged is embedded again.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from rag_assets.consistency.comparison import chunk_of, still_orphaned
from rag_assets.consistency.diagnosis import Diagnosis, diagnose, unsound_rows
from rag_assets.ingestion.embed import embed_texts
from rag_assets.ingestion.index import sync_vectors
from rag_assets.ingestion.split import sync_chunks
from rag_assets.ingestion.stage import Stage
from rag_assets.pipeline.chunking import ChunkingConfig
from rag_assets.pipeline.drift import Drift
from rag_assets.pipeline.plan import Plan
from rag_assets.pipeline.vectors import KINDS
from resources.fault_injection import fault_point
from resources.milvus.collections import require_declared_fields
from resources.milvus.store import MilvusStore
from resources.postgres.consistency.repairs import make_pending, move_chunks, void_rows
from resources.postgres.vectors.collections import Collection, collections
from resources.postgres.vectors.embeddings import forget_file
from resources.vector_stores import VectorStores

#: Ids of each class that a report names.
NAMED = 100


@dataclass(frozen=True)
class RepairContext:
    """The stores and the configuration of a repair.

    `precision`: of vectors in Parquet. `outbox_seconds`: a deletion that waits longer is a fault.
    """

    stores: VectorStores
    chunking: ChunkingConfig
    precision: str
    outbox_seconds: float


@dataclass
class Repair:
    """The faults found, and (unless it was a dry run) the work done about them."""

    source: str
    dry_run: bool
    found: Diagnosis = field(default_factory=Diagnosis)
    plan: dict[str, Plan] = field(default_factory=dict)
    remaining: Diagnosis | None = None

    @property
    def clean(self) -> bool:
        """Whether no fault was found, or none remains."""
        return (self.remaining or self.found).is_clean

    def as_dict(self) -> dict[str, Any]:
        found, remaining = self.found, self.remaining or Diagnosis()
        return {
            "source": self.source,
            "dry_run": self.dry_run,
            "clean": self.clean,
            "found": {name: _drift_as_dict(drift) for name, drift in found.drift.items()},
            "contradicting_documents": [key for _, key, _ in found.documents[:NAMED]],
            "also_found": found.counts,
            "named": _sentences(found),
            "plan": {asset: plan.as_dict() for asset, plan in self.plan.items()},
            "remaining": {name: _drift_as_dict(drift) for name, drift in remaining.drift.items()},
            "also_remaining": remaining.counts,
        }


def _sentences(found: Diagnosis) -> list[str]:
    """Return a sentence for each fault other than drift, at most NAMED."""
    sentences = [
        *(f"{file.written.path}: {reason}" for file, reason in found.files),
        *(f"chunk {chunk} of {key}: its text has no embedding" for _, key, chunk in found.lacking),
        *(f"{row}: {reason}" for rows in found.unsound.values() for row, reason in rows.items()),
        *(
            f"{name}, {fact.fact}: expected {fact.declared}, found {fact.actual}"
            for name, facts in found.differences.items()
            for fact in facts
        ),
        *(f"{alias} does not point at the current model's collection" for alias in found.aliases),
        *(f"chunk {chunk} has no document in its source" for chunk in found.chunks),
    ]
    if found.overdue:
        sentences.append(f"{found.overdue} deletions wait too long")
    return sentences[:NAMED]


def _drift_as_dict(drift: Drift) -> dict[str, Any]:
    return {
        "verdict": drift.verdict,
        "rows": drift.checked,
        **drift.counts,
        "ids": {
            name: getattr(drift, name)[:NAMED] for name, count in drift.counts.items() if count
        },
    }


def repair_source(stage: Stage, context: RepairContext, *, dry_run: bool) -> Repair:
    """Find the faults of a source and repair them. A second repair finds nothing to do."""
    stores, source = context.stores, stage.source
    report = Repair(source.name, dry_run)
    report.found = found = diagnose(stage.connection, source, stores, context.outbox_seconds)
    if dry_run:
        return report
    fault_point("repair-planned")
    _repair_indexes(stage, stores, found)
    for collection in collections(stage.connection):
        if collection.name in found.drift:
            repair_rows(stage, stores.milvus, collection, found.drift[collection.name])
        _void(stage, collection.name, found.unsound.get(collection.name, {}))
    with stage.writer.transaction() as connection:
        for file, _ in found.files:
            forget_file(connection, file.id)
        move_chunks(connection, source.id, found.chunks)
        make_pending(
            connection,
            [document for document, _, _ in (*found.documents, *found.lacking)],
            [document for document, _, again in found.documents if again],
        )
    fault_point("repair-half-done")
    _run_stages(stage, context, report)
    if not found.is_clean:
        report.remaining = diagnose(stage.connection, source, stores, context.outbox_seconds)
    fault_point("repair-done")
    return report


def _run_stages(stage: Stage, context: RepairContext, report: Repair) -> None:
    """Run the stages, which redo everything that was made pending and leave the rest alone."""
    stores = context.stores
    model, target = stores.model.embedder, stores.model.target(stage.scope)
    report.plan["document_chunks"] = sync_chunks(stage, context.chunking).plan
    embedded = embed_texts(stage, stores.files, model, target, context.precision).plan
    report.plan["chunk_embeddings"] = embedded
    # Rows whose embedding was unreadable could not be compared with it before.
    if embedded.inserted:
        for name, rows in unsound_rows(stage.connection, stage.source, stores).items():
            _void(stage, name, rows)
    for kind in KINDS:
        report.plan[f"{kind}_vectors"] = sync_vectors(stage, kind, stores).plan


def _repair_indexes(stage: Stage, stores: VectorStores, found: Diagnosis) -> None:
    """Rebuild indexes that are not the declared ones.

    Raises ConfigError, with the command that helps, for a collection with other fields: it may be serving, so it is not
    dropped here, and nothing of it was voided yet.
    """
    for name, facts in found.differences.items():
        require_declared_fields(name, facts)
    for kind in stores.kinds:
        name = stores.model.collection(stage.connection, kind)
        if any(fact.part == "index" for fact in found.differences.get(name, [])):
            stage.writer.confirm()
            stores.milvus.make_index(name, stores.layout(kind))


def repair_rows(stage: Stage, store: MilvusStore, collection: Collection, drift: Drift) -> None:
    """Void missing and stale rows, for the vector stages to write; delete orphans and second copies.

    An undetermined drift is left alone: where reads disagree, nothing is repaired.
    """
    if drift.verdict != "drifted":
        return
    _void(stage, collection.name, (*drift.missing, *drift.stale))
    if drift.duplicate:
        store.rewrite(collection.name, drift.duplicate)
    if drift.orphaned:
        stage.writer.confirm()
        store.delete_ids(
            collection.name, still_orphaned(stage.connection, store, collection, drift.orphaned)
        )


def _void(stage: Stage, collection: str, row_ids: Iterable[str]) -> None:
    chunks = sorted({chunk_of(row_id) for row_id in row_ids})
    if chunks:
        with stage.writer.transaction() as connection:
            void_rows(connection, collection, chunks)
