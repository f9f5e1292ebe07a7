"""The work of the sweep's processes: the stages of a sync, a repair and others, without Dagster, armed with a fault.

Imported once by multiprocessing's fork server, so a process costs 20 ms instead of 4 s of imports. Batches are small,
so that a corpus of 24 files passes each point several times.
"""

from __future__ import annotations

import logging
import os
import resource
import time
import traceback
from collections import Counter
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from pymilvus import MilvusClient
from pymilvus.exceptions import MilvusException

from rag_assets.definitions import build_resources
from rag_assets.ingestion import embed, index
from rag_assets.ingestion.compaction import compact as compact_files
from rag_assets.ingestion.publishing import publish_collections
from rag_assets.ingestion.stage import Stage
from rag_assets.operations.erasure import forget as forget_document
from rag_assets.operations.rebuild import Rebuilder
from rag_assets.operations.repair import RepairContext, repair_source
from rag_assets.settings.load import Settings
from resources import fault_injection
from resources.dagster_resources import vector_stores
from resources.embedded.milvus import running_milvus
from resources.errors import RagError
from resources.milvus import writes
from resources.milvus.request_client import RequestClient
from resources.postgres.documents import chunks, documents
from resources.postgres.documents.erasures import (
    find_document_id,
    find_erasure,
    list_unfinished_erasures,
    request_erasure,
)
from resources.postgres.registry import entries
from resources.postgres.registry.sources import get_source
from resources.postgres.vectors import outbox
from resources.vector_stores import VectorStores
from tests.support.oracle import traces
from tests.support.stages import run_stages

SOURCE = "docs"
LOG = logging.getLogger("sweep")


def shrink_batches() -> None:
    entries.BATCH_BYTES = 8 * 33_000
    documents.BATCH_BYTES = 6 * 68_000
    chunks.BATCH_CHARS = 6 * 8_000
    embed.CALL_CHARS = 8 * 1_000
    embed.FILE_BYTES = 4_000
    index.BATCH_CHUNKS = {"dense": 30, "sparse": 30, "multi": 30}
    writes.UPSERT_ROWS = 15
    outbox.CLAIMED = 25


def sync(settings: Settings) -> dict[str, dict[str, int]]:
    """Run all stages of one source, each with its own writer, as a run of `sync_source` does. asset -> plan."""
    resources, stores = open_stores(settings)
    try:
        return run_stages(resources, stores, SOURCE)
    finally:
        stores.milvus.close()


def repair(settings: Settings) -> dict[str, Any]:
    resources, stores = open_stores(settings)
    context = RepairContext(
        stores, resources["chunking"].config(), "float32", settings.outbox_seconds
    )
    try:
        with resources["postgres"].open().writer(SOURCE) as writer:
            stage = Stage("repair", get_source(writer.connection, SOURCE), writer, LOG)
            return repair_source(stage, context, dry_run=False).as_dict()
    finally:
        stores.milvus.close()


def rebuild(settings: Settings) -> dict[str, Any]:
    resources, stores = open_stores(settings)
    try:
        return Rebuilder(resources["postgres"].open(), stores, LOG).all_sources().as_dict()
    finally:
        stores.milvus.close()


def publish(settings: Settings) -> dict[str, Any]:
    resources, stores = open_stores(settings)
    try:
        return publish_collections(resources["postgres"].open(), stores, LOG).as_dict()
    finally:
        stores.milvus.close()


def open_stores(settings: Settings) -> tuple[dict[str, Any], VectorStores]:
    """Return Dagster's resources and an open client with the plain objects made from them."""
    resources = build_resources(settings)
    milvus, embedder = resources["milvus"], resources["embedder"]
    return resources, vector_stores(milvus.open(), resources["storage"], milvus, embedder)


