"""Provable deletion of one document from PostgreSQL and its history, Milvus, Parquet and the raw store.

The receipt states what a read of each place found. The transaction that deletes the document also records the request;
every later step searches for the remainder and removes it, so asking again finishes an erasure that was killed. Backups
and write-ahead logs are out of reach.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from rag_assets.ingestion.outbox import drain
from rag_assets.ingestion.raw_files import sweep
from rag_assets.ingestion.stage import Stage
from rag_assets.pipeline.vectors import KINDS, Kind
from resources.embedding_files import read_rows, write_tables
from resources.fault_injection import fault_point
from resources.files import FileStore, raw_name
from resources.milvus.collections import ALIASES
from resources.milvus.store import MilvusStore
from resources.postgres.connection import Connection, others_write, partition_lock
from resources.postgres.documents.erasures import (
    Erasure,
    RecordedFile,
    count_remaining_rows,
    delete_embeddings,
    find_recorded_file,
    find_shared_texts,
    find_unused_raw,
    record_receipt,
    vacuum_erased_tables,
)
from resources.postgres.documents.versions import delete_versions
from resources.postgres.vectors.collections import ALL_STATES, collections
from resources.postgres.vectors.compaction import COMPACTION
from resources.postgres.vectors.embeddings import forget_file, record_file

#: Seconds. While another source is written, younger unreferenced files are kept: their writer may be about to record
#: them.
GRACE = 3600
_LATER = "run it again when no other source is being written, or in an hour"


@dataclass
class PlaceReport:
    """The report of one place: `looked_for` there, the numbers `removed` and `left`, and a note for people."""

    looked_for: str
    removed: int = 0
    left: int = 0
    note: str = ""

    def as_dict(self) -> dict[str, Any]:
        return {
            "looked_for": self.looked_for,
            "removed": self.removed,
            "left": self.left,
            "verified": self.left == 0,
            **({"note": self.note} if self.note else {}),
        }


def forget(stage: Stage, store: MilvusStore, files: FileStore, request: Erasure) -> dict[str, Any]:
    """Remove the remainder of a requested document from every place. Records and returns the receipt.

    The receipt contains ids, hashes and numbers, no text and no key. `verified` is False if any place could not be
    verified; then it is not recorded, and the next call continues from there.
    """
    places = {"history": _erase_versions(stage, request)}
    for name in store.drop_unusable():
        places[f"milvus/{name}"] = PlaceReport(
            "any row", note="dropped: this server cannot index its vectors"
        )
    for name, kind in _all_collections(stage.connection, store):
        places[f"milvus/{name}"] = _erase_vectors(stage, store, name, kind, request)
    fault_point("forget-vectors")
    for kind in KINDS:
        drain(stage.writer, store, stage.scope, kind)
    fault_point("forget-drained")
    # Otherwise a running compaction could copy the erased rows to a new file after this has listed the files.
    with partition_lock(stage.connection, COMPACTION, stage.writer.database.lock_timeout):
        places["parquet"] = _erase_embeddings(stage, files, request)
    fault_point("forget-parquet")
    places["raw"] = _erase_raw_files(stage, files, request)
    vacuum_erased_tables(stage.connection)
    rows = count_remaining_rows(stage.connection, request)
    places["postgres"] = PlaceReport(", ".join(rows), len(request.chunks), sum(rows.values()))
    receipt = {
        "source": request.source,
        "document": str(request.document),
        "key_sha256": request.key_hash,
        "verified": all(place.left == 0 for place in places.values()),
        "verified_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "chunks": len(request.chunks),
        "texts": len(request.texts),
        "places": {name: place.as_dict() for name, place in places.items()},
        "out_of_reach": "backups, write-ahead logs and replicas of PostgreSQL; samples of rows in Dagster's event log, "
        "which may show its key, its titles and the beginning of its texts",
    }
    if receipt["verified"]:
        with stage.writer.transaction() as connection:
            record_receipt(connection, request, receipt)
    return receipt


# PostgreSQL's history -----------------------------------------------------------------------------------------------


def _erase_versions(stage: Stage, request: Erasure) -> PlaceReport:
    """Delete the versions; the deletion of the document itself, earlier, appended the last one."""
    with stage.writer.transaction() as connection:
        removed, left = delete_versions(connection, request.document)
    looked_for = "rows of document_versions with this document_id, every month and the default one"
    return PlaceReport(looked_for, removed, left)


# Milvus -------------------------------------------------------------------------------------------------------------


def _all_collections(connection: Connection, store: MilvusStore) -> list[tuple[str, Kind]]:
    """Return every physical collection of this project, even one that PostgreSQL does not record."""
    kinds: dict[str, Kind] = {
        collection.name: collection.kind
        for collection in collections(connection, states=ALL_STATES)
    }
    for name in store.collection_names():
        for kind, alias in ALIASES.items():
            if name.startswith(f"{alias}__"):
                kinds.setdefault(name, kind)
    return sorted((name, kind) for name, kind in kinds.items() if store.has_collection(name))


def _erase_vectors(
    stage: Stage, store: MilvusStore, name: str, kind: Kind, request: Erasure
) -> PlaceReport:
    report = PlaceReport("rows with this document_id or a chunk's id")
    if store.is_empty_and_without_index(name):
        report.note = "it has neither rows nor an index"
        return report
    stage.writer.confirm()
    document = str(request.document)
    deleted: set[str] = set()
    # Until a query returns no new id: a server that goes on returning deleted rows must not cause an endless loop.
    while ids := set(store.ids_of_document(name, document)) - deleted:
        store.delete_ids(name, sorted(ids))
        deleted |= ids
    report.removed = len(deleted)
    if request.chunks:
        store.delete_chunks(name, kind, dict.fromkeys(request.chunks))
    remaining = set(store.ids_of_document(name, document))
    if kind != "multi":
        keys = [f"{chunk}_{kind}" for chunk in request.chunks]
        remaining |= store.fingerprints(name, keys).keys()
    report.left = len(remaining)
    return report


# Parquet ------------------------------------------------------------------------------------------------------------


def _erase_embeddings(stage: Stage, files: FileStore, request: Erasure) -> PlaceReport:
    """Rewrite each embedding file that contains the embedding of a text that no other document has."""
    report = PlaceReport("embeddings of texts that no other document has")
    shared = find_shared_texts(stage.connection, request.texts)
    erased = pa.array(sorted(set(request.texts) - shared), pa.string())
    if shared:
        report.note = f"kept, since other documents have them too: {len(shared)}"
    if not len(erased):
        return report
    listing = list(files.list("embeddings"))
    # Read after the listing: a writer that starts later wrote none of the listed files.
    grace = GRACE if others_write(stage.connection) else 0.0
    for info in listing:
        path = "embeddings/" + info.path.split("/embeddings/", 1)[1]
        rows = _count_rows(files, path, erased)
        if rows == 0:
            continue
        record = find_recorded_file(stage.connection, path)
        if rows is None:
            # Damaged, or half-written by a process that was killed: it may contain any text.
            if record is None and _is_old(info, grace):
                files.delete(path)
            else:
                report.left += 1
                remedy = "rag rebuild parquet" if record else _LATER
                report.note = f"{path} cannot be read; {remedy}"
        elif record is not None:
            _rewrite_file(stage, files, record, erased)
            files.delete(path)
            report.removed += rows
        elif _is_old(info, grace):
            files.delete(path)
            report.removed += rows
        else:
            report.left += rows
            report.note = f"{path} is not recorded yet; {_LATER}"
    return report


def _is_old(info: fs.FileInfo, grace: float) -> bool:
    if not grace:
        return True
    return info.mtime_ns is not None and time.time() - info.mtime_ns / 1e9 > grace


def _count_rows(files: FileStore, path: str, texts: pa.Array) -> int | None:
    """Count the file's rows of these texts. None if the file cannot be read."""
    try:
        column = pq.read_table(files.open(path), columns=["text_hash"])["text_hash"]
    except (OSError, pa.ArrowException):
        return None
    return int(pa.compute.sum(pa.compute.is_in(column, value_set=texts)).as_py() or 0)  # pyright: ignore


