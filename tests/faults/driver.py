"""What a process of the sweep runs: the stages of a sync, or a repair, without Dagster, armed with a fault.

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

from rag_assets.assets import chunk_embeddings, vectors
from rag_assets.assets.chunk_embeddings import embed_texts
from rag_assets.assets.document_chunks import sync_chunks
from rag_assets.assets.documents import sync_documents
from rag_assets.assets.run_stage import Stage
from rag_assets.assets.source_documents import sync_source_documents
from rag_assets.assets.vectors import sync_vectors
from rag_assets.definitions import build_resources
from rag_assets.ingestion.compaction import compact as compact_files
from rag_assets.operations.erasure import forget as forget_document
from rag_assets.operations.rebuild import Rebuilder
from rag_assets.operations.repair import repair_source
from rag_assets.settings.load import Settings
from resources import fault_injection
from resources.embedded.milvus import running_milvus
from resources.errors import RagError
from resources.milvus import writes
from resources.postgres.documents import chunks, documents
from resources.postgres.documents.erasures import (
    find_document,
    find_request,
    request,
    unfinished_requests,
)
from resources.postgres.registry import sources
from resources.postgres.registry.sources import get_source
from resources.postgres.vectors import vectors as outbox
from tests.support.oracle import traces

SOURCE = "docs"


def shrink_batches() -> None:
    sources.BATCH_BYTES = 8 * 33_000
    documents.BATCH_BYTES = 6 * 68_000
    chunks.BATCH_CHARS = 6 * 8_000
    chunk_embeddings.CALL_CHARS = 8 * 1_000
    chunk_embeddings.FILE_BYTES = 4_000
    vectors.BATCH_CHUNKS = {"dense": 30, "sparse": 30, "multi": 30}
    writes.UPSERT_ROWS = 15
    outbox.CLAIMED = 25


def sync(settings: Settings) -> dict[str, dict[str, int]]:
    """All stages of one source, each as its own writer, as a run of `sync_source` has them. asset -> plan."""
    world = build_resources(settings)
    files, embedder = world["storage"].open(), world["embedder"]
    store, postgres = world["milvus"].open(), world["postgres"].open()

    def index(kind: Any) -> Any:
        return lambda stage: sync_vectors(stage, kind, store, files, world["milvus"], embedder)

    stages = {
        "source_documents": lambda stage: sync_source_documents(stage, files, world["guard"]),
        "documents": lambda stage: sync_documents(stage, files, world["parsing"]),
        "document_chunks": lambda stage: sync_chunks(stage, world["chunking"].config()),
        "chunk_embeddings": lambda stage: embed_texts(
            stage, files, embedder.open(), embedder.target(stage.part), "float32"
        ),
        "dense_vectors": index("dense"),
        "sparse_vectors": index("sparse"),
        "multi_vectors": index("multi"),
    }
    done = {}
    try:
        for asset, work in stages.items():
            with postgres.writer(SOURCE) as writer:
                source = get_source(writer.connection, SOURCE)
                log: Any = logging.getLogger("sweep")
                done[asset] = work(Stage(asset, source, writer, log)).plan.as_dict()
    finally:
        store.close()
    return done


def repair(settings: Settings) -> dict[str, Any]:
    world = build_resources(settings)
    with world["postgres"].open().writer(SOURCE) as writer:
        log: Any = logging.getLogger("sweep")
        stage = Stage("repair", get_source(writer.connection, SOURCE), writer, log)
        names = ("milvus", "storage", "embedder", "chunking", "limits")
        parts = [world[name] for name in names]
        return repair_source(stage, *parts, dry_run=False).as_dict()


def rebuild(settings: Settings) -> dict[str, Any]:
    world = build_resources(settings)
    store, log = world["milvus"].open(), logging.getLogger("sweep")
    parts: list[Any] = [world["storage"].open(), world["milvus"], world["embedder"], log]
    try:
        return Rebuilder(world["postgres"].open(), store, *parts).all_sources().as_dict()
    finally:
        store.close()


def forget(settings: Settings) -> list[dict[str, Any]]:
    """Forgets the document of the first file, which no later generation has; or ends what was begun. The receipts."""
    world = build_resources(settings)
    store, log = world["milvus"].open(), logging.getLogger("sweep")
    try:
        with world["postgres"].open().writer(SOURCE) as writer:
            source = get_source(writer.connection, SOURCE)
            if not unfinished_requests(writer.connection, SOURCE):
                file = min(Path(source.config["path"]).iterdir())
                document = find_document(writer.connection, source.id, file.name)
                assert document is not None
                with writer.transaction() as connection:
                    request(connection, SOURCE, source.id, file.name, document)
                file.unlink()
            stage: Any = Stage("forget", source, writer, log)  # pyright: ignore[reportArgumentType]
            items = [
                find_request(writer.connection, SOURCE, hashed)
                for hashed in unfinished_requests(writer.connection, SOURCE)
            ]
            return [
                forget_document(stage, store, world["storage"].open(), item)
                for item in items
                if item is not None
            ]
    finally:
        store.close()


def compact(settings: Settings) -> dict[str, Any]:
    world, log = build_resources(settings), logging.getLogger("sweep")
    return compact_files(world["postgres"].open(), world["storage"].open(), log).as_dict()


def flush(settings: Settings) -> None:
    """Every collection of a server that runs. In a process of its own: clients of one address share a connection."""
    if uri := running_milvus(settings.home):
        client = MilvusClient(uri, timeout=3)
        for name in ("dense_collection", "sparse_collection"):
            client.flush(name, timeout=3)


def twice(settings: Settings) -> dict[str, Any]:
    """A sync that recovers, and one more, of which everything that it asks of Milvus and the embedder is counted."""
    started = time.monotonic()
    first = sync(settings)
    seconds = time.monotonic() - started
    embedder = type(build_resources(settings)["embedder"].open())
    calls: Counter[str] = Counter()
    for name in ("upsert", "delete"):
        setattr(MilvusClient, name, _counted(getattr(MilvusClient, name), name, calls))
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
    """A sync of which the reply to the nth request of a kind is lost after the server applied it."""
    method: Any = getattr(MilvusClient, name)
    calls = iter(range(1, 1_000_000))

    def losing(*arguments: Any, **options: Any) -> Any:
        answer = method(*arguments, **options)
        if next(calls) == nth:
            raise MilvusException(message="the connection broke before the answer came")
        return answer

    setattr(MilvusClient, name, losing)
    return sync(settings)


def one_upsert_at_a_time(settings: Settings) -> Any:
    """Nothing is on its way to Milvus when this process halts between two upserts."""
    writes.UPSERTS = vectors.BATCHES = 1
    return sync(settings)


def on_a_full_disk(settings: Settings) -> Any:
    """No file of this process may grow beyond 4,000 bytes: the raw ones fit, Parquet does not."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (4_000, resource.RLIM_INFINITY))
    return sync(settings)


WORK = {
    "sync": sync,
    "repair": repair,
    "rebuild": rebuild,
    "forget": forget,
    "compact": compact,
    "flush": flush,
    "twice": twice,
    "losing an upsert": partial(losing_a_reply, name="upsert", nth=3),
    "losing a delete": partial(losing_a_reply, name="delete", nth=2),
    "one upsert at a time": one_upsert_at_a_time,
    "on a full disk": on_a_full_disk,
}


def run(
    answer: Connection, work: str, settings: Settings, fault: str = "", signal: str = "KILL"
) -> None:
    """The body of a process. Sends ("done", result), ("failed", message) or ("broke", traceback), and the passages."""
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
