"""What a drift's ids are: their class, document, chunk, why they are named, and what mends them."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from rag_assets.checks.results import EVIDENCE_ROWS
from rag_assets.consistency.comparison import chunk_of
from rag_assets.pipeline.drift import DRIFT_CLASSES, Drift
from resources.milvus.collections import REBUILD
from resources.milvus.store import MilvusStore
from resources.postgres.connection import Connection
from resources.postgres.consistency.check_results import REPAIR
from resources.postgres.registry.sources import SourceRow
from resources.postgres.vectors.collections import Collection

COLUMNS = ("id", "class", "document", "chunk", "reason")

_REASONS = {
    "missing": "Milvus acknowledged it and lacks it",
    "orphaned": "no live chunk has this id",
    "stale": "row_fingerprint differs from what PostgreSQL says",
    "duplicate": "one id, several rows",
    "contradictions": "two reads of Milvus disagree",
}


def mend_rows(store: MilvusStore, known: Sequence[Collection], source: SourceRow) -> str:
    """The command for a drift of these collections; where one lacks a field, rows can only be written to a new one."""
    if any(store.lacks_fields(collection.name, collection.kind) for collection in known):
        return REBUILD
    return f"{REPAIR} --source {source.name}"


def evidence(
    connection: Connection, store: MilvusStore, collection: Collection, drift: Drift
) -> list[tuple[object, ...]]:
    """A row of COLUMNS for each id, of every class at most EVIDENCE_ROWS."""
    found = [
        (row_id, name, _REASONS[name])
        for name in (*DRIFT_CLASSES, "contradictions")
        for row_id in getattr(drift, name)[:EVIDENCE_ROWS]
    ]
    return evidence_of_rows(connection, store, collection, found)


def evidence_of_rows(
    connection: Connection,
    store: MilvusStore,
    collection: Collection,
    found: Sequence[tuple[str, str, str]],
) -> list[tuple[object, ...]]:
    """A row of COLUMNS for each (id, class, reason).

    PostgreSQL knows the document of a live chunk; of an orphan the row in Milvus says which it was.
    """
    ids = [row_id for row_id, _, _ in found]
    chunks = [chunk_of(row_id) for row_id in ids]
    documents = dict(
        connection.execute(
            """SELECT c.id, d.source_key FROM document_chunks c JOIN documents d ON d.id = c.document_id
               WHERE c.id = ANY(%s)""",
            [chunks],
        ).fetchall()
    )
    strangers = [row_id for row_id, chunk in zip(ids, chunks) if chunk not in documents]
    said = (
        store.by_key(collection.name, strangers, ["document_id", "source"])
        if strangers and store.has_collection(collection.name)
        else {}
    )
    keys = dict(
        connection.execute(
            "SELECT id::text, source_key FROM documents WHERE id = ANY(%s)",
            [[known for row in said.values() if (known := _uuid(row["document_id"]))]],
        ).fetchall()
    )

    def document(row_id: str) -> str:
        if (chunk := chunk_of(row_id)) in documents:
            return documents[chunk]
        if row_id not in said:
            return "gone meanwhile"
        named, source = said[row_id]["document_id"], said[row_id]["source"]
        return keys.get(named, f"none; the row says {named} of source {source}")

    return [
        (row_id, name, document(row_id), chunk, reason)
        for (row_id, name, reason), chunk in zip(found, chunks)
    ]


def _uuid(text: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(text)
    except ValueError:
        return None
