"""Provable deletion of one document: from PostgreSQL with its history, Milvus, Parquet and the raw store, with a
receipt that read each.

What was asked for is recorded first, in the transaction that deletes the document; every later part looks for what is
left and removes it, so one that was killed is finished by asking again. Backups and write-ahead logs are out of reach.
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

from rag_assets.assets.run_stage import Stage
from rag_assets.ingestion.garbage import drain
from rag_assets.ingestion.raw_files import sweep
from rag_assets.pipeline.vectors import KINDS, Kind
from resources.embedding_files import read_rows, write_tables
from resources.fault_injection import fault_point
from resources.files import FileStore, raw_name
from resources.milvus.collections import ALIASES
from resources.milvus.store import MilvusStore
from resources.postgres.connection import Connection, others_write, turn
from resources.postgres.documents.erasures import (
    Erasure,
    RecordedFile,
    drop_texts,
    left_in_postgres,
    record_receipt,
    recorded_file,
    texts_of_others,
    unused_raw,
)
from resources.postgres.documents.versions import forget_versions
from resources.postgres.vectors.collections import ALL_STATES, collections
from resources.postgres.vectors.compaction import COMPACTION
from resources.postgres.vectors.embeddings import forget_file, record_file

#: Seconds. While another source is written, a younger file that nothing refers to is left alone: it may be about to be
#: recorded.
GRACE = 3600
_LATER = "ask again when no other source is being written, or in an hour"


@dataclass
class Found:
    """What one place held, and what it holds now."""

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


def forget(stage: Stage, store: MilvusStore, files: FileStore, item: Erasure) -> dict[str, Any]:
    """Removes what is left of a requested document everywhere. Returns the receipt, which is also recorded.

    The receipt holds ids, hashes and numbers, no text and no key. `verified` is False where any place could not be
    shown to be clean; asking again goes on from there.
    """
    places = {"history": _from_history(stage, item)}
    for name, kind in _collections(stage.connection, store):
        places[f"milvus/{name}"] = _from_milvus(stage, store, name, kind, item)
    fault_point("forget-vectors")
    for kind in KINDS:
        drain(stage.writer, store, stage.part, kind)
    fault_point("forget-drained")
    # A compaction would copy, after this has looked, what it read before.
    with turn(stage.connection, COMPACTION, stage.writer.database.lock_timeout):
        places["parquet"] = _from_parquet(stage, files, item)
    fault_point("forget-parquet")
    places["raw"] = _from_raw(stage, files, item)
    _vacuum(stage.connection)
    rows = left_in_postgres(stage.connection, item)
    places["postgres"] = Found(", ".join(rows), len(item.chunks), sum(rows.values()))
    receipt = {
        "source": item.source,
        "document": str(item.document),
        "key_sha256": item.key_hash,
        "verified": all(found.left == 0 for found in places.values()),
        "verified_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "chunks": len(item.chunks),
        "texts": len(item.texts),
        "places": {name: found.as_dict() for name, found in places.items()},
        "out_of_reach": "backups, write-ahead logs and replicas of PostgreSQL; samples of rows in Dagster's event log, "
        "which may show its key, its titles and the beginning of its texts",
    }
    if receipt["verified"]:
        with stage.writer.transaction() as connection:
            record_receipt(connection, item, receipt)
    return receipt


def _collections(connection: Connection, store: MilvusStore) -> list[tuple[str, Kind]]:
    """Every physical collection of ours, those too that PostgreSQL no longer knows."""
    known: dict[str, Kind] = {
        each.name: each.kind for each in collections(connection, states=ALL_STATES)
    }
    for name in store.collection_names():
        for kind, alias in ALIASES.items():
            if name.startswith(f"{alias}__"):
                known.setdefault(name, kind)
    return sorted((name, kind) for name, kind in known.items() if store.has_collection(name))


def _from_milvus(stage: Stage, store: MilvusStore, name: str, kind: Kind, item: Erasure) -> Found:
    found = Found("rows with this document_id or a chunk's id")
    stage.writer.confirm()
    seen: set[str] = set()
    # Until nothing new is shown: a server that shows what it deleted must not keep this going for ever.
    while ids := set(store.ids_of_document(name, str(item.document))) - seen:
        store.delete_ids(name, sorted(ids))
        seen |= ids
    found.removed = len(seen)
    if item.chunks:
        store.delete_chunks(name, kind, dict.fromkeys(item.chunks))
    left = set(store.ids_of_document(name, str(item.document)))
    if kind != "multi":
        keys = [f"{chunk}_{kind}" for chunk in item.chunks]
        left |= store.fingerprints(name, keys).keys()
    found.left = len(left)
    return found


def _from_parquet(stage: Stage, files: FileStore, item: Erasure) -> Found:
    """Rewrites each embedding file that holds the embedding of a text which no other document has."""
    found = Found("embeddings of texts that no other document has")
    shared = texts_of_others(stage.connection, item.texts)
    gone = pa.array(sorted(set(item.texts) - shared), pa.string())
    if shared:
        found.note = f"{len(shared)} texts stay: other documents hold them too"
    if not len(gone):
        return found
    listed = list(files.list("embeddings"))
    # Asked after the listing: a writer that begins now writes none of these files.
    grace = GRACE if others_write(stage.connection) else 0.0
    for info in listed:
        path = "embeddings/" + info.path.split("/embeddings/", 1)[1]
        held = _rows_of(files, path, gone)
        if held == 0:
            continue
        record = recorded_file(stage.connection, path)
        if (
            held is None
        ):  # damaged, or half-written by a process that was killed: it may hold anything
            if record is None and _is_old(info, grace):
                files.delete(path)
            else:
                found.left += 1
                mend = "rag rebuild parquet" if record else _LATER
                found.note = f"{path} cannot be read; {mend}"
        elif record is not None:
            _rewrite(stage, files, record, gone)
            files.delete(path)
            found.removed += held
        elif _is_old(info, grace):
            files.delete(path)
            found.removed += held
        else:
            found.left += held
            found.note = f"{path} is not recorded yet; {_LATER}"
    return found


def _is_old(info: fs.FileInfo, grace: float) -> bool:
    if not grace:
        return True
    return info.mtime_ns is not None and time.time() - info.mtime_ns / 1e9 > grace


def _rows_of(files: FileStore, path: str, texts: pa.Array) -> int | None:
    """Rows of the file that are of these texts; None where it cannot be read."""
    try:
        column = pq.read_table(files.open(path), columns=["text_hash"])["text_hash"]
    except (OSError, pa.ArrowException):
        return None
    return int(pa.compute.sum(pa.compute.is_in(column, value_set=texts)).as_py() or 0)  # pyright: ignore


def _rewrite(stage: Stage, files: FileStore, record: RecordedFile, gone: pa.Array) -> None:
    """Writes the file anew without some texts, and without rows that are no text's embedding any more."""
    lost = set(gone.to_pylist())
    kept = sorted((row, text) for text, row in record.rows.items() if text not in lost)
    rows, texts = [row for row, _ in kept], [text for _, text in kept]
    written = None
    if kept:
        tables = read_rows(files, record.path, np.array(rows, np.int64))
        written = write_tables(files, record.model, tables)
    fault_point("forget-rewritten")
    with stage.writer.transaction() as connection:
        drop_texts(connection, record.id, sorted(lost))
        if written is not None:
            record_file(connection, record.model, record.kinds, written, texts)  # pyright: ignore[reportArgumentType]
        forget_file(connection, record.id)


