"""The life of one document, put together from PostgreSQL, Parquet, Milvus and Dagster. Changes nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from rag_assets.pipeline.vectors import KINDS
from resources.errors import ConfigError, RagError
from resources.files import raw_name
from resources.milvus.rows import row_ids
from resources.parsing import PARSER_VERSION
from resources.parsing.formats import format_of
from resources.postgres.connection import Connection
from resources.postgres.documents.documents import ParserFingerprints
from resources.postgres.documents.lineage import (
    Row,
    Subject,
    chunks_of,
    document_of,
    entry_of,
    find_document,
    forgotten_at,
    vectors_of,
    version_at,
    versions_of,
)
from resources.postgres.documents.near_duplicates import similar_documents
from resources.postgres.registry.sources import get_source
from resources.postgres.vectors.collections import collections

if TYPE_CHECKING:
    from rag_assets.deployment import Deployment

#: Columns of a document that are shown; the text and what is derived from it only with a moment.
_FACTS = (
    "title", "author", "language", "category", "tags", "source_url", "mime_type", "is_markdown", "metadata",
    "word_count", "char_count", "chunk_count", "raw_hash", "parser_fingerprint", "chunker_fingerprint", "indexed_as",
    "processing_status", "indexing_status", "error_message", "created_at", "indexed_at", "version", "valid_from",
    "parsed_run", "chunked_run", "indexed_run",
)  # fmt: skip


def explain(deployment: Deployment, asked: str, source: str | None) -> dict[str, Any]:
    """Everything that is known of a document now."""
    with deployment.postgres().connect(autocommit=True) as connection:
        subject = find_document(connection, asked, source)
        document = document_of(connection, subject.document_id)
        entry = entry_of(connection, subject.document_id)
        model = deployment.model
        chunks = chunks_of(connection, subject.document_id, model)
        versions = versions_of(connection, subject.document_id)
        found = {
            **_named(subject),
            "state": "",
            "entry": entry,
            "raw": _raw(deployment, entry),
            "document": {name: document[name] for name in _FACTS} if document else None,
            "reading": _reading(deployment, connection, subject, document) if document else None,
            "chunks": chunks,
            "vectors": _vectors(deployment, connection, subject) if chunks else {},
            "versions": versions,
            "near_duplicates": similar_documents(connection, subject.document_id),
        }
        forgotten = forgotten_at(connection, subject.document_id)
        found["state"] = _state(entry, document, versions, found["vectors"], forgotten)
    return {**found, "runs": _runs(deployment, entry, document, chunks, versions)}


def explain_at(
    deployment: Deployment, asked: str, source: str | None, moment: datetime
) -> dict[str, Any]:
    """The document as it was, with its text. Raises ConfigError when it was not there."""
    now = datetime.now(UTC)
    if moment > now:
        raise ConfigError(f"--at: {moment} is still to come; it is {now:%Y-%m-%d %H:%M:%S%z}.")
    with deployment.postgres().connect(autocommit=True) as connection:
        subject = find_document(connection, asked, source)
        version = version_at(connection, subject.document_id, moment)
        current = document_of(connection, subject.document_id)
        versions = versions_of(connection, subject.document_id)
        forgotten = forgotten_at(connection, subject.document_id)
    if version is None and current is not None and current["valid_from"] <= moment:
        version = {**current, "valid_to": None, "ended_by": None, "ended_run": None}
    if version is None:
        known = _spans(versions, current)
        if forgotten is not None:
            known = f"It was {_state(None, None, [], {}, forgotten)}."
        raise ConfigError(f"{subject.key} was not there at {moment}, as far as is known. {known}")
    return {
        **_named(subject),
        "at": moment,
        "document": {name: version[name] for name in (*_FACTS, "content")},
        "valid_to": version["valid_to"],
        "ended_by": version["ended_by"],
        "runs": _runs(
            deployment, None, version if version["valid_to"] is None else None, [], [version]
        ),
    }


def _named(subject: Subject) -> dict[str, Any]:
    return {
        "document_id": subject.document_id,
        "key": subject.key,
        "source": subject.source or None,
    }


def _spans(versions: list[Row], current: Row | None) -> str:
    known = [
        f"{v['valid_from']:%Y-%m-%d %H:%M:%S%z} to {v['valid_to']:%Y-%m-%d %H:%M:%S%z}"
        for v in versions
    ]
    if current is not None:
        known.append(f"{current['valid_from']:%Y-%m-%d %H:%M:%S%z} until now")
    return f"Known: {'; '.join(known) or 'nothing'}."


def _state(
    entry: Row | None,
    document: Row | None,
    versions: list[Row],
    vectors: dict[str, dict[str, Any]],
    forgotten: datetime | None,
) -> str:
    """In a sentence, what the document is now."""
    if forgotten is not None:
        return f"forgotten on purpose at {forgotten:%Y-%m-%d %H:%M:%S%z}; no sync takes it up again"
    if document is None:
        if entry is not None and entry["removed_hash"]:
            return (
                "deleted by hand while its source still has it; it returns when its content changes"
            )
        if entry is not None:
            return f"listed, but not parsed yet{': ' + entry['error'] if entry['error'] else ''}"
        ended = versions[-1]["valid_to"] if versions else None
        return f"deleted at {ended:%Y-%m-%d %H:%M:%S%z}" if ended else "deleted"
    if document["processing_status"] == "failed":
        kept = "; its last good text is searchable" if document["char_count"] else ""
        return f"it could not be read: {document['error_message']}{kept}"
    if entry is None:
        return "gone from its source; the next sync deletes it"
    if entry["content_hash"] != document["raw_hash"]:
        return "its source has another content; the next sync takes it up"
    if document["indexing_status"] == "completed":
        served = [facts for facts in vectors.values() if facts["state"] == "serving"]
        if all(facts.get("right") == facts["wanted"] for facts in served):
            return "current and searchable"
        return "indexed, but Milvus does not hold what PostgreSQL says: rag check tells more"
    return f"processing {document['processing_status']}, indexing {document['indexing_status']}"


def _raw(deployment: Deployment, entry: Row | None) -> dict[str, Any] | None:
    if entry is None or not entry["content_hash"]:
        return None
    name = raw_name(entry["content_hash"])
    return {"file": name, "bytes": deployment.files().size(name)}


def _reading(
    deployment: Deployment, connection: Connection, subject: Subject, document: Row
) -> dict[str, Any] | None:
    """How the bytes became text. None: they did not."""
    if not document["mime_type"]:
        return None
    config = get_source(connection, subject.source).config if subject.source else {}
    language, about = config.get("language"), document["metadata"]
    read = format_of(document["mime_type"])
    settings = deployment.settings
    current = ParserFingerprints.of(language, settings.parse_seconds, settings.parse_memory_mib)
    return {
        "format": read.kind,
        "mime_type": document["mime_type"],
        "encoding": about.get("encoding"),
        "reader": "kreuzberg" if read.reader in ("extract", "html") else "built in",
        "ocr": False,
        "pages": about.get("pages"),
        "parser": PARSER_VERSION if document["parser_fingerprint"] in current else None,
    }


def _vectors(
    deployment: Deployment, connection: Connection, subject: Subject
) -> dict[str, dict[str, Any]]:
    """Collection -> how many chunks it should hold, acknowledged, holds, and holds as PostgreSQL says."""
    found = {}
    store = None
    for kind in KINDS:
        for collection in collections(connection, kind=kind):
            rows = vectors_of(connection, subject.document_id, collection.name, collection.model)
            facts: dict[str, Any] = {
                "state": collection.state,
                "chunks": len(rows),
                "acknowledged": sum(row["acknowledged"] is not None for row in rows),
                "acknowledged_at": max(
                    (row["acknowledged_at"] for row in rows if row["acknowledged_at"]), default=None
                ),
            }
            wanted = {
                row_id: row["wanted"]
                for row in rows
                for row_id in row_ids(row["id"], kind, row["row_count"] or 1)
            }
            facts["wanted"] = len(wanted)
            try:
                store = store or deployment.milvus()
                held = store.fingerprints(collection.name, list(wanted))
                facts["rows"] = len(held)
                facts["right"] = sum(wanted[row_id] == held[row_id] for row_id in held)
            except RagError as error:
                facts["error"] = str(error)
            found[collection.name] = facts
    if store is not None:
        store.close()
    return found


def _runs(
    deployment: Deployment,
    entry: Row | None,
    document: Row | None,
    chunks: Iterable[Row],
    versions: Iterable[Row],
) -> list[dict[str, Any]]:
    """The Dagster runs that wrote any of it, oldest first: what each did, and where the UI shows it."""
    did: dict[str, list[str]] = {}

    def note(run: str | None, what: str) -> None:
        if run and what not in did.setdefault(run, []):
            did[run].append(what)

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
    records = _records(deployment, list(did))
    found = [{"run_id": run, "did": what, **records.get(run, _GONE)} for run, what in did.items()]
    return sorted(found, key=lambda run: run["started_at"] or datetime.min.replace(tzinfo=UTC))


_GONE: Mapping[str, Any] = {
    "job": None,
    "status": "not in Dagster any more",
    "started_at": None,
    "url": None,
}


def _records(deployment: Deployment, runs: list[str]) -> dict[str, dict[str, Any]]:
    import dagster as dg

    if not runs:
        return {}
    return {
        record.dagster_run.run_id: {
            "job": record.dagster_run.job_name,
            "status": record.dagster_run.status.value,
            "started_at": datetime.fromtimestamp(record.start_time, UTC)
            if record.start_time
            else record.create_timestamp,
            "url": f"/runs/{record.dagster_run.run_id}",
        }
        for record in deployment.instance.get_run_records(dg.RunsFilter(run_ids=runs))
    }
