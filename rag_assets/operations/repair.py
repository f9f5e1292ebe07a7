"""Repair of one source: what was found wrong is voided or deleted by key, and the stages do the rest.

Safe while ingestion runs: the partition's writer is held, each orphan is judged again right before it is deleted, and
where reads of Milvus disagree nothing is touched. Rows come from Parquet without a model call; only a text whose file
is gone or damaged is embedded again.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

from rag_assets.assets.chunk_embeddings import embed_texts
from rag_assets.assets.document_chunks import ChunkingResource, sync_chunks
from rag_assets.assets.run_stage import Stage
from rag_assets.assets.vectors import sync_vectors
from rag_assets.consistency.comparison import chunk_of, still_orphaned
from rag_assets.consistency.diagnosis import Findings, World, find, unsound_rows
from rag_assets.pipeline.drift import Drift
from rag_assets.pipeline.plan import Plan
from rag_assets.pipeline.vectors import KINDS
from resources.dagster_resources import (
    EmbedderResource,
    LimitsResource,
    MilvusResource,
    StorageResource,
)
from resources.fault_injection import fault_point
from resources.milvus.collections import refuse_other_fields
from resources.milvus.store import MilvusStore
from resources.postgres.consistency.repairs import make_pending, move_chunks, void_rows
from resources.postgres.vectors.collections import Collection, collections
from resources.postgres.vectors.embeddings import forget_file

#: Ids of each class that a report names.
NAMED = 100


@dataclass
class Repair:
    """What was found wrong, and (unless it was a dry run) what was done about it."""

    source: str
    dry_run: bool
    found: Findings = field(default_factory=Findings)
    plan: dict[str, Plan] = field(default_factory=dict)
    remaining: Findings | None = None

    @property
    def clean(self) -> bool:
        """Nothing was found, or nothing is left of it."""
        return (self.remaining or self.found).nothing

    def as_dict(self) -> dict[str, Any]:
        found, remaining = self.found, self.remaining or Findings()
        return {
            "source": self.source,
            "dry_run": self.dry_run,
            "clean": self.clean,
            "found": {name: _shown(drift) for name, drift in found.drift.items()},
            "contradicting_documents": [key for _, key, _ in found.documents[:NAMED]],
            "also_found": found.counts,
            "named": _named(found),
            "plan": {asset: plan.as_dict() for asset, plan in self.plan.items()},
            "remaining": {name: _shown(drift) for name, drift in remaining.drift.items()},
            "also_remaining": remaining.counts,
        }


def _named(found: Findings) -> list[str]:
    """What was found besides drift, a sentence each."""
    sentences = [
        *(f"{file.written.path}: {reason}" for file, reason in found.files),
        *(f"chunk {chunk} of {key}: its text has no embedding" for _, key, chunk in found.lacking),
        *(f"{row}: {why}" for rows in found.unsound.values() for row, why in rows.items()),
        *(
            f"{name}, {fact.fact}: expected {fact.declared}, found {fact.actual}"
            for name, facts in found.differences.items()
            for fact in facts
        ),
        *(f"{alias} does not point at the current model's collection" for alias in found.aliases),
        *(f"chunk {chunk} has no document in its source" for chunk in found.chunks),
    ]
    if found.overdue:
        sentences.append(f"{found.overdue} deletions wait for too long")
    return sentences[:NAMED]


def _shown(drift: Drift) -> dict[str, Any]:
    return {
        "verdict": drift.verdict,
        "rows": drift.checked,
        **drift.counts,
        "ids": {
            name: getattr(drift, name)[:NAMED] for name, count in drift.counts.items() if count
        },
    }


def repair_source(
    stage: Stage,
    milvus: MilvusResource,
    storage: StorageResource,
    embedder: EmbedderResource,
    chunking: ChunkingResource,
    limits: LimitsResource,
    *,
    dry_run: bool,
) -> Repair:
    """Finds what is wrong with a source and mends it. A second repair finds nothing to do."""
    with closing(milvus.open()) as store:
        world = World(store, storage.open(), milvus, embedder, limits)
        report = Repair(stage.source.name, dry_run)
        report.found = found = find(stage.connection, stage.source, world)
        if dry_run:
            return report
        fault_point("repair-planned")
        _mend_indexes(stage, world, found)
        for item in collections(stage.connection):
            if item.name in found.drift:
                mend(stage, store, item, found.drift[item.name])
            _void(stage, item.name, found.unsound.get(item.name, {}))
        with stage.writer.transaction() as connection:
            for file, _ in found.files:
                forget_file(connection, file.id)
            move_chunks(connection, stage.source.id, found.chunks)
            make_pending(
                connection,
                [document for document, _, _ in (*found.documents, *found.lacking)],
                [document for document, _, again in found.documents if again],
            )
        fault_point("repair-half-done")
        _run_stages(stage, world, chunking, storage.precision, report)
        if not found.nothing:
            report.remaining = find(stage.connection, stage.source, world)
        fault_point("repair-done")
        return report


def _run_stages(
    stage: Stage, world: World, chunking: ChunkingResource, precision: str, report: Repair
) -> None:
    """What was made pending is made right by the stages; they leave alone what is right."""
    model, target = world.embedder.open(), world.embedder.target(stage.part)
    report.plan["document_chunks"] = sync_chunks(stage, chunking.config()).plan
    embedded = embed_texts(stage, world.files, model, target, precision).plan
    report.plan["chunk_embeddings"] = embedded
    if embedded.inserted:  # what had no readable embedding could not be compared with it before
        for name, rows in unsound_rows(stage.connection, stage.source, world).items():
            _void(stage, name, rows)
    for kind in KINDS:
        outcome = sync_vectors(stage, kind, world.store, world.files, world.milvus, world.embedder)
        report.plan[f"{kind}_vectors"] = outcome.plan


def _mend_indexes(stage: Stage, world: World, found: Findings) -> None:
    """Makes indexes the declared ones. A collection whose fields are others is not dropped here: it may be serving, and
    before anything of it is voided, ConfigError says what mends it."""
    for name, facts in found.differences.items():
        refuse_other_fields(name, facts)
    for kind in world.kinds:
        name = world.embedder.collection(stage.connection, kind)
        if any(fact.part == "index" for fact in found.differences.get(name, [])):
            stage.writer.confirm()
            world.store.make_index(name, world.milvus.layout(kind, world.embedder.open()))


def mend(stage: Stage, store: MilvusStore, collection: Collection, drift: Drift) -> None:
    """Voids what is missing or stale, for the vector stages to write; deletes orphans and second copies."""
    if drift.verdict != "drifted":
        return  # consistent, or undetermined: where reads disagree nothing is repaired
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
