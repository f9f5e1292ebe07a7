"""Stage chunk_embeddings: each distinct text embedded once a model, into append-only Parquet files."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from rag_assets.consistency.model_identity import require_same_model
from rag_assets.ingestion.garbage import sweep
from rag_assets.ingestion.stage import Outcome, Stage
from rag_assets.pipeline.identity import model_name
from rag_assets.pipeline.plan import Plan
from rag_assets.pipeline.term_statistics import TermStatistics, WeighsQueries
from rag_assets.pipeline.vectors import Embedder, Embeddings
from resources.arrow_arrays import to_numpy, truths
from resources.embedders.checked import CheckedEmbedder
from resources.embedding_files import FILE_BYTES, to_table, write_tables
from resources.fault_injection import fault_point
from resources.files import FileStore
from resources.postgres.connection import Connection
from resources.postgres.documents.documents import failed_documents
from resources.postgres.idle_sources import idle_embeddings
from resources.postgres.registry.sources import SourceRow
from resources.postgres.scope import SyncScope
from resources.postgres.vectors.embeddings import (
    batch_to_embed,
    count_texts,
    files_of_pending,
    forget_file,
    plan_embedding,
    record_file,
)
from resources.postgres.vectors.rejections import (
    count_rejected_texts,
    mark_rejected_chunks,
    mark_unembedded_documents,
    record_rejections,
)
from resources.postgres.vectors.target import Target
from resources.postgres.vectors.term_statistics import add_statistics
from resources.vector_stores import ModelTarget

#: Characters per call of an embedder that states no `call_chars`: some hundred chunks, enough to sort by length and
#: fill batches.
CALL_CHARS = 500_000
#: Seconds after which a file is closed, however small: a model on a CPU needs hours to fill one.
FILE_SECONDS = 600
#: Documents that could not be embedded, shown in the metadata of a run.
SHOWN_FAILURES = 100


def find_idle_embeddings(
    connection: Connection,
    sources: Mapping[str, SourceRow],
    files: FileStore,
    model: ModelTarget,
    log: logging.Logger,
) -> dict[str, Outcome]:
    """Return the outcomes of sources without a text to embed, and sweep the files that no one recorded."""
    if not sources:
        return {}
    target = model.target(SyncScope(next(iter(sources.values())).id))
    ids = {key: source.id for key, source in sources.items()}
    counts = idle_embeddings(connection, ids, target)
    if counts:
        sweep(connection, files, log, target.model)
    return {
        key: Outcome(Plan(kept=total), total, metadata=_metadata(target, _Work(), 0, 0))
        for key, total in counts.items()
    }


def _metadata(target: Target, work: _Work, bytes_written: int, files_lost: int) -> dict[str, Any]:
    return {
        "model_fingerprint": target.model,
        "kinds": ", ".join(target.kinds),
        **work.metadata(),
        "bytes_written": bytes_written,
        "files_lost": files_lost,
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
        columns = [
            to_numpy(table["sparse_indices"].combine_chunks().flatten()) for table in self.tables
        ]
        return TermStatistics.of(len(self.text_hashes), np.concatenate(columns))


@dataclass
class _Work:
    """The embedder's work in numbers, which Dagster charts over the runs."""

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
        values: dict[str, Any] = {"tokens": self.tokens, "truncated": self.truncated}
        # A run with nothing to embed must not show as a slow one.
        if self.tokens:
            values["tokens_per_second"] = round(self.tokens / self.seconds)
            values["padding_share"] = round(self.padding / (self.tokens + self.padding), 4)
        return values


