"""Repair of one source: what the comparison found is voided or deleted by key, and the stages do the rest.

Safe while ingestion runs: the partition's writer is held, each orphan is judged again right before it is deleted, and
where reads of Milvus disagree nothing is touched. Missing and stale rows come from Parquet without a model call.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from rag_assets.assets.chunk_embeddings import embed_texts
from rag_assets.assets.document_chunks import ChunkingResource, sync_chunks
from rag_assets.assets.stage import Stage
from rag_assets.assets.vectors import sync_vectors
from rag_assets.checks.consistency import chunk_of, compare_collection, still_orphaned
from rag_assets.pipeline.drift import Drift
from rag_assets.pipeline.plan import Plan
from resources.configured import EmbedderResource, MilvusResource, StorageResource
from resources.faults import passage
from resources.milvus.store import MilvusStore
from resources.postgres.collections import Collection, collections
from resources.postgres.repairs import contradictions, make_pending, void_rows

#: Ids of each class that a report names.
NAMED = 100


@dataclass
class Repair:
    """What was found wrong, and (unless it was a dry run) what was done about it."""

    source: str
    dry_run: bool
    drift: dict[str, Drift] = field(default_factory=dict)
    documents: list[str] = field(default_factory=list)
    plan: dict[str, Plan] = field(default_factory=dict)
    remaining: dict[str, Drift] = field(default_factory=dict)

    @property
    def clean(self) -> bool:
        """Nothing was found, or nothing is left of it."""
        found = self.remaining or self.drift
        left = self.documents if self.dry_run else []
        return not left and all(drift.verdict == "consistent" for drift in found.values())

    def as_dict(self) -> dict[str, Any]:
        return {
            "source": self.source,
            "dry_run": self.dry_run,
            "clean": self.clean,
            "found": {name: _shown(drift) for name, drift in self.drift.items()},
            "contradicting_documents": self.documents[:NAMED],
            "plan": {asset: plan.as_dict() for asset, plan in self.plan.items()},
            "remaining": {name: _shown(drift) for name, drift in self.remaining.items()},
        }


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
    *,
    dry_run: bool,
) -> Repair:
    """Finds what is wrong with a source's rows and statuses and mends it. A second repair finds nothing to do."""
    store = milvus.open()
    try:
        report = Repair(stage.source.name, dry_run)
        known = collections(stage.connection)
        report.drift = {
            item.name: compare_collection(stage.connection, store, item, stage.source)
            for item in known
        }
        wrong = contradictions(
            stage.connection,
            stage.source.id,
            embedder.kinds,
            [
                embedder.collection(stage.connection, kind)
                for kind in ("dense", "sparse", "multi")
                if embedder.wants(kind)
            ],
        )
        report.documents = [key for _, key, _ in wrong]
        if dry_run:
            return report
        passage("repair-planned")
        for item in known:
            mend(stage, store, item, report.drift[item.name])
        with stage.writer.transaction() as connection:
            make_pending(
                connection,
                [document for document, _, _ in wrong],
                [document for document, _, again in wrong if again],
            )
        passage("repair-half-done")
        files, model, target = storage.open(), embedder.open(), embedder.target(stage.source)
        report.plan["document_chunks"] = sync_chunks(stage, chunking.config()).plan
        report.plan["chunk_embeddings"] = embed_texts(
            stage, files, model, target, storage.precision
        ).plan
        for kind in ("dense", "sparse", "multi"):
            outcome = sync_vectors(stage, kind, store, files, milvus, embedder)
            report.plan[f"{kind}_vectors"] = outcome.plan
        if report.documents or any(
            drift.verdict != "consistent" for drift in report.drift.values()
        ):
            report.remaining = {
                item.name: compare_collection(stage.connection, store, item, stage.source)
                for item in collections(stage.connection)
            }
        passage("repair-done")
        return report
    finally:
        store.close()


def mend(stage: Stage, store: MilvusStore, collection: Collection, drift: Drift) -> None:
    """Voids what is missing or stale, for the vector stages to write; deletes orphans and second copies."""
    if drift.verdict != "drifted":
        return  # consistent, or undetermined: where reads disagree nothing is repaired
    wrong = sorted({chunk_of(row_id) for row_id in (*drift.missing, *drift.stale)})
    with stage.writer.transaction() as connection:
        void_rows(connection, collection.name, wrong)
    if drift.duplicate:
        store.rewrite(collection.name, drift.duplicate)
    if drift.orphaned:
        stage.writer.confirm()
        store.delete_ids(
            collection.name, still_orphaned(stage.connection, store, collection, drift.orphaned)
        )
