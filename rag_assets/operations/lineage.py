"""The life of one document, put together from PostgreSQL, Parquet, Milvus and the records of runs. Changes nothing.

Every read is under an access scope; a document out of scope is an unknown document.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from rag_assets.pipeline.access import AccessScope
from rag_assets.pipeline.vectors import KINDS, Kind
from resources.errors import ConfigError, RagError
from resources.files import FileStore, raw_name
from resources.milvus.rows import row_ids
from resources.milvus.store import MilvusStore
from resources.parsing import PARSER_VERSION
from resources.parsing.formats import format_of
from resources.postgres.connection import Connection, Postgres
from resources.postgres.documents.documents import ParserFingerprints
from resources.postgres.documents.lineage import (
    DocumentRef,
    Row,
    find_document,
    read_chunks,
    read_document,
    read_entry,
    read_erasure_time,
    read_left,
    read_same_content,
    read_vectors,
    read_version_at,
    read_versions,
)
from resources.postgres.documents.near_duplicates import similar_documents
from resources.postgres.vectors.collections import collections

#: Columns of a document that are shown; only `explain_at` shows the text.
_FACTS = (
    "title", "author", "language", "category", "tags", "source_url", "mime_type", "is_markdown", "metadata",
    "word_count", "char_count", "chunk_count", "raw_hash", "parser_fingerprint", "chunker_fingerprint", "indexed_as",
    "processing_status", "indexing_status", "error_message", "created_at", "indexed_at", "version", "valid_from",
    "parsed_run", "chunked_run", "indexed_run",
)  # fmt: skip


#: Returns job, status, started_at and url (a path of the UI) of each run; a run without a record is absent.
RunRecords = Callable[[Collection[str]], Mapping[str, Mapping[str, Any]]]

_NO_RECORD: Mapping[str, Any] = {
    "job": None,
    "status": "not in Dagster any more",
    "started_at": None,
    "url": None,
}


@dataclass(frozen=True)
class LineageContext:
    """The stores that contain a document's life, and the settings that tell whether it is current.

    `kinds`: the kinds of vectors that are kept.

    The functions are called only if needed: an embedding server or Milvus may be down.
    `parse_seconds`, `parse_memory_mib`: the parser's limits.
    """

    postgres: Postgres
    open_files: Callable[[], FileStore]
    open_milvus: Callable[[], MilvusStore]
    model_fingerprint: Callable[[], str]
    kinds: Collection[Kind]
    parse_seconds: float
    parse_memory_mib: int
    run_records: RunRecords


def explain(
    context: LineageContext, name: str, source: str | None, scope: AccessScope
) -> dict[str, Any]:
    """Return everything that the stores record of a document now. `name`: its key, its id, or SOURCE/KEY."""
    with context.postgres.connect(autocommit=True) as connection:
        ref = find_document(connection, name, source, scope)
        document = read_document(connection, ref.document_id, scope)
        entry = read_entry(connection, ref.document_id, scope)
        left = read_left(connection, ref.document_id, scope)
        model = context.model_fingerprint()
        chunks = read_chunks(connection, ref.document_id, model, scope)
        vectors = _vectors(context, connection, ref, chunks, model, scope) if chunks else {}
        versions = read_versions(connection, ref.document_id, scope)
        similar = similar_documents(connection, ref.document_id, scope)
        erased_at = read_erasure_time(connection, ref.document_id, scope)
        last_hash = versions[-1]["raw_hash"] if versions else None
        is_gone = document is None and entry is None and left is None and erased_at is None
        same = (
            read_same_content(connection, ref.document_id, last_hash, scope)
            if is_gone and last_hash
            else []
        )
    return {
        **_named(ref),
        "state": _left_state(left, document)
        or _state(ref, entry, document, versions, vectors, same, erased_at),
        "entry": entry,
        "left": left,
        "raw": _raw(context, entry),
        "document": {name: document[name] for name in _FACTS} if document else None,
        "reading": _reading(context, document) if document else None,
        "chunks": chunks,
        "vectors": vectors,
        "versions": versions,
        "same_content": [other._asdict() for other in same],
        "near_duplicates": similar,
        "runs": _runs(context.run_records, entry, document, chunks, versions),
    }


def explain_at(
    context: LineageContext, name: str, source: str | None, moment: datetime, scope: AccessScope
) -> dict[str, Any]:
    """Return the document as it was at a moment, with its text. Raises ConfigError if it did not exist then."""
    now = datetime.now(UTC)
    if moment > now:
        raise ConfigError(f"--at: {moment} is still to come; it is {now:%Y-%m-%d %H:%M:%S%z}.")
    with context.postgres.connect(autocommit=True) as connection:
        ref = find_document(connection, name, source, scope)
        version = read_version_at(connection, ref.document_id, moment, scope)
        current = read_document(connection, ref.document_id, scope)
        versions = read_versions(connection, ref.document_id, scope)
        erased_at = read_erasure_time(connection, ref.document_id, scope)
    if version is None and current is not None and current["valid_from"] <= moment:
        version = {**current, "valid_to": None, "ended_by": None, "ended_run": None}
    if version is None:
        recorded = _spans(versions, current)
        if erased_at is not None:
            recorded = f"It was {_state(ref, None, None, [], {}, [], erased_at)}."
        raise ConfigError(f"{ref.key} was not there at {moment}, as far as is known. {recorded}")
    is_current = version["valid_to"] is None
    return {
        **_named(ref),
        "at": moment,
        "document": {name: version[name] for name in (*_FACTS, "content")},
        "valid_to": version["valid_to"],
        "ended_by": version["ended_by"],
        "runs": _runs(context.run_records, None, version if is_current else None, [], [version]),
    }


def _named(ref: DocumentRef) -> dict[str, Any]:
    return {"document_id": ref.document_id, "key": ref.key, "source": ref.source or None}


def _spans(versions: list[Row], current: Row | None) -> str:
    spans = [
        f"{v['valid_from']:%Y-%m-%d %H:%M:%S%z} to {v['valid_to']:%Y-%m-%d %H:%M:%S%z}"
        for v in versions
    ]
    if current is not None:
        spans.append(f"{current['valid_from']:%Y-%m-%d %H:%M:%S%z} until now")
    return f"Known: {'; '.join(spans) or 'nothing'}."


def _left_state(left: Row | None, document: Row | None) -> str:
    """Return the state of a document whose content the last sync did not take; empty for any other."""
    if left is None:
        return ""
    if document is None:
        return f"listed, but left for the next sync: {left['reason']}"
    return f"its source has another content, left for the next sync: {left['reason']}"


def _state(
    ref: DocumentRef,
    entry: Row | None,
    document: Row | None,
    versions: list[Row],
    vectors: dict[str, dict[str, Any]],
    same_content: list[DocumentRef],
    erased_at: datetime | None,
) -> str:
    """Return the present state of the document in one sentence."""
    if erased_at is not None:
        return f"forgotten on purpose at {erased_at:%Y-%m-%d %H:%M:%S%z}; no sync takes it up again"
    if document is None:
        if entry is not None and entry["removed_hash"]:
            return (
                "deleted by hand while its source still has it; it returns when its content changes"
            )
        if entry is not None:
            return f"listed, but not parsed yet{': ' + entry['error'] if entry['error'] else ''}"
        ended = versions[-1]["valid_to"] if versions else None
        deleted = f"deleted at {ended:%Y-%m-%d %H:%M:%S%z}" if ended else "deleted"
        if not same_content:
            return deleted
        return f"{deleted}; the same content is now {', '.join(f'{o.source}/{o.key}' for o in same_content)}"
    if document["processing_status"] == "failed":
        kept = "; its last good text is searchable" if document["char_count"] else ""
        return f"it could not be read: {document['error_message']}{kept}"
    if entry is None:
        return "gone from its source; the next sync deletes it"
    if entry["content_hash"] != document["raw_hash"]:
        return "its source has another content; the next sync takes it up"
    if document["indexing_status"] == "failed" and document["error_message"]:
        return (
            f"not searchable, or only in part: {document['error_message']}. It is tried again when its text, its "
            "chunks or the model change, and by: rag ingest --retry-failed"
        )
    if document["indexing_status"] == "completed":
        if any("error" in facts for facts in vectors.values()):
            return "indexed; whether Milvus has its rows could not be read"
        if all(facts["right"] == facts["wanted"] for facts in vectors.values()):
            return "current and searchable"
        return (
            "indexed, but rows in Milvus differ from PostgreSQL; to repair them: "
            f"rag repair --source {shlex.quote(ref.source)}"
        )
    return f"processing {document['processing_status']}, indexing {document['indexing_status']}"


def _raw(context: LineageContext, entry: Row | None) -> dict[str, Any] | None:
    if entry is None or not entry["content_hash"]:
        return None
    name = raw_name(entry["content_hash"])
    return {"file": name, "bytes": context.open_files().size(name)}


def _reading(context: LineageContext, document: Row) -> dict[str, Any] | None:
    """Return how the bytes became text; None if they did not."""
    if not document["mime_type"]:
        return None
    metadata = document["metadata"]
    source_format = format_of(document["mime_type"])
    current = ParserFingerprints.of(
        PARSER_VERSION, document["source_language"], context.parse_seconds, context.parse_memory_mib
    )
    return {
        "format": source_format.kind,
        "mime_type": document["mime_type"],
        "encoding": metadata.get("encoding"),
        "reader": "kreuzberg" if source_format.reader in ("extract", "html") else "built in",
        "ocr": False,
        "pages": metadata.get("pages"),
        "parser": PARSER_VERSION if document["parser_fingerprint"] in current else None,
    }


def _vectors(
    context: LineageContext,
    connection: Connection,
    ref: DocumentRef,
    chunks: Iterable[Row],
    model: str,
    scope: AccessScope,
) -> dict[str, dict[str, Any]]:
    """Return for each collection the counts of chunks and acknowledged chunks, and of rows in Milvus: expected
    (`wanted`), present (`rows`), and equal to PostgreSQL (`right`).

    As in the checks, a collection of the current model and of a kept kind (`declared`) must have every embedded chunk,
    another one only what it acknowledged: no sync writes a kind that is not kept any more.
    """
    embedded = {chunk["id"] for chunk in chunks if chunk["embedding_status"] == "completed"}
    by_collection: dict[str, dict[str, Any]] = {}
    store = None
    for kind in KINDS:
        for collection in collections(connection, kind=kind):
            rows = read_vectors(
                connection, ref.document_id, collection.name, collection.model, scope
            )
            declared = kind in context.kinds and collection.model == model
            facts: dict[str, Any] = {
                "state": collection.state,
                "declared": declared,
                "chunks": len(rows),
                "acknowledged": sum(row["acknowledged"] is not None for row in rows),
                "acknowledged_at": max(
                    (row["acknowledged_at"] for row in rows if row["acknowledged_at"]), default=None
                ),
            }
            expected = {
                row_id: row["wanted"]
                for row in rows
                if row["acknowledged"] is not None or (declared and row["id"] in embedded)
                for row_id in row_ids(
                    row["id"], kind, 1 if row["row_count"] is None else row["row_count"]
                )
            }
            facts["wanted"] = len(expected)
            try:
                store = store or context.open_milvus()
                present = store.fingerprints(collection.name, list(expected))
                facts["rows"] = len(present)
                facts["right"] = sum(expected[row_id] == present[row_id] for row_id in present)
            except RagError as error:
                facts["error"] = str(error)
            by_collection[collection.name] = facts
    if store is not None:
        store.close()
    return by_collection


def _runs(
    run_records: RunRecords,
    entry: Row | None,
    document: Row | None,
    chunks: Iterable[Row],
    versions: Iterable[Row],
) -> list[dict[str, Any]]:
    """Return the runs that wrote a part of the document, oldest first, each with its steps and its record."""
    steps: dict[str, list[str]] = {}

    def note(run: str | None, step: str) -> None:
        if run and step not in steps.setdefault(run, []):
            steps[run].append(step)

    for version in versions:
        for step in ("parsed", "chunked", "indexed"):
            note(version[f"{step}_run"], f"{step} version {version['version']}")
        if version["ended_by"]:
            note(version["ended_run"], f"{version['ended_by']} version {version['version']}")
    if entry is not None:
        note(entry["fetched_run"], "fetched")
    if document is not None:
        for step in ("parsed", "chunked"):
            note(document[f"{step}_run"], f"{step} version {document['version']}")
    for chunk in chunks:
        note(chunk["embedded_run"], "embedded")
    if document is not None:
        note(document["indexed_run"], f"indexed version {document['version']}")
    records = run_records(steps)
    runs = [
        {"run_id": run, "did": did, **records.get(run, _NO_RECORD)} for run, did in steps.items()
    ]
    return sorted(runs, key=lambda run: run["started_at"] or datetime.min.replace(tzinfo=UTC))