def embed_texts(
    stage: Stage,
    files: FileStore,
    model: Embedder,
    target: Target,
    precision: str,
    *,
    all_documents: bool = False,
) -> Outcome:
    """Embed each distinct text of the source that has no embedding, and record the files.

    A text that cannot be embedded is recorded as failed with the reason, and not tried again by this model; the others
    go on. Raises OtherModel, before anything is embedded, if the model is not the one that made the stored vectors.
    `all_documents`: see `plan_embedding`.
    """
    lost = _forget_lost_files(stage, files, target)
    plan, work, bytes_written = Plan(), _Work(), 0
    pending = _OpenFile()
    with stage.writer.transaction() as connection:
        mark_rejected_chunks(connection, target)
    batches = plan_embedding(
        stage.writer,
        target,
        batch_chars=getattr(model, "call_chars", None) or CALL_CHARS,
        all_documents=all_documents,
    )
    checked = CheckedEmbedder(model)
    if batches:
        checked.harmless = require_same_model(stage.writer, files, ModelTarget(model, target.kinds))
    for batch in range(batches):
        texts = batch_to_embed(stage.connection, batch)
        started = time.monotonic()
        try:
            vectors = checked.embed([text for _, text in texts], target.kinds)
        # A user's embedder may raise anything, and a user may interrupt it. The embeddings made so far were paid for:
        # keep them.
        except BaseException:
            if pending.tables:
                _close(stage, files, model, target, pending)
            raise
        work.add(vectors, time.monotonic() - started)
        failures = {texts[index][0]: reason for index, reason in vectors.failures.items()}
        if failures:
            with stage.writer.transaction() as connection:
                record_rejections(connection, target, failures)
        table = to_table([text_hash for text_hash, _ in texts], vectors, precision=precision)
        if failures:
            table = table.filter(truths([text_hash not in failures for text_hash, _ in texts]))
        if len(table):
            pending.tables.append(table)
            pending.text_hashes += table["text_hash"].to_pylist()
            pending.bytes += table.nbytes
        fault_point("texts-embedded")
        plan.inserted += len(table)
        if pending.tables and (pending.is_due or batch == batches - 1):
            bytes_written += _close(stage, files, model, target, pending)
            pending = _OpenFile()
        stage.progress(batch + 1, batches)
    if pending.tables:
        bytes_written += _close(stage, files, model, target, pending)
    with stage.writer.transaction() as connection:
        mark_unembedded_documents(connection, target)
    sweep(stage.connection, files, stage.log, target.model)
    total = count_texts(stage.connection, stage.scope)
    plan.failed = count_rejected_texts(stage.connection, target)
    plan.kept = total - plan.inserted - plan.failed
    return Outcome(
        plan,
        total,
        columns=[("text_hash", "string"), *((kind, "float vector") for kind in target.kinds)],
        metadata=_metadata(target, work, bytes_written, lost),
        tables=_failures(stage) if plan.failed else {},
    )


def _failures(stage: Stage) -> dict[str, list[dict[str, str]]]:
    documents = failed_documents(
        stage.connection, [stage.source.id], step="embed", limit=SHOWN_FAILURES
    )
    rows = [{"key": document.key, "reason": document.reason} for document in documents]
    return {"documents_not_embedded": rows} if rows else {}


def _close(
    stage: Stage, files: FileStore, model: Embedder, target: Target, pending: _OpenFile
) -> int:
    """Write the file, then record it. Returns its bytes. A file that a crash left unrecorded is swept later."""
    file = write_tables(files, target.model, pending.tables, model_name(model.identity))
    fault_point("file-in-place")
    with stage.writer.transaction() as connection:
        record_file(connection, target.model, target.kinds, file, pending.text_hashes)
        if "sparse" in target.kinds and isinstance(model, WeighsQueries):
            add_statistics(connection, target.model, stage.source.id, pending.statistics())
    fault_point("file-recorded")
    return file.byte_count


def _forget_lost_files(stage: Stage, files: FileStore, target: Target) -> int:
    """Forget recorded files that pending chunks need but that are gone or cut short, so that their texts are embedded
    again. Returns their number."""
    lost = [
        file
        for file in files_of_pending(stage.connection, target)
        if files.size(file.path) != file.byte_count
    ]
    for file in lost:
        stage.log.warning(f"{file.path} is gone or damaged; its texts are embedded again")
        with stage.writer.transaction() as connection:
            forget_file(connection, file.id)
    return len(lost)