def _rewrite_file(stage: Stage, files: FileStore, record: RecordedFile, erased: pa.Array) -> None:
    """Replace the file by one without the erased texts, and without rows that are no longer any text's embedding."""
    erased_texts = set(erased.to_pylist())
    kept = sorted((row, text) for text, row in record.rows.items() if text not in erased_texts)
    rows, texts = [row for row, _ in kept], [text for _, text in kept]
    written = None
    if kept:
        tables = read_rows(files, record.path, np.array(rows, np.int64))
        written = write_tables(files, record.model, tables)
    fault_point("forget-rewritten")
    with stage.writer.transaction() as connection:
        delete_embeddings(connection, record.id, sorted(erased_texts))
        if written is not None:
            record_file(connection, record.model, record.kinds, written, texts)  # pyright: ignore[reportArgumentType]
        forget_file(connection, record.id)


# The raw store ------------------------------------------------------------------------------------------------------


def _erase_raw_files(stage: Stage, files: FileStore, request: Erasure) -> PlaceReport:
    """Delete the document's raw files, current and former, that no other document has, and all unreferenced ones:
    a file that a killed sync left may be this document's."""
    report = PlaceReport(
        "raw files of this document, current and former, and unreferenced ones, that no other document has"
    )
    own = set(request.raw)
    unused = find_unused_raw(stage.connection, own)
    if own - unused:
        report.note = f"kept, since other documents have the same bytes: {len(own - unused)}"
    for digest in unused:
        if files.size(raw_name(digest)) is not None:
            files.delete(raw_name(digest))
            report.removed += 1
    report.left = sum(files.size(raw_name(digest)) is not None for digest in unused)
    connection = stage.connection
    deleted, kept = sweep(connection, files, lambda: GRACE if others_write(connection) else 0.0)
    report.removed += deleted
    report.left += kept
    if kept:
        report.note = f"{kept} raw files are not recorded yet; {_LATER}"
    return report
