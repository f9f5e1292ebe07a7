"""Stages dense_vectors, sparse_vectors and multi_vectors: each collection made equal to PostgreSQL.

Order of writes: drain the outbox; upsert rows by deterministic id; record in PostgreSQL what Milvus acknowledged;
complete a document when every kind has all of its chunks. A crash leaves work undone, never a false record. The alias
moves in `publishing`; a sync only asks for it.
"""

from __future__ import annotations

import uuid
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import groupby

import pyarrow as pa

from rag_assets.ingestion.outbox import drain
from rag_assets.ingestion.publishing import (
    is_recovered,
    is_serving,
    recover_publication,
    serve_or_request,
)
from rag_assets.ingestion.stage import Outcome, Stage, columns_and_sample, one_ahead
from rag_assets.pipeline.plan import Plan
from rag_assets.pipeline.vectors import Kind
from resources.embedding_files import EmbeddingReader, dense_rows, multi_rows, sparse_rows
from resources.errors import StoreUnavailable
from resources.fault_injection import fault_point
from resources.milvus.collections import ALIASES
from resources.milvus.rows import RowFields
from resources.milvus.store import MilvusStore
from resources.postgres.connection import Connection
from resources.postgres.documents.chunks import count_chunks
from resources.postgres.documents.deferred_indexes import build_deferred_indexes
from resources.postgres.idle_sources import idle_vectors
from resources.postgres.registry.sources import SourceRow
from resources.postgres.registry.syncs import is_listed, mark_shard_synced, mark_synced
from resources.postgres.scope import SyncScope
from resources.postgres.vectors.collections import Collection, register_collection
from resources.postgres.vectors.embeddings import count_failed_chunks
from resources.postgres.vectors.vectors import (
    VectorRow,
    acknowledge,
    batch_of_vectors,
    complete_chunks,
    complete_documents,
    has_unfinished,
    plan_vectors,
    void_acknowledgements,
)
from resources.vector_stores import ModelTarget, VectorStores

#: Chunks written and acknowledged at a time. Multi-vectors take hundreds of rows per chunk.
BATCH_CHUNKS: dict[Kind, int] = {"dense": 1000, "sparse": 1000, "multi": 50}
#: Batches on their way at a time: while one is read back and recorded, the server has rows of the next one.
BATCHES = 2


def find_idle_vectors(
    connection: Connection, sources: Mapping[str, SourceRow], kind: Kind, stores: VectorStores
) -> dict[str, Outcome]:
    """Return the outcomes of sources whose collection already matches, and end their syncs."""
    if not sources or not is_recovered(connection, kind):
        return {}
    target, metadata = None, _skipped(kind, stores.model)
    if stores.model.keeps(kind):
        name = stores.model.collection(connection, kind)
        if not is_serving(connection, stores.milvus, name, stores.layout(kind)):
            return {}
        target = stores.model.target(SyncScope(next(iter(sources.values())).id))
        metadata = {"collection": name, "alias": ALIASES[kind]}
    ids = {key: source.id for key, source in sources.items()}
    counts = idle_vectors(connection, ids, kind, target)
    _end_syncs(connection, [ids[key] for key in counts])
    return {
        key: Outcome(Plan(kept=total), total, metadata=metadata) for key, total in counts.items()
    }


def _skipped(kind: Kind, model: ModelTarget) -> dict[str, str]:
    return {"skipped": f"{kind} is not among RAG_VECTORS={','.join(model.kinds)}"}


def sync_vectors(stage: Stage, kind: Kind, stores: VectorStores) -> Outcome:
    """Upsert the rows that differ from PostgreSQL, delete those that left, and complete the documents."""
    model, store = stores.model, stores.milvus
    recover_publication(stage.writer, store, kind)
    if not model.keeps(kind):
        plan = Plan(deleted=drain(stage.writer, store, stage.scope, kind))
        _mark_synced(stage)
        return Outcome(plan, 0, metadata=_skipped(kind, model))
    target, name = model.target(stage.scope), model.collection(stage.connection, kind)
    _ensure_collection(stage, kind, name, stores)
    plan = Plan(deleted=drain(stage.writer, store, stage.scope, kind))
    names = [model.collection(stage.connection, kept) for kept in target.kinds]
    batches = plan_vectors(stage.writer, target, name, batch_rows=BATCH_CHUNKS[kind])
    plan.inserted, plan.replaced = write_rows(
        stage,
        store,
        EmbeddingReader(stores.files, kind),
        name,
        batches,
        lambda connection, batch: complete_chunks(connection, target, names, batch),
    )
    requested = serve_or_request(stage.writer, store, kind, name)
    if has_unfinished(stage.connection, target):
        with stage.writer.transaction() as connection:
            complete_documents(connection, target, names)
    _mark_synced(stage)
    total = count_chunks(stage.connection, stage.scope)
    plan.failed = count_failed_chunks(stage.connection, stage.scope, name)
    plan.kept = total - plan.inserted - plan.replaced - plan.failed
    return _outcome(stage, plan, kind, name, total, requested)


