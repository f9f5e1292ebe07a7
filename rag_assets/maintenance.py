"""Work that belongs to no source that exists: the outbox of removed sources, and runs whose process died."""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Sequence

import dagster as dg
import psutil

from rag_assets.pipeline.vectors import Kind
from resources.faults import passage
from resources.milvus.store import MilvusStore
from resources.postgres.collections import WRITTEN, collections
from resources.postgres.connection import Postgres, Writer
from resources.postgres.vectors import abandoned_deletions, confirm_deletions, pending_deletions

#: Tags of a run that a `rag` command executes in its own process.
HOST_TAG, PID_TAG = "rag/host", "rag/pid"


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


def own_run_tags() -> dict[str, str]:
    return {
        HOST_TAG: socket.gethostname(),
        PID_TAG: f"{os.getpid()}:{psutil.Process().create_time():.0f}",
    }


def fail_dead_runs(instance: dg.DagsterInstance) -> Sequence[str]:
    """Fails the runs of this machine's `rag` processes that no longer live: nothing else would ever end them."""
    running = instance.get_runs(
        dg.RunsFilter(
            statuses=[
                dg.DagsterRunStatus.STARTED,
                dg.DagsterRunStatus.STARTING,
                dg.DagsterRunStatus.NOT_STARTED,
            ],
            tags={HOST_TAG: socket.gethostname()},
        )
    )
    dead = [run for run in running if not _alive(run.tags[PID_TAG])]
    for run in dead:
        instance.report_run_failed(
            run, "The process that executed this run is gone; the next sync goes on from there."
        )
        instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
    return [run.run_id for run in dead]


def _alive(tag: str) -> bool:
    pid, created = tag.split(":")
    try:
        return abs(psutil.Process(int(pid)).create_time() - float(created)) < 2
    except psutil.NoSuchProcess:
        return False
