"""Work that belongs to no source that exists: the outbox of removed sources, embedding files that are nobody's."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from rag_assets.pipeline.vectors import Kind
from resources.fault_injection import fault_point
from resources.files import FileStore
from resources.milvus.store import MilvusStore
from resources.postgres.connection import Connection, Postgres, Writer
from resources.postgres.scope import SyncScope
from resources.postgres.vectors.collections import WRITTEN, collections
from resources.postgres.vectors.compaction import forget_retired, retired
from resources.postgres.vectors.embeddings import unrecorded
from resources.postgres.vectors.vectors import (
    abandoned_deletions,
    confirm_deletions,
    pending_deletions,
)

if TYPE_CHECKING:
    from dagster import DagsterLogManager

#: Seconds. A file that is not recorded is nobody's after that: writing and recording one takes seconds. One that was
#: replaced has no reader any more: a run reads what it planned, and ends within a day (`dagster/max_runtime`).
GRACE = 24 * 3600


def drain(writer: Writer, store: MilvusStore, part: SyncScope, kind: Kind) -> int:
    """Deletes what the outbox says from every collection of the kind, half-built ones too. Returns the chunks deleted.

    An entry leaves the outbox in the transaction that claimed it, after Milvus confirmed.
    """
    names = [
        collection.name
        for collection in collections(writer.connection, kind=kind, states=(*WRITTEN, "rebuilding"))
        if store.has_collection(collection.name)
    ]
    deleted = 0
    while True:
        with writer.transaction() as connection:
            claimed, dead = pending_deletions(connection, part, kind)
            if dead:
                fault_point("deletions-claimed")
                for name in names:
                    writer.confirm()
                    store.delete_chunks(name, kind, dead)
                fault_point("deletions-done")
            confirm_deletions(connection, claimed)
        deleted += len(dead)
        if not claimed:
            return deleted


def drain_removed_sources(postgres: Postgres, store: MilvusStore) -> int:
    """Drains the outbox of sources that no longer exist: no sync of theirs will. Returns the chunks deleted."""
    with postgres.connect(autocommit=True) as connection:
        abandoned = abandoned_deletions(connection)
    total = 0
    for source_id, kind in abandoned:
        with postgres.writer(f"/removed/{source_id}") as writer:
            total += drain(writer, store, SyncScope(source_id), kind)
    return total


def sweep(
    connection: Connection, files: FileStore, log: logging.Logger | DagsterLogManager, model: str
) -> None:
    """Deletes files that a crash left between writing and recording, and those replaced, both after the grace time."""
    old = [name for name, age in files.ages(f"embeddings/{model}") if age > GRACE]
    for name in unrecorded(connection, old):
        log.info(f"{name} was never recorded; it is deleted")
        files.delete(name)
    remove_retired(connection, files)


def remove_retired(connection: Connection, files: FileStore) -> None:
    """Deletes the files that a compaction replaced more than the grace time ago; first the file, then its record."""
    gone = retired(connection, seconds=GRACE)
    for _, path, _ in gone:
        files.delete(path)
    if gone:
        forget_retired(connection, [file_id for file_id, *_ in gone])
