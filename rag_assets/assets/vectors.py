"""Assets dense_vectors, sparse_vectors and multi_vectors: Milvus made equal to PostgreSQL, one collection a kind.

Order of writes: the outbox is drained; rows are upserted by deterministic id; PostgreSQL records what Milvus
acknowledged; a document is complete when every kind holds all of its chunks. A crash leaves work undone, never a lie.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from itertools import groupby

import dagster as dg
import pyarrow as pa

from rag_assets.assets.chunk_embeddings import chunk_embeddings
from rag_assets.assets.run_stage import (
    COMMON,
    Outcome,
    Stage,
    columns_and_sample,
    one_ahead,
    run_stage,
)
from rag_assets.ingestion.garbage import drain
from rag_assets.ingestion.publishing import drop, is_settled, refusal, serve, serves, settle, unfit
from rag_assets.partitions import SOURCES
from rag_assets.pipeline.plan import Plan
from rag_assets.pipeline.vectors import Kind
from resources.dagster_resources import (
    EmbedderResource,
    MilvusResource,
    PostgresResource,
    StorageResource,
)
from resources.embedding_files import EmbeddingReader, dense_rows, multi_rows, sparse_rows
from resources.errors import StoreUnavailable
from resources.fault_injection import fault_point
from resources.files import FileStore
from resources.milvus.collections import ALIASES
from resources.milvus.rows import RowFields
from resources.milvus.store import MilvusStore
from resources.postgres.connection import Connection
from resources.postgres.documents.chunks import count_chunks
from resources.postgres.idle_sources import idle_vectors
from resources.postgres.registry.sources import SourceRow, list_sources
from resources.postgres.registry.syncs import mark_shard_synced, mark_synced
from resources.postgres.scope import SyncScope
from resources.postgres.vectors.collections import Collection, collections, register_collection
from resources.postgres.vectors.embeddings import OF_PART, Target
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

#: Chunks written and acknowledged at a time. Multi-vectors take hundreds of rows a chunk.
BATCH_CHUNKS: dict[Kind, int] = {"dense": 1000, "sparse": 1000, "multi": 50}
#: Batches on their way at a time: while one is read back and recorded, the server has rows of the next to take.
BATCHES = 2


def _vector_asset(kind: Kind, description: str) -> dg.AssetsDefinition:
    @dg.asset(
        name=f"{kind}_vectors",
        description=description,
        partitions_def=SOURCES,
        deps=[chunk_embeddings],
        kinds={"python", "milvus"},
        code_version="1",
        pool="milvus",
        **COMMON,
    )
    def vectors(
        context: dg.AssetExecutionContext,
        postgres: PostgresResource,
        milvus: MilvusResource,
        storage: StorageResource,
        embedder: EmbedderResource,
    ) -> dg.MaterializeResult:
        with closing(milvus.open()) as store:
            return run_stage(
                context,
                postgres,
                lambda stage: sync_vectors(stage, kind, store, storage.open(), milvus, embedder),
                lambda connection, sources: _idle(
                    connection, sources, kind, store, milvus, embedder
                ),
            )

    return vectors  # pyright: ignore[reportReturnType] - the decorator is typed as object


dense_vectors = _vector_asset(
    "dense",
    "One dense vector a chunk in Milvus `dense_collection`: upserts what differs from PostgreSQL, deletes what left.",
)
sparse_vectors = _vector_asset(
    "sparse",
    "One sparse vector (term weights) a chunk in Milvus `sparse_collection`: upserts what differs, deletes what left.",
)
multi_vectors = _vector_asset(
    "multi",
    "One vector a token in Milvus `multi_collection`, for late interaction (MaxSim). Only where RAG_VECTORS has multi.",
)


def _idle(
    connection: Connection,
    sources: Mapping[str, SourceRow],
    kind: Kind,
    store: MilvusStore,
    milvus: MilvusResource,
    embedder: EmbedderResource,
) -> dict[str, Outcome]:
    """Ends the syncs of those that it returns."""
    if not sources or not is_settled(connection, kind):
        return {}
    target, metadata = None, _skipped(kind, embedder)
    if embedder.wants(kind):
        name, layout = embedder.collection(connection, kind), milvus.layout(kind, embedder.open())
        if not serves(connection, store, name, layout):
            return {}
        target = embedder.target(SyncScope(next(iter(sources.values())).id))
        metadata = {"collection": name, "alias": ALIASES[kind]}
    ids = {key: source.id for key, source in sources.items()}
    found = idle_vectors(connection, ids, kind, target)
    mark_synced(connection, [ids[key] for key in found])
    return {key: Outcome(Plan(kept=n), n, metadata=metadata) for key, (n,) in found.items()}


def _skipped(kind: Kind, embedder: EmbedderResource) -> dict[str, str]:
    return {"skipped": f"{kind} is not among RAG_VECTORS={','.join(embedder.kinds)}"}


def sync_vectors(
    stage: Stage,
    kind: Kind,
    store: MilvusStore,
    files: FileStore,
    milvus: MilvusResource,
    embedder: EmbedderResource,
) -> Outcome:
    plan = Plan()
    settle(stage.writer, store, kind)
    if not embedder.wants(kind):
        plan.deleted = drain(stage.writer, store, stage.part, kind)
        _mark_synced(stage)
        return Outcome(plan, 0, metadata=_skipped(kind, embedder))
    target, name = embedder.target(stage.part), embedder.collection(stage.connection, kind)
    layout = milvus.layout(kind, embedder.open())
    with stage.writer.transaction() as connection:
        identity = store.ensure_collection(name, layout)
        register_collection(
            connection,
            Collection(
                name, ALIASES[kind], kind, target.model, layout.dimension, identity, "building"
            ),
        )
    plan.deleted = drain(stage.writer, store, stage.part, kind)
    names = [embedder.collection(stage.connection, wanted) for wanted in target.kinds]
    batches = plan_vectors(stage.writer, target, name, batch_rows=BATCH_CHUNKS[kind])
    plan.inserted, plan.replaced = write_rows(
        stage,
        store,
        EmbeddingReader(files, kind),
        name,
        batches,
        lambda connection, batch: complete_chunks(connection, target, names, batch),
    )
    _publish(stage, kind, name, store, files, milvus, embedder)
    if has_unfinished(stage.connection, target):
        with stage.writer.transaction() as connection:
            complete_documents(connection, target, names)
    _mark_synced(stage)
    total = count_chunks(stage.connection, stage.part)
    plan.failed = _without_embedding(stage, target)
    plan.kept = total - plan.inserted - plan.replaced - plan.failed
    return _outcome(stage, plan, kind, name, total)


def _mark_synced(stage: Stage) -> None:
    """Ends the sync where nothing of the source waits; of shards the last one does."""
    if stage.shard is None or mark_shard_synced(stage.connection, stage.source.id, stage.shard):
        mark_synced(stage.connection, [stage.source.id])


def write_rows(
    stage: Stage,
    store: MilvusStore,
    reader: EmbeddingReader,
    name: str,
    batches: int,
    recorded: Callable[[Connection, int], None] = lambda connection, batch: None,
) -> tuple[int, int]:
    """Upserts what `plan_vectors` left in `pg_temp.todo`, and records each batch as Milvus acknowledged it.

    `recorded`: what else is to be said in the transaction of an acknowledgement. Returns (rows that the collection did
    not have, rows replaced).
    """
    inserted = replacing = 0
    read_ahead = one_ahead(
        batches,
        lambda batch: batch_of_vectors(stage.connection, batch),
        lambda loaded: _read(reader, loaded[0]),
    )

    def record(batch: int, upserting: Future[list[int]]) -> None:
        counts = upserting.result()
        fault_point("batch-upserted")
        with stage.writer.transaction() as connection:
            acknowledge(stage.writer, connection, stage.source.id, name, batch, counts)
            recorded(connection, batch)
        fault_point("batch-recorded")

    with ThreadPoolExecutor(BATCHES) as upserts, ThreadPoolExecutor(1) as recorder:
        # PostgreSQL records a batch while Milvus takes the next ones.
        running: deque[Future[None]] = deque()
        for batch, (rows, replaced), table in read_ahead:
            while len(running) >= (1 if replaced else BATCHES):
                running.popleft().result()
            if replaced:
                with stage.writer.transaction() as connection:
                    void_acknowledgements(connection, name, batch)
            upserting = upserts.submit(_upsert, stage, store, reader.kind, name, rows, table)
            running.append(recorder.submit(record, batch, upserting))
            inserted += len(rows) - replaced
            replacing += replaced
            stage.progress(batch + 1 - len(running), batches)
        while running:
            running.popleft().result()
            stage.progress(batches - len(running), batches)
    return inserted, replacing


def _read(reader: EmbeddingReader, rows: Sequence[VectorRow]) -> pa.Table:
    """The vectors of rows that are in file order."""
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
    """Upserts a batch; the rows in Milvus that each chunk took."""
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


def _publish(
    stage: Stage,
    kind: Kind,
    name: str,
    store: MilvusStore,
    files: FileStore,
    milvus: MilvusResource,
    embedder: EmbedderResource,
) -> None:
    """Has this collection serve: at once when it is the first, else when the full comparison says that it may, and what
    is found in it."""
    current = store.alias_target(kind)
    known = {item.name: item for item in collections(stage.connection, kind=kind)}
    if current == name and known[name].state == "serving":
        return
    # An alias that was moved while PostgreSQL says that this collection serves is moved back in any case.
    if current not in (None, name) and known[name].state != "serving":
        reason = refusal(stage.connection, store, known[name], list_sources(stage.connection))
        reason = reason or unfit(stage.writer, store, files, milvus, embedder, known[name])
        if reason:
            stage.log.info(f"{current} goes on serving: {reason}")
            return
    serve(stage.writer, store, known[name])
    drop(stage.writer, store, collections(stage.connection, kind=kind, states=("retired",)))


def _without_embedding(stage: Stage, target: Target) -> int:
    row = stage.connection.execute(
        f"""SELECT count(*) FROM documents d JOIN document_chunks c ON c.document_id = d.id
           WHERE {OF_PART} AND d.indexing_status = 'failed' AND c.embedding_status = 'failed'""",
        target.parameters(),
    ).fetchone()
    assert row is not None
    return row[0]


def _outcome(stage: Stage, plan: Plan, kind: Kind, name: str, total: int) -> Outcome:
    columns, sample = columns_and_sample(
        stage.connection,
        "document_chunks",
        (f"{kind}_vector_id", "section_title", "embedding_status", "embedded_at"),
        f"source_uuid = %(source)s AND {kind}_vector_id IS NOT NULL",
        {"source": stage.source.id},
    )
    return Outcome(plan, total, columns, sample, {"collection": name, "alias": ALIASES[kind]})