def _ensure_collection(stage: Stage, kind: Kind, name: str, stores: VectorStores) -> None:
    layout = stores.layout(kind)
    with stage.writer.transaction() as connection:
        identity = stores.milvus.ensure_collection(name, layout)
        fingerprint = stores.model.fingerprint
        collection = Collection(
            name, ALIASES[kind], kind, fingerprint, layout.dimension, identity, "building"
        )
        register_collection(connection, collection)


def _mark_synced(stage: Stage) -> None:
    """End the sync if nothing of the source waits; the last of its shards does so for all.

    A run that Dagster executes again from the failure has the same sync, and no listing if that is what failed.
    """
    connection, source = stage.connection, stage.source.id
    if stage.shard is None or (
        is_listed(connection, source) and mark_shard_synced(connection, source, stage.shard)
    ):
        _end_syncs(connection, [source])


def _end_syncs(connection: Connection, sources: Sequence[uuid.UUID]) -> None:
    mark_synced(connection, sources)
    build_deferred_indexes(connection, sources)


def write_rows(
    stage: Stage,
    store: MilvusStore,
    reader: EmbeddingReader,
    name: str,
    batches: int,
    also_record: Callable[[Connection, int], None] = lambda connection, batch: None,
) -> tuple[int, int]:
    """Upsert the rows that `plan_vectors` left in its work table, and record each batch as Milvus acknowledged it.

    `also_record` (connection, batch) runs in the transaction of an acknowledgement. Returns (rows that the collection
    did not have, rows replaced).
    """
    inserted = replaced = 0
    read_ahead = one_ahead(
        batches,
        lambda batch: batch_of_vectors(stage.connection, batch),
        lambda loaded: _read(reader, loaded[0]),
    )

    def record(batch: int, upsert: Future[list[int]]) -> None:
        counts = upsert.result()
        fault_point("batch-upserted")
        with stage.writer.transaction() as connection:
            acknowledge(stage.writer, connection, stage.source.id, name, batch, counts)
            also_record(connection, batch)
        fault_point("batch-recorded")

    with ThreadPoolExecutor(BATCHES) as upserts, ThreadPoolExecutor(1) as recorder:
        # PostgreSQL records a batch while Milvus takes the next ones.
        running: deque[Future[None]] = deque()
        for batch, (rows, batch_replaced), table in read_ahead:
            while len(running) >= (1 if batch_replaced else BATCHES):
                running.popleft().result()
            if batch_replaced:
                with stage.writer.transaction() as connection:
                    void_acknowledgements(connection, name, batch)
            upsert = upserts.submit(_upsert, stage, store, reader.kind, name, rows, table)
            running.append(recorder.submit(record, batch, upsert))
            inserted += len(rows) - batch_replaced
            replaced += batch_replaced
            stage.progress(batch + 1 - len(running), batches)
        while running:
            running.popleft().result()
            stage.progress(batches - len(running), batches)
    return inserted, replaced


def _read(reader: EmbeddingReader, rows: Sequence[VectorRow]) -> pa.Table:
    """Return the vectors of rows that are in file order."""
    try:
        parts = [
            reader.read(path, [row.row_index for row in group])
            for path, group in groupby(rows, key=lambda row: row.path)
        ]
    except (OSError, pa.ArrowException) as error:
        raise StoreUnavailable(
            f"An embedding file is gone or damaged: {error}. Embed its texts again: rag rebuild parquet"
        ) from error
    return pa.concat_tables(parts)


def _upsert(
    stage: Stage,
    store: MilvusStore,
    kind: Kind,
    name: str,
    rows: Sequence[VectorRow],
    table: pa.Table,
) -> list[int]:
    """Upsert a batch. Returns the number of rows in Milvus for each chunk."""
    fields = [
        RowFields(
            row.chunk_id,
            row.row_fingerprint,
            row.document_id,
            row.source_type,
            row.source,
            row.language,
            row.position,
            int(row.created_at.timestamp()),
            row.chunk_type,
            row.author,
            row.category,
            row.tags,
        )
        for row in rows
    ]
    fence = stage.writer.confirm
    if kind == "dense":
        return store.upsert_dense(name, fields, dense_rows(table), fence)
    if kind == "sparse":
        return store.upsert_sparse(name, fields, sparse_rows(table), fence)
    return store.upsert_multi(name, fields, multi_rows(table), fence)


def _outcome(
    stage: Stage, plan: Plan, kind: Kind, name: str, total: int, requested: str
) -> Outcome:
    columns, sample = columns_and_sample(
        stage.connection,
        "document_chunks",
        (f"{kind}_vector_id", "section_title", "embedding_status", "embedded_at"),
        f"source_uuid = %(source)s AND {kind}_vector_id IS NOT NULL",
        {"source": stage.source.id},
    )
    metadata = {"collection": name, "alias": ALIASES[kind]}
    if requested:
        metadata["publication"] = requested
    return Outcome(plan, total, columns, sample, metadata)
