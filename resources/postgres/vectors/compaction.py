"""The small and the mostly dead embedding files, and their rows' new places: `embedding_files` and `embeddings`.

Nothing here reads or writes files. A row is moved only from the place that it was copied from; a row that another
writer has moved or dropped since stays as that writer left it.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import psycopg
from numpy.typing import NDArray

from resources.errors import StoreUnavailable
from resources.files import WrittenFile
from resources.postgres.connection import Connection, Writer
from resources.postgres.queries import fetch_all, fetch_one, scalar
from resources.postgres.vectors.embeddings import (
    EMBEDDING_FILE_COLUMNS,
    EmbeddingFile,
    FileRecord,
    add_file,
    embedding_file,
)
from resources.postgres.work_table import fill_work_table

#: The partition that is locked while files are rewritten, and while `rag forget` searches them. No source can have this
#: name.
COMPACTION = "maintenance/compaction"
#: Seconds to wait for transactions that write chunks. The next writers of chunks wait behind this one as long.
_PATIENCE = 5


@dataclass(frozen=True, slots=True)
class Totals:
    """Totals of the files in use. `live`: rows that are the embedding of a text that a chunk has, or lately had."""

    files: int
    bytes: int
    rows: int
    live: int

    @property
    def live_share(self) -> float:
        return round(self.live / self.rows, 4) if self.rows else 1.0


@dataclass(frozen=True, slots=True)
class Candidate:
    """A file to rewrite. `dead`: its recorded embeddings of texts that no chunk has, nor had within a month."""

    file: EmbeddingFile
    model: str
    live: int
    dead: int

    @property
    def mostly_dead(self) -> bool:
        return self.live * 2 < self.file.row_count


class CompactionPlan(NamedTuple):
    """Numbers of files, before and after; their bytes, all and live ones; dead embeddings."""

    files: int
    files_after: int
    bytes: int
    live_bytes: int
    dead: int


def count_live(connection: Connection) -> Totals:
    """Count the rows of every file in use, in `pg_temp.file_counts`: one pass over embeddings and chunks."""
    connection.execute("DROP TABLE IF EXISTS pg_temp.file_counts")
    connection.execute(
        """CREATE TEMPORARY TABLE file_counts AS
           SELECT f.id, f.model_fingerprint, f.kinds, f.created_at, f.byte_count, f.row_count,
             coalesce(n.live, 0) AS live, coalesce(n.recorded - n.live, 0) AS dead,
             (f.byte_count * coalesce(n.live, 0) / f.row_count)::bigint AS live_bytes
           FROM embedding_files f LEFT JOIN (
             SELECT e.file_id, count(*) AS recorded, count(c.text_hash) AS live
             FROM embeddings e LEFT JOIN (SELECT DISTINCT text_hash FROM wanted_texts) AS c USING (text_hash)
             GROUP BY e.file_id) AS n ON n.file_id = f.id
           WHERE f.retired_at IS NULL"""
    )
    return fetch_one(
        connection,
        Totals,
        """SELECT count(*) AS files, coalesce(sum(byte_count), 0)::bigint AS bytes,
             coalesce(sum(row_count), 0)::bigint AS rows, coalesce(sum(live), 0)::bigint AS live
           FROM pg_temp.file_counts""",
    )


def plan_compaction(connection: Connection, *, target_bytes: int) -> int:
    """Fill the work table with the files to rewrite, after `count_live`. Returns the number of batches: new files.

    Small is less than half of `target_bytes`: two small files together are not larger than one file. Small files are
    merged in the order in which they were written; a large one that is mostly dead is a batch alone. A file without a
    live row is not rewritten, and a single small file is not merged with one.
    """
    return fill_work_table(
        connection,
        """SELECT id, live, dead, live_bytes, byte_count, made,
             dense_rank() OVER (ORDER BY model_fingerprint, kinds, sort, slot) - 1 AS batch
           FROM (
             SELECT *, count(*) OVER shared AS together, bool_or(mostly_dead) OVER shared AS worth_it
             FROM (
               SELECT *, row_number() OVER (ORDER BY created_at, id) AS made,
                 CASE WHEN sort = 'large' THEN row_number() OVER alike
                   ELSE (sum(weight) OVER alike - weight)::bigint / %(target)s END AS slot
               FROM (
                 SELECT *, live * 2 < row_count AS mostly_dead,
                   CASE WHEN live = 0 THEN 'dead' WHEN live_bytes * 2 < %(target)s THEN 'small' ELSE 'large'
                     END AS sort,
                   CASE WHEN live = 0 THEN byte_count ELSE live_bytes END AS weight
                 FROM pg_temp.file_counts) AS files
               WHERE sort <> 'large' OR mostly_dead
               WINDOW alike AS (PARTITION BY model_fingerprint, kinds, sort ORDER BY created_at, id)) AS chosen
             WINDOW shared AS (PARTITION BY model_fingerprint, kinds, sort, slot)) AS batches
           WHERE together > 1 OR worth_it""",
        {"target": target_bytes},
    )


def planned(connection: Connection) -> CompactionPlan:
    """Sum up the work table."""
    return fetch_one(
        connection,
        CompactionPlan,
        """SELECT count(*) AS files, count(DISTINCT batch) FILTER (WHERE live > 0) AS files_after,
             coalesce(sum(byte_count), 0)::bigint AS bytes, coalesce(sum(live_bytes), 0)::bigint AS live_bytes,
             coalesce(sum(dead), 0)::bigint AS dead
           FROM pg_temp.todo""",
    )


def candidates(connection: Connection, batch: int) -> list[Candidate]:
    """Return the files of a batch, oldest first."""

    def candidate(*, model: str, live: int, dead: int, **file: Any) -> Candidate:
        return Candidate(embedding_file(**file), model, live, dead)

    return fetch_all(
        connection,
        candidate,
        f"""SELECT {EMBEDDING_FILE_COLUMNS}, f.model_fingerprint AS model, t.live, t.dead
           FROM pg_temp.todo t JOIN embedding_files f USING (id) WHERE t.batch = %s ORDER BY t.made""",
        [batch],
    )


def drop_dead(writer: Writer, files: Sequence[uuid.UUID]) -> int:
    """Delete the records of embeddings in `files` whose text no chunk has, nor had within a month. Returns the number.

    The lock keeps chunks from being written: one that appeared between this query and its COMMIT would rely on an
    embedding that is gone.
    """
    with writer.transaction() as connection:
        connection.execute("SELECT set_config('lock_timeout', %s, true)", [f"{_PATIENCE}s"])
        try:
            connection.execute("LOCK TABLE document_chunks IN SHARE MODE")
        except psycopg.errors.LockNotAvailable as error:
            raise StoreUnavailable(
                f"A transaction has been writing chunks for more than {_PATIENCE} s. Try again: rag compact"
            ) from error
        return connection.execute(
            """DELETE FROM embeddings e WHERE e.file_id = ANY(%s)
               AND NOT EXISTS (SELECT FROM wanted_texts w WHERE w.text_hash = e.text_hash)""",
            [list(files)],
        ).rowcount


def plan_moves(connection: Connection, files: Sequence[uuid.UUID]) -> int:
    """Fill `pg_temp.moves` with the embeddings in `files` and their places in one new file. Returns their number."""
    connection.execute("DROP TABLE IF EXISTS pg_temp.moves")
    psycopg.ClientCursor(connection).execute(
        """CREATE TEMPORARY TABLE moves AS
           SELECT e.text_hash, e.file_id, e.row_index,
             (row_number() OVER (ORDER BY files.n, e.row_index) - 1)::int AS new_index
           FROM unnest(%s::uuid[]) WITH ORDINALITY AS files(file_id, n) JOIN embeddings e USING (file_id)""",
        [list(files)],
    )
    connection.execute("CREATE INDEX ON pg_temp.moves (file_id, row_index)")
    connection.execute("ANALYZE pg_temp.moves")
    return scalar(connection, "SELECT count(*) FROM pg_temp.moves")


def rows_to_move(connection: Connection, file: uuid.UUID) -> NDArray[np.int64]:
    """Return the rows of a file to copy, in order."""
    rows = connection.execute(
        "SELECT row_index FROM pg_temp.moves WHERE file_id = %s ORDER BY row_index", [file]
    )
    return np.fromiter((row for (row,) in rows), np.int64)


def record_moves(
    connection: Connection, candidate: Candidate, written: WrittenFile, rows: int
) -> None:
    """Record a file with `rows` copied rows, and the moves of `pg_temp.moves` to it."""
    file_id = add_file(connection, candidate.model, candidate.file.kinds, written, rows)
    # In the order of the key, like every writer of embeddings: two must not wait for each other in a circle.
    connection.execute(
        """SELECT count(*) FROM (
             SELECT FROM embeddings e JOIN pg_temp.moves m USING (text_hash) WHERE e.model_fingerprint = %s
             ORDER BY e.text_hash FOR UPDATE OF e) AS locked""",
        [candidate.model],
    )
    connection.execute(
        """UPDATE embeddings e SET file_id = %s, row_index = m.new_index FROM pg_temp.moves m
           WHERE e.model_fingerprint = %s AND e.text_hash = m.text_hash
             AND e.file_id = m.file_id AND e.row_index = m.row_index""",
        [file_id, candidate.model],
    )


def retire(connection: Connection, files: Sequence[uuid.UUID]) -> int:
    """Mark those of `files` that have no embedding any more. Returns their number."""
    return connection.execute(
        """UPDATE embedding_files f SET retired_at = now() WHERE f.id = ANY(%s) AND f.retired_at IS NULL
           AND NOT EXISTS (SELECT FROM embeddings e WHERE e.file_id = f.id)""",
        [list(files)],
    ).rowcount


def retired(connection: Connection, *, seconds: float) -> list[FileRecord]:
    """Return the files that were replaced at least `seconds` ago."""
    return fetch_all(
        connection,
        FileRecord,
        """SELECT id, path, byte_count, checksum FROM embedding_files
           WHERE retired_at <= now() - make_interval(secs => %s) ORDER BY path""",
        [seconds],
    )


def forget_retired(connection: Connection, files: Sequence[uuid.UUID]) -> None:
    connection.execute(
        "DELETE FROM embedding_files WHERE id = ANY(%s) AND retired_at IS NOT NULL", [list(files)]
    )
