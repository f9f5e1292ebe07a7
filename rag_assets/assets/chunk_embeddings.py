"""Asset chunk_embeddings: every distinct text embedded once, in Parquet files."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, LiteralString

import dagster as dg
import numpy as np
import pyarrow as pa

from rag_assets.assets.document_chunks import document_chunks
from rag_assets.assets.run_stage import COMMON, Outcome, Stage, run_stage
from rag_assets.ingestion.garbage import sweep
from rag_assets.partitions import SOURCES
from rag_assets.pipeline.plan import Plan
from rag_assets.pipeline.term_statistics import TermStatistics, WeighsQueries
from rag_assets.pipeline.vectors import Embedder, Embeddings, Kind, Multi, Sparse
from resources.dagster_resources import EmbedderResource, PostgresResource, StorageResource
from resources.embedding_files import FILE_BYTES, to_table, write_tables
from resources.errors import ConfigError, RagError
from resources.fault_injection import fault_point
from resources.files import FileStore
from resources.postgres.connection import Connection
from resources.postgres.idle_sources import idle_embeddings
from resources.postgres.registry.sources import SourceRow
from resources.postgres.scope import SyncScope
from resources.postgres.vectors.embeddings import (
    DIRTY,
    Target,
    batch_to_embed,
    count_texts,
    files_of_pending,
    forget_file,
    plan_embedding,
    record_failures,
    record_file,
)
from resources.postgres.vectors.term_statistics import add_statistics

#: Characters given to the embedder in one call: some hundred chunks, enough to sort by length and fill batches.
CALL_CHARS = 500_000
#: A file is closed when it was begun so long ago, however small: a model on a CPU fills one in hours.
FILE_SECONDS = 600


@dg.asset(
    partitions_def=SOURCES,
    deps=[document_chunks],
    kinds={"python", "parquet"},
    code_version="1",
    pool="embedder",
    **COMMON,
)
def chunk_embeddings(
    context: dg.AssetExecutionContext,
    postgres: PostgresResource,
    storage: StorageResource,
    embedder: EmbedderResource,
) -> dg.MaterializeResult:
    """Dense, sparse and multi-vectors of each distinct chunk text, embedded once a model; append-only Parquet files.

    A text that the model cannot take is recorded as failed with the reason; the others go on.
    """
    return run_stage(
        context,
        postgres,
        lambda stage: embed_texts(
            stage, storage.open(), embedder.open(), embedder.target(stage.part), storage.precision
        ),
        lambda connection, sources: _idle(
            connection, sources, storage.open(), embedder, context.log
        ),
    )


def _idle(
    connection: Connection,
    sources: Mapping[str, SourceRow],
    files: FileStore,
    embedder: EmbedderResource,
    log: dg.DagsterLogManager,
) -> dict[str, Outcome]:
    if not sources:
        return {}
    target = embedder.target(SyncScope(next(iter(sources.values())).id))
    ids = {key: source.id for key, source in sources.items()}
    found = idle_embeddings(connection, ids, target)
    if found:
        sweep(connection, files, log, target.model)
    return {
        key: Outcome(Plan(kept=total), total, metadata=_metadata(target, _Work(), 0, 0))
        for key, (total,) in found.items()
    }


def _metadata(target: Target, work: "_Work", written: int, lost: int) -> dict[str, Any]:
    return {
        "model_fingerprint": target.model,
        "kinds": ", ".join(target.kinds),
        **work.metadata(),
        "bytes_written": written,
        "files_lost": lost,
    }


@dataclass
class _OpenFile:
    """Embeddings on their way into one file."""

    tables: list[pa.Table] = field(default_factory=list)
    text_hashes: list[str] = field(default_factory=list)
    bytes: int = 0
    begun: float = field(default_factory=time.monotonic)

    @property
    def is_due(self) -> bool:
        return self.bytes >= FILE_BYTES or time.monotonic() - self.begun >= FILE_SECONDS

    def statistics(self) -> TermStatistics:
        columns = [table["sparse_indices"].combine_chunks().flatten() for table in self.tables]
        return TermStatistics.of(len(self.text_hashes), np.concatenate(columns))


@dataclass
class _Work:
    """What the embedder did, as numbers, which Dagster charts over the runs."""

    tokens: int = 0
    truncated: int = 0
    padding: int = 0
    seconds: float = 0.0

    def add(self, vectors: Embeddings, seconds: float) -> None:
        self.tokens += vectors.tokens
        self.truncated += vectors.truncated
        self.padding += vectors.padding
        self.seconds += seconds

    def metadata(self) -> dict[str, Any]:
        found: dict[str, Any] = {"tokens": self.tokens, "truncated": self.truncated}
        if self.tokens:  # a run with nothing to embed is no slow one
            found["tokens_per_second"] = round(self.tokens / self.seconds)
            found["padding_share"] = round(self.padding / (self.tokens + self.padding), 4)
        return found


def embed_texts(
    stage: Stage,
    files: FileStore,
    model: Embedder,
    target: Target,
    precision: str,
    among: LiteralString = DIRTY,
) -> Outcome:
    lost = _forget_lost_files(stage, files, target)
    plan, work, written = Plan(), _Work(), 0
    pending = _OpenFile()
    batches = plan_embedding(stage.writer, target, batch_chars=CALL_CHARS, among=among)
    for batch in range(batches):
        todo = batch_to_embed(stage.connection, batch)
        started = time.monotonic()
        try:
            vectors = _embed(model, [text for _, text in todo], target.kinds)
        except RagError:
            if pending.tables:  # what was embedded so far was paid for
                _close(stage, files, model, target, pending)
            raise
        work.add(vectors, time.monotonic() - started)
        failures = {todo[index][0]: reason for index, reason in vectors.failures.items()}
        if failures:
            with stage.writer.transaction() as connection:
                record_failures(connection, stage.source.id, failures)
        table = to_table([text_hash for text_hash, _ in todo], vectors, precision=precision)
        if failures:
            table = table.filter(pa.array([text_hash not in failures for text_hash, _ in todo]))
        if len(table):
            pending.tables.append(table)
            pending.text_hashes += table["text_hash"].to_pylist()
            pending.bytes += table.nbytes
        fault_point("texts-embedded")
        plan.failed += len(failures)
        plan.inserted += len(table)
        if pending.tables and (pending.is_due or batch == batches - 1):
            written += _close(stage, files, model, target, pending)
            pending = _OpenFile()
        stage.progress(batch + 1, batches)
    if pending.tables:
        written += _close(stage, files, model, target, pending)
    sweep(stage.connection, files, stage.log, target.model)
    total = count_texts(stage.connection, stage.part)
    plan.kept = total - plan.inserted - plan.failed
    return Outcome(
        plan,
        total,
        columns=[("text_hash", "string"), *((kind, "float vector") for kind in target.kinds)],
        metadata=_metadata(target, work, written, lost),
    )


def _embed(model: Embedder, texts: list[str], kinds: tuple[Kind, ...]) -> Embeddings:
    """Embeds, and holds the embedder to its interface: a user's own may be wrong."""
    vectors = model.embed(texts, kinds)
    wanted: dict[Kind, object] = {
        "dense": (len(texts), model.dimension),
        "sparse": len(texts),
        "multi": (len(texts), model.token_dimension),
    }
    problems: list[str] = []
    for kind in kinds:
        value: np.ndarray | Sparse | Multi | None = getattr(vectors, kind)
        found: object = None
        if isinstance(value, np.ndarray):
            found = value.shape
        elif isinstance(value, Sparse):
            found = len(value)
        elif isinstance(value, Multi):
            found = (
                len(value),
                value.vectors.shape[1] if value.vectors.size else model.token_dimension,
            )
        if found != wanted[kind]:
            problems.append(f"{kind}: expected shape {wanted[kind]}, found {found}")
    if problems:
        raise ConfigError("The embedder returned wrong shapes:\n  " + "\n  ".join(problems))
    return vectors


def _close(
    stage: Stage, files: FileStore, model: Embedder, target: Target, pending: _OpenFile
) -> int:
    """Writes the file, then records it. A file that was not recorded is nobody's, and is swept up later."""
    file = write_tables(files, target.model, pending.tables)
    fault_point("file-in-place")
    with stage.writer.transaction() as connection:
        record_file(connection, target.model, target.kinds, file, pending.text_hashes)
        if "sparse" in target.kinds and isinstance(model, WeighsQueries):
            add_statistics(connection, target.model, stage.source.id, pending.statistics())
    fault_point("file-recorded")
    return file.byte_count


def _forget_lost_files(stage: Stage, files: FileStore, target: Target) -> int:
    """Recorded files that are about to be read but are gone or cut short: their texts are embedded again."""
    lost = [
        (file_id, path)
        for file_id, path, size in files_of_pending(stage.connection, target)
        if files.size(path) != size
    ]
    for file_id, path in lost:
        stage.log.warning(f"{path} is gone or damaged; its texts are embedded again")
        with stage.writer.transaction() as connection:
            forget_file(connection, file_id)
    return len(lost)
