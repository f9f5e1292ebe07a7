"""Work that belongs to no source that exists: the outbox of removed sources."""

from __future__ import annotations

import uuid

from rag_assets.pipeline.vectors import Kind
from resources.faults import passage
from resources.milvus.store import MilvusStore
from resources.postgres.collections import WRITTEN, collections
from resources.postgres.connection import Postgres, Writer
from resources.postgres.vectors import abandoned_deletions, confirm_deletions, pending_deletions


def drain(writer: Writer, store: MilvusStore, source_id: uuid.UUID, kind: Kind) -> int:
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
            claimed, dead = pending_deletions(connection, source_id, kind)
            if dead:
                passage("deletions-claimed")
                for name in names:
                    writer.confirm()
                    store.delete_chunks(name, kind, dead)
                passage("deletions-done")
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
        with postgres.writer(f"removed/{source_id}") as writer:
            total += drain(writer, store, source_id, kind)
    return total
