"""Compaction: the live rows of small and of mostly dead embedding files, copied into files of one size. No model call.

Safe beside everything else. A new file is durable before PostgreSQL knows it; one transaction moves the rows to it that
are still where they were copied from; what was replaced stays a day for readers that had looked up a row of it before.
Killed anywhere, what is left is a file that nobody recorded (swept up a day later), and the next compaction goes on.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    from dagster import DagsterLogManager

    Log = logging.Logger | DagsterLogManager


@dataclass
class Compaction:
    """What was compacted, or (a dry run) about what would be. `*_waiting`: replaced, and deleted within a day.

    Bytes and rows are of the files in use; the live share is that of rows whose text a chunk has.
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


def compact(postgres: Postgres, files: FileStore, log: Log, *, dry_run: bool = False) -> Compaction:
    """Compacts until nothing is left to: what many tiny files make may again be small. A second one does nothing."""
    with postgres.connect(autocommit=True) as connection:
        totals = count_live(connection)
        report = Compaction(dry_run, totals.files, totals.bytes, totals.live_share)
        batches = plan_compaction(connection, target_bytes=FILE_BYTES)
        if dry_run:
            return _expected(connection, report, batches)
        while _compact_batches(postgres, connection, files, log, batches, report):
            totals = count_live(connection)
            batches = plan_compaction(connection, target_bytes=FILE_BYTES)
        remove_retired(connection, files)
        report.files_after, report.bytes_after = totals.files, totals.bytes
        report.live_share = totals.live_share
        waiting = retired(connection, seconds=0)
        report.files_waiting, report.bytes_waiting = len(waiting), sum(row[2] for row in waiting)
        return report


def _expected(connection: Connection, report: Compaction, batches: int) -> Compaction:
    report.files_after, report.bytes_after = report.files_before, report.bytes_before
    report.live_share = report.live_share_before
    if batches:
        count, made, size, live, report.texts_dropped = planned(connection)
        report.files_compacted, report.files_written, report.bytes_written = count, made, live
        report.bytes_after += live - size
        report.files_after += made - count
    return report


def _compact_batches(
    postgres: Postgres,
    connection: Connection,
    files: FileStore,
    log: Log,
    batches: int,
    report: Compaction,
) -> bool:
    """Whether any file was replaced. The lock is given back after each batch: `rag forget` waits for one at most."""
    before = report.files_compacted
    for batch in range(batches):
        chosen = candidates(connection, batch)
        with postgres.writer(COMPACTION) as writer, _changed_meanwhile():
            _retire_dead(writer, [each for each in chosen if not each.live], report)
            for alike in _readable(files, log, [each for each in chosen if each.live]):
                if len(alike) > 1 or alike[0].mostly_dead:
                    _write_anew(writer, files, alike, report)
        log.info(f"batch {batch + 1} of {batches}: {report.files_compacted} files compacted")
    return report.files_compacted > before


@contextmanager
def _changed_meanwhile() -> Iterator[None]:
    """A repair may delete a file that it found damaged, after it was found whole here."""
    try:
        yield
    except (FileNotFoundError, pa.ArrowInvalid) as error:
        raise StoreUnavailable(f"An embedding file changed while it was copied: {error}") from error


def _readable(files: FileStore, log: Log, chosen: Sequence[Candidate]) -> list[list[Candidate]]:
    """Whole files only, those of one layout together: float16 and float32 do not go into one file."""
    alike: dict[str, list[Candidate]] = defaultdict(list)
    for each in chosen:
        if (reason := damage(files, each.file)) is not None:
            log.warning(f"{each.file.written.path}: {reason}; rag repair embeds its texts again")
            continue
        with pq.ParquetFile(files.open(each.file.written.path)) as opened:
            alike[opened.schema_arrow.to_string()].append(each)
    return list(alike.values())


def _retire_dead(writer: Writer, dead: Sequence[Candidate], report: Compaction) -> None:
    ids = [each.file.id for each in dead]
    if ids:
        report.texts_dropped += drop_dead(writer, ids)
        with writer.transaction() as connection:
            report.files_compacted += retire(connection, ids)


def _write_anew(
    writer: Writer, files: FileStore, alike: Sequence[Candidate], report: Compaction
) -> None:
    """Copies what is live of files of one layout into one, records it, and retires them."""
    ids = [each.file.id for each in alike]
    if any(each.dead for each in alike):
        report.texts_dropped += drop_dead(writer, ids)
    rows = plan_moves(writer.connection, ids)
    written = None
    if rows:  # else another writer has moved them all
        written = write_tables(files, alike[0].model, _copied(writer.connection, files, alike))
        report.files_written += 1
        report.bytes_written += written.byte_count
    fault_point("compaction-written")
    with writer.transaction() as connection:
        if written is not None:
            record_moves(connection, alike[0], written, rows)
        report.files_compacted += retire(connection, ids)


def _copied(
    connection: Connection, files: FileStore, alike: Sequence[Candidate]
) -> Iterator[pa.Table]:
    """The rows of `pg_temp.moves` in the order of their new places, a row group in memory."""
    for each in alike:
        yield from read_rows(files, each.file.written.path, rows_to_move(connection, each.file.id))
