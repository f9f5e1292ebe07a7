"""Compaction: copies the live rows of small and of mostly dead embedding files into files of one size. No model call.

Safe beside all other work. A new file is durable before PostgreSQL records it; one transaction moves to it the rows
that are still in the place that they were copied from; replaced files are kept for a day, for readers that looked up
one of their rows before. After a crash an unrecorded file remains (deleted a day later), and the next compaction
continues.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from rag_assets.ingestion.garbage import remove_retired
from resources.embedding_files import FILE_BYTES, damage, read_rows, write_tables
from resources.errors import StoreUnavailable
from resources.fault_injection import fault_point
from resources.files import FileStore
from resources.postgres.connection import Connection, Postgres, Writer
from resources.postgres.vectors.compaction import (
    COMPACTION,
    Candidate,
    candidates,
    count_live,
    drop_dead,
    plan_compaction,
    plan_moves,
    planned,
    record_moves,
    retire,
    retired,
    rows_to_move,
)


@dataclass
class Compaction:
    """The result of a compaction or, in a dry run, an estimate.

    `*_before` and `*_after` are totals of the files in use, `live_share` is the share of their rows whose text a chunk
    has. `*_waiting`: replaced files, which are deleted within a day.
    """

    dry_run: bool
    files_before: int
    bytes_before: int
    live_share_before: float
    files_compacted: int = 0
    files_written: int = 0
    bytes_written: int = 0
    texts_dropped: int = 0
    files_after: int = 0
    bytes_after: int = 0
    live_share: float = 1.0
    files_waiting: int = 0
    bytes_waiting: int = 0

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def compact(
    postgres: Postgres, files: FileStore, log: logging.Logger, *, dry_run: bool = False
) -> Compaction:
    """Compact until no batch remains: many tiny files may make another small one. A second call does nothing."""
    with postgres.connect(autocommit=True) as connection:
        totals = count_live(connection)
        report = Compaction(dry_run, totals.files, totals.bytes, totals.live_share)
        batches = plan_compaction(connection, target_bytes=FILE_BYTES)
        if dry_run:
            return _estimate(connection, report, batches)
        while _compact_batches(postgres, connection, files, log, batches, report):
            totals = count_live(connection)
            batches = plan_compaction(connection, target_bytes=FILE_BYTES)
        remove_retired(connection, files)
        report.files_after, report.bytes_after = totals.files, totals.bytes
        report.live_share = totals.live_share
        waiting = retired(connection, seconds=0)
        report.files_waiting = len(waiting)
        report.bytes_waiting = sum(file.byte_count for file in waiting)
        return report


def _estimate(connection: Connection, report: Compaction, batches: int) -> Compaction:
    report.files_after, report.bytes_after = report.files_before, report.bytes_before
    report.live_share = report.live_share_before
    if batches:
        plan = planned(connection)
        report.files_compacted, report.files_written = plan.files, plan.files_after
        report.bytes_written, report.texts_dropped = plan.live_bytes, plan.dead
        report.files_after += plan.files_after - plan.files
        report.bytes_after += plan.live_bytes - plan.bytes
    return report


def _compact_batches(
    postgres: Postgres,
    connection: Connection,
    files: FileStore,
    log: logging.Logger,
    batches: int,
    report: Compaction,
) -> bool:
    """Compact the batches. Returns whether any file was replaced.

    Releases the lock after each batch, so `rag forget` waits for one batch at most.
    """
    before = report.files_compacted
    for batch in range(batches):
        chosen = candidates(connection, batch)
        with postgres.writer(COMPACTION) as writer, _changed_files_as_unavailable():
            _retire_dead(writer, [candidate for candidate in chosen if not candidate.live], report)
            live = [candidate for candidate in chosen if candidate.live]
            for group in _undamaged_by_layout(files, log, live):
                if len(group) > 1 or group[0].mostly_dead:
                    _rewrite(writer, files, group, report)
        log.info(f"batch {batch + 1} of {batches}: {report.files_compacted} files compacted")
    return report.files_compacted > before


@contextmanager
def _changed_files_as_unavailable() -> Iterator[None]:
    """Raise StoreUnavailable if a file changed after its verification: a repair may delete a damaged file."""
    try:
        yield
    except (FileNotFoundError, pa.ArrowInvalid) as error:
        raise StoreUnavailable(f"An embedding file changed while it was copied: {error}") from error


def _undamaged_by_layout(
    files: FileStore, log: logging.Logger, chosen: Sequence[Candidate]
) -> list[list[Candidate]]:
    """Return the undamaged files, grouped by layout: float16 and float32 cannot share a file."""
    groups: dict[str, list[Candidate]] = defaultdict(list)
    for candidate in chosen:
        path = candidate.file.written.path
        if (reason := damage(files, candidate.file)) is not None:
            log.warning(f"{path}: {reason}; rag repair embeds its texts again")
            continue
        with pq.ParquetFile(files.open(path)) as parquet:
            # Without the metadata, which differs between versions of this project.
            layout = parquet.schema_arrow.remove_metadata().to_string()
            groups[layout].append(candidate)
    return list(groups.values())


def _retire_dead(writer: Writer, dead: Sequence[Candidate], report: Compaction) -> None:
    ids = [candidate.file.id for candidate in dead]
    if ids:
        report.texts_dropped += drop_dead(writer, ids)
        with writer.transaction() as connection:
            report.files_compacted += retire(connection, ids)


def _rewrite(
    writer: Writer, files: FileStore, group: Sequence[Candidate], report: Compaction
) -> None:
    """Copy the live rows of files of one layout into one new file, record it, and retire the old ones."""
    ids = [candidate.file.id for candidate in group]
    if any(candidate.dead for candidate in group):
        report.texts_dropped += drop_dead(writer, ids)
    rows = plan_moves(writer.connection, ids)
    written = None
    # Without rows, another writer has moved them all.
    if rows:
        written = write_tables(
            files, group[0].model, _rows_to_copy(writer.connection, files, group)
        )
        report.files_written += 1
        report.bytes_written += written.byte_count
    fault_point("compaction-written")
    with writer.transaction() as connection:
        if written is not None:
            record_moves(connection, group[0], written, rows)
        report.files_compacted += retire(connection, ids)


def _rows_to_copy(
    connection: Connection, files: FileStore, group: Sequence[Candidate]
) -> Iterator[pa.Table]:
    """Yield the rows of `pg_temp.moves` in the order of their new places, one row group in memory at a time."""
    for candidate in group:
        rows = rows_to_move(connection, candidate.file.id)
        yield from read_rows(files, candidate.file.written.path, rows)
