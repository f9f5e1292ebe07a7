"""Evidence for faulty rows: the class and document of each id, and the reason; and what identifies a drift."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence

from rag_assets.consistency.comparison import chunk_of
from rag_assets.consistency.finding import EVIDENCE_ROWS
from rag_assets.pipeline.drift import DRIFT_CLASSES, Drift, Verdict
from resources.milvus.store import MilvusStore
from resources.postgres.connection import Connection
from resources.postgres.consistency.check_results import Inconsistency, Outcome, Remedy
from resources.postgres.consistency.table_checks import documents_of_chunks, keys_of_documents
from resources.postgres.vectors.collections import Collection

COLUMNS = ("id", "class", "document", "reason")

#: Class of an id -> the reason that is shown. Contradictions are no drift, but are shown like it. Short, as the id is
#: long (it begins with the chunk's): a wider table does not fit on a page of Dagster's UI.
_REASONS: Mapping[str, str] = {
    "missing": "acknowledged, not there",
    "orphaned": "of no live chunk",
    "stale": "row_fingerprint differs",
    "duplicate": "one id, several rows",
    "contradictions": "two reads disagree",
}
_CLASSES = (*DRIFT_CLASSES, "contradictions")

OUTCOMES: Mapping[Verdict, Outcome] = {
    "consistent": "passed",
    "drifted": "failed",
    "undetermined": "undetermined",
}


def remedy_of_drift(store: MilvusStore, collections: Sequence[Collection], drift: Drift) -> Remedy:
    """Return the remedy: another check while undetermined, a new collection if one lacks a field, else repair."""
    if drift.verdict == "undetermined":
        return "check"
    if drift.verdict == "consistent":
        return "repair"
    lacks_field = any(store.lacks_fields(item.name, item.kind) for item in collections)
    return "rebuild" if lacks_field else "repair"


def inconsistency_of_drift(drift: Drift) -> Inconsistency | None:
    """Missing and stale rows are missing vectors, also undetermined ones; orphans alone are orphaned chunks."""
    if drift.missing or drift.stale or drift.verdict != "drifted":
        return "missing_vectors"
    return "orphaned_chunks" if drift.orphaned else None


def drift_key(collection: Collection, drift: Drift) -> set[str]:
    """Return what identifies the drift of a collection: each id with its class."""
    return {
        f"{collection.name} {name} {row_id}" for name in _CLASSES for row_id in getattr(drift, name)
    }


def drift_evidence(
    connection: Connection, store: MilvusStore, collection: Collection, drift: Drift
) -> list[tuple[object, ...]]:
    """Return a row of COLUMNS for each id, at most EVIDENCE_ROWS of a class: each costs reads."""
    classified = [
        (row_id, name, _REASONS[name])
        for name in _CLASSES
        for row_id in getattr(drift, name)[:EVIDENCE_ROWS]
    ]
    return rows_evidence(connection, store, collection, classified)


def rows_evidence(
    connection: Connection,
    store: MilvusStore,
    collection: Collection,
    classified: Sequence[tuple[str, str, str]],
) -> list[tuple[object, ...]]:
    """Return a row of COLUMNS for each (id, class, reason).

    The document of a live chunk comes from PostgreSQL, that of an orphan from its row in Milvus.
    """
    ids = [row_id for row_id, _, _ in classified]
    chunks = [chunk_of(row_id) for row_id in ids]
    documents = documents_of_chunks(connection, chunks)
    orphans = [row_id for row_id, chunk in zip(ids, chunks) if chunk not in documents]
    stored = (
        store.by_key(collection.name, orphans, ["document_id", "source"])
        if orphans and store.has_collection(collection.name)
        else {}
    )
    named = {row_id: _uuid(row["document_id"]) for row_id, row in stored.items()}
    keys = keys_of_documents(connection, [document for document in named.values() if document])

    def document_of(row_id: str) -> str:
        if (chunk := chunk_of(row_id)) in documents:
            return documents[chunk]
        if row_id not in stored:
            return "deleted since"
        document = named[row_id]
        if document is not None and document in keys:
            return keys[document]
        row = stored[row_id]
        return f"none; it names {row['document_id']} of {row['source']}"

    return [(row_id, name, document_of(row_id), reason) for row_id, name, reason in classified]


def _uuid(text: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(text)
    except ValueError:
        return None