def forget(settings: Settings) -> list[dict[str, Any]]:
    """Forget the document of the first file, which no later generation has, or complete unfinished requests.

    Returns the receipts.
    """
    resources, stores = open_stores(settings)
    try:
        with resources["postgres"].open().writer(SOURCE) as writer:
            source = get_source(writer.connection, SOURCE)
            if not list_unfinished_erasures(writer.connection, SOURCE):
                file = min(Path(source.config["path"]).iterdir())
                document = find_document_id(writer.connection, source.id, file.name)
                assert document is not None
                with writer.transaction() as connection:
                    request_erasure(connection, SOURCE, source.id, file.name, document)
                file.unlink()
            stage = Stage("forget", source, writer, LOG)
            items = [
                find_erasure(writer.connection, SOURCE, hashed)
                for hashed in list_unfinished_erasures(writer.connection, SOURCE)
            ]
            return [
                forget_document(stage, stores.milvus, stores.files, item)
                for item in items
                if item is not None
            ]
    finally:
        stores.milvus.close()


def compact(settings: Settings) -> dict[str, Any]:
    resources = build_resources(settings)
    return compact_files(resources["postgres"].open(), resources["storage"].open(), LOG).as_dict()


def flush(settings: Settings) -> None:
    """Flush every collection if the server runs. In its own process, as clients of one address share a connection."""
    if uri := running_milvus(settings.home):
        client = MilvusClient(uri, timeout=3)
        for name in ("dense_collection", "sparse_collection"):
            client.flush(name, timeout=3)


def twice(settings: Settings) -> dict[str, Any]:
    """Run a sync that recovers, then another one whose Milvus writes and embedded texts are counted."""
    started = time.monotonic()
    first = sync(settings)
    seconds = time.monotonic() - started
    embedder = type(build_resources(settings)["embedder"].open())
    calls: Counter[str] = Counter()
    for name in ("upsert", "upsert_request", "delete"):
        setattr(RequestClient, name, _counted(getattr(RequestClient, name), name, calls))
    url = build_resources(settings)["postgres"].open().url
    before = (traces(url), getattr(embedder, "texts", 0))
    second = sync(settings)
    after = (traces(url), getattr(embedder, "texts", 0))
    return {
        "first": first,
        "seconds": seconds,
        "second": second,
        "writes": dict(calls),
        "idle": before == after,
    }


def _counted(method: Any, name: str, calls: Counter[str]) -> Any:
    def counted(*arguments: Any, **options: Any) -> Any:
        calls[name] += 1
        return method(*arguments, **options)

    return counted


def losing_a_reply(settings: Settings, name: str, nth: int) -> Any:
    """Run a sync that loses the reply to the nth request of a kind, after the server has applied it."""
    method: Any = getattr(RequestClient, name)
    calls = iter(range(1, 1_000_000))

    def losing(*arguments: Any, **options: Any) -> Any:
        answer = method(*arguments, **options)
        if next(calls) == nth:
            raise MilvusException(message="the connection broke before the answer arrived")
        return answer

    setattr(RequestClient, name, losing)
    return sync(settings)


def one_upsert_at_a_time(settings: Settings) -> Any:
    """Run a sync that has no request in flight to Milvus when it halts between two upserts."""
    writes.UPSERTS = index.BATCHES = 1
    return sync(settings)


def on_a_full_disk(settings: Settings) -> Any:
    """Run a sync whose files may not grow beyond 4,000 bytes: raw files fit, Parquet files do not."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (4_000, resource.RLIM_INFINITY))
    return sync(settings)


WORK = {
    "sync": sync,
    "repair": repair,
    "rebuild": rebuild,
    "publish": publish,
    "forget": forget,
    "compact": compact,
    "flush": flush,
    "twice": twice,
    "losing an upsert": partial(losing_a_reply, name="upsert_request", nth=3),
    "losing a delete": partial(losing_a_reply, name="delete", nth=2),
    "one upsert at a time": one_upsert_at_a_time,
    "on a full disk": on_a_full_disk,
}


def run(
    answer: Connection, work: str, settings: Settings, fault: str = "", signal: str = "KILL"
) -> None:
    """Body of a process. Sends ("done", result), ("failed", message) or ("broke", traceback), with the passages."""
    logging.disable(logging.CRITICAL)
    shrink_batches()
    os.environ["RAG_FAULT_SIGNAL"] = signal
    if fault:
        fault_injection.arm(fault)
    try:
        answer.send(("done", WORK[work](settings), dict(fault_injection.passages)))
    except RagError as error:
        answer.send(("failed", f"{type(error).__name__}: {error}", dict(fault_injection.passages)))
    except BaseException:
        answer.send(("broke", traceback.format_exc(), dict(fault_injection.passages)))
