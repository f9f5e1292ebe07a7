"""Findings inside PostgreSQL: about documents, chunks and the outbox, and about their embeddings in Parquet."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from rag_assets.consistency.finding import Finding, conclude
from resources.embedding_files import damaged
from resources.files import FileStore
from resources.partition_keys import partition_key
from resources.postgres.connection import Connection
from resources.postgres.consistency import table_checks
from resources.postgres.consistency.check_results import Inconsistency
from resources.postgres.consistency.table_checks import ChunkProblem, StatusProblem, WrongStatus
from resources.postgres.registry.sources import SourceRow
from resources.postgres.scope import SyncScope
from resources.postgres.vectors.embeddings import chunks_without_embedding, files_of_source
from resources.vector_stores import ModelTarget

DOCUMENTS_FACT = (
    "Every chunk belongs to a document of its own source, and its parent to the same document."
)
POSITIONS_FACT = "Each document's chunk_count is right, and its chunks have the positions 0, 1, 2 … without a gap."
STATUSES_FACT = (
    "The statuses of documents, chunks and vector ids match, and nothing is left in progress."
)

_CHUNK_REASONS: Mapping[ChunkProblem, str] = {
    "no_document": "no such document",
    "other_source": "another source than its document",
    "parent_in_other_document": "its parent belongs to another document",
}
_STATUS_REASONS: Mapping[StatusProblem, str] = {
    "left_in_progress": "in progress, but no run is writing this source",
    "not_chunked": "not chunked yet",
    "not_indexed": "not indexed yet",
    "incomplete_chunks": "indexed, but only {completed} of {chunks} chunks are completed",
    "missing_vector_ids": "{without_id} completed chunks lack their vector id",
    "no_chunks": "indexed, but without chunks",
    "failed_but_complete": "indexing failed, but every chunk is completed",
}

T = TypeVar("T")


def chunks_have_documents(connection: Connection, source: SourceRow) -> Finding:
    exceptions = _read_twice(lambda: table_checks.chunks_without_document(connection, source.id))
    orphaned = any(item.problem == "no_document" for item in exceptions)
    return _table_finding(
        connection,
        source,
        DOCUMENTS_FACT,
        key=[f"{item.problem} {item.chunk}" for item in exceptions],
        inconsistency="orphaned_chunks" if orphaned else "status_mismatches",
        columns=("chunk", "document", "reason"),
        rows=[(item.chunk, item.document, _CHUNK_REASONS[item.problem]) for item in exceptions],
    )


def chunk_positions_are_contiguous(connection: Connection, source: SourceRow) -> Finding:
    exceptions = _read_twice(lambda: table_checks.wrong_positions(connection, source.id))
    rows = [
        (
            item.document,
            item.chunk_count,
            item.chunks,
            item.distinct_positions,
            item.last_position,
        )
        for item in exceptions
    ]
    return _table_finding(
        connection,
        source,
        POSITIONS_FACT,
        key=[" ".join(map(str, row)) for row in rows],
        inconsistency="status_mismatches",
        columns=("document", "chunk_count", "chunks", "distinct_positions", "last_position"),
        rows=rows,
    )


def statuses_agree(connection: Connection, source: SourceRow, kinds: Sequence[str]) -> Finding:
    """`kinds`: the kinds of vectors that are kept."""
    partition = partition_key(source.name)
    exceptions = _read_twice(
        lambda: table_checks.wrong_statuses(connection, source.id, partition, kinds)
    )
    only_ids = all(item.problem == "missing_vector_ids" for item in exceptions)
    reasons = [
        _STATUS_REASONS[item.problem].format(
            completed=item.completed, chunks=item.chunks, without_id=item.without_id
        )
        for item in exceptions
    ]
    return _table_finding(
        connection,
        source,
        STATUSES_FACT,
        key=map(_status_key, exceptions),
        inconsistency="missing_vectors" if only_ids else "status_mismatches",
        columns=("document", "processing", "indexing", "reason"),
        rows=[
            (item.document, item.processing, item.indexing, reason)
            for item, reason in zip(exceptions, reasons)
        ],
    )


def _status_key(item: WrongStatus) -> str:
    facts = [item.problem, item.document, item.processing, item.indexing]
    # Counts of work in progress change with each attempt, so they do not identify it.
    if item.problem in ("incomplete_chunks", "missing_vector_ids"):
        facts += [str(item.completed), str(item.chunks), str(item.without_id)]
    return " ".join(facts)


def deleted_chunks_have_left_milvus(
    connection: Connection, source: SourceRow, outbox_seconds: float
) -> Finding:
    """Deletions of removed sources are reported for every source: they have no partition of their own."""
    waiting = table_checks.waiting_by_kind(connection, source.id, outbox_seconds)
    overdue = [number for item in waiting for number in item.overdue]
    return conclude(
        "failed" if overdue else "passed",
        f"{source.name}: {sum(item.waiting for item in waiting)} deletions wait in the outbox, "
        f"{len(overdue)} of them longer than {outbox_seconds:g} s.",
        source=source.name,
        key=map(str, overdue),
        inconsistency="orphaned_chunks",
        columns=("source", "kind", "waiting", "overdue", "oldest"),
        rows=[
            (item.source, item.kind, item.waiting, len(item.overdue), item.oldest)
            for item in waiting
        ],
        metadata={"waiting": sum(item.waiting for item in waiting), "overdue": len(overdue)},
    )


def chunk_embeddings_are_in_parquet(
    connection: Connection, source: SourceRow, files: FileStore, model: ModelTarget
) -> Finding:
    """Read each embedding file of the source whole, and find completed chunks without an embedding."""
    target = model.target(SyncScope(source.id))
    recorded = files_of_source(connection, target)
    lacking = chunks_without_embedding(connection, target)
    size = sum(file.written.byte_count for file in recorded)
    wrong = damaged(files, recorded)
    return conclude(
        "failed" if wrong or lacking else "passed",
        f"{source.name}: {len(wrong)} of {len(recorded)} files ({size / 1e6:.1f} MB read) are gone or damaged; "
        f"{len(lacking)} completed chunks have no embedding under {target.model}.",
        source=source.name,
        key=[
            *(f"file {file.written.path}" for file, _ in wrong),
            *(f"chunk {chunk}" for _, _, chunk in lacking),
        ],
        inconsistency="missing_vectors",
        columns=("what", "which", "reason"),
        rows=[
            *(("file", file.written.path, reason) for file, reason in wrong),
            *(("chunk", chunk, f"of {key}: no embedding") for _, key, chunk in lacking),
        ],
        metadata={
            "files": len(recorded),
            "bytes": size,
            "damaged": len(wrong),
            "without_embedding": len(lacking),
        },
    )


def _read_twice(read: Callable[[], list[T]]) -> list[T]:
    """Return the exceptions. If there are some, read again: a run may have ended between the rows and its lock."""
    return read() and read()


def _table_finding(
    connection: Connection,
    source: SourceRow,
    fact: str,
    *,
    key: Iterable[str],
    inconsistency: Inconsistency,
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
) -> Finding:
    counts = table_checks.source_counts(connection, source.id, partition_key(source.name))
    looked_at = f"{counts.documents} documents with {counts.chunks} chunks" + (
        ", while a run is writing them" if counts.is_written else ""
    )
    if not rows:
        sentence = f"{source.name}: no exception among {looked_at}. {fact}"
    else:
        first = ", ".join(f"{column} {value}" for column, value in zip(columns, rows[0]))
        sentence = f"{source.name}: {len(rows)} exceptions among {looked_at}; the first: {first}."
    return conclude(
        "failed" if rows else "passed",
        sentence,
        source=source.name,
        key=key,
        inconsistency=inconsistency,
        columns=columns,
        rows=rows,
        metadata={
            "exceptions": len(rows),
            "documents": counts.documents,
            "chunks": counts.chunks,
        },
    )
