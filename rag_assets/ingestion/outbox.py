"""The outbox: deletions that PostgreSQL recorded and Milvus has yet to carry out."""

from __future__ import annotations

from rag_assets.pipeline.vectors import Kind
from resources.fault_injection import fault_point
from resources.milvus.store import MilvusStore
from resources.postgres.connection import Postgres, Writer
from resources.postgres.scope import SyncScope
from resources.postgres.vectors.collections import WRITTEN, collections
from resources.postgres.vectors.outbox import (
    abandoned_deletions,
    claim_deletions,
    confirm_deletions,
)


def drain(writer: Writer, store: MilvusStore, scope: SyncScope, kind: Kind) -> int:
    """Delete the outbox's chunks from every collection of the kind, half-built ones too. Returns their number.

    An entry leaves the outbox in the transaction that claimed it, after Milvus confirmed the deletion.
    """
    names = [
        collection.name
        for collection in collections(writer.connection, kind=kind, states=(*WRITTEN, "rebuilding"))
        if store.has_collection(collection.name)
    ]
    deleted = 0
    while True:
        with writer.transaction() as connection:
            claimed, dead = claim_deletions(connection, scope, kind)
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
    """Drain the outbox of removed sources, which no sync drains. Returns the number of chunks deleted."""
    with postgres.connect(autocommit=True) as connection:
        abandoned = abandoned_deletions(connection)
    total = 0
    for source_id, kind in abandoned:
        with postgres.writer(f"/removed/{source_id}") as writer:
            total += drain(writer, store, SyncScope(source_id), kind)
    return total