def _from_raw(stage: Stage, files: FileStore, item: Erasure) -> Found:
    """Deletes the raw bytes that the document has and had, but for those that another one has; and what a killed sync
    left, which nothing refers to and which may be its."""
    found = Found(
        "raw files of this document, former ones too, and of none at all, that no other one has"
    )
    own = set(item.raw)
    unused = unused_raw(stage.connection, own)
    if own - unused:
        found.note = f"{len(own - unused)} raw files stay: other documents have the same bytes"
    for digest in unused:
        if files.size(raw_name(digest)) is not None:
            files.delete(raw_name(digest))
            found.removed += 1
    found.left = sum(files.size(raw_name(digest)) is not None for digest in unused)
    connection = stage.connection
    swept, young = sweep(connection, files, lambda: GRACE if others_write(connection) else 0.0)
    found.removed += swept
    found.left += young
    if young:
        found.note = f"{young} raw files are not recorded yet; {_LATER}"
    return found


def _from_history(stage: Stage, item: Erasure) -> Found:
    """After the document itself: its deletion appended a version."""
    with stage.writer.transaction() as connection:
        removed, left = forget_versions(connection, item.document)
    looked_for = "rows of document_versions with this document_id, every month and the default one"
    return Found(looked_for, removed, left)


def _vacuum(connection: Connection) -> None:
    """Dead rows leave the tables' pages, and values the columns' statistics, too."""
    for table in (
        "documents",
        "document_chunks",
        "source_entries",
        "document_versions",
        "retrieval_queries",
        "retrieval_judgements",
    ):
        connection.execute(f"VACUUM (ANALYZE) {table}")  # pyright: ignore[reportArgumentType, reportCallIssue]
