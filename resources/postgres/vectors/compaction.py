"""Which embedding files are small or mostly dead, and how their rows get new places: `embedding_files`, `embeddings`.

Nothing here reads or writes files. A row is moved only from where it was when it was copied; what another writer moved
or dropped meanwhile is left as that writer left it.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import psycopg
from numpy.typing import NDArray

from resources.errors import StoreUnavailable
from resources.files import WrittenFile
from resources.postgres.connection import Connection, Writer
from resources.postgres.vectors.embeddings import EmbeddingFile, add_file
from resources.postgres.work_table import fill_work_table

#: Held while files are written anew, and by `rag forget` while it looks for what they must not hold. No partition of a
#: source can have this name.
COMPACTION = "maintenance/compaction"
#: Seconds in which chunks that are being written must be done; whoever writes chunks next waits as long.
_PATIENCE = 5


@dataclass(frozen=True, slots=True)
class Totals:
    """`rows`: of the files; `live`: those that are the embedding of a text that a chunk has, or lately had."""

    files: int
    bytes: int
    rows: int
    live: int

    @property
    def live_share(self) -> float:
        return round(self.live / self.rows, 4) if self.rows else 1.0


@dataclass(frozen=True, slots=True)
class Candidate:
    """A file to write anew. `dead`: recorded embeddings of texts that no chunk has, nor had within a month."""

    file: EmbeddingFile
    model: str
    live: int
    dead: int

    @property
    def mostly_dead(self) -> bool:
        return self.live * 2 < self.file.row_count


def count_live(connection: Connection) -> Totals:
    """Counts the rows of every file in use, in `pg_temp.file_counts`: one pass over embeddings and chunks."""
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
    row = connection.execute(
        """SELECT count(*), coalesce(sum(byte_count), 0)::bigint, coalesce(sum(row_count), 0)::bigint,
             coalesce(sum(live), 0)::bigint FROM pg_temp.file_counts"""
    ).fetchone()
    assert row is not None
    return Totals(*row)


def plan_compaction(connection: Connection, *, target_bytes: int) -> int:
    """Leaves the files to write anew in `pg_temp.todo`, after `count_live`. Returns the batches: a batch is one file.

    Small is less than half of `target_bytes`: what two small files make is not larger than one. Small files are put
    together in the order they were written; one that is mostly dead and still large is a batch of its own. What is
    wholly dead is not written anew, and is no company for a single small file.
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


def planned(connection: Connection) -> tuple[int, int, int, int, int]:
    """(files, files that they become, their bytes, what of these is live, dead embeddings) of the plan."""
    row = connection.execute(
        """SELECT count(*), count(DISTINCT batch) FILTER (WHERE live > 0), coalesce(sum(byte_count), 0)::bigint,
             coalesce(sum(live_bytes), 0)::bigint, coalesce(sum(dead), 0)::bigint FROM pg_temp.todo"""
    ).fetchone()
    assert row is not None
    return row


def candidates(connection: Connection, batch: int) -> list[Candidate]:
    """The files of a batch, oldest first."""
    rows = connection.execute(
        """SELECT f.id, f.path, f.byte_count, f.checksum, f.row_count, f.kinds, f.model_fingerprint, t.live, t.dead
           FROM pg_temp.todo t JOIN embedding_files f USING (id) WHERE t.batch = %s ORDER BY t.made""",
        [batch],
    ).fetchall()
    return [
        Candidate(
            EmbeddingFile(file_id, WrittenFile(path, size, checksum), count, tuple(kinds)),
            model,
            live,
            dead,
        )
        for file_id, path, size, checksum, count, kinds, model, live, dead in rows
    ]


def drop_dead(writer: Writer, files: Sequence[uuid.UUID]) -> int:
    """Forgets the embeddings in `files` of texts that no chunk has, nor had within a month. Returns how many.

    Chunks are not written meanwhile: one that appeared between this look and its COMMIT would have counted on an
    embedding that is gone.
    """
    with writer.transaction() as connection:
        connection.execute("SELECT set_config('lock_timeout', %s, true)", [f"{_PATIENCE}s"])
        try:
            connection.execute("LOCK TABLE document_chunks IN SHARE MODE")
        except psycopg.errors.LockNotAvailable as error:
            raise StoreUnavailable(
                f"Chunks have been written in one transaction for more than {_PATIENCE} s. Try again: rag compact"
            ) from error
        return connection.execute(
            """DELETE FROM embeddings e WHERE e.file_id = ANY(%s)
               AND NOT EXISTS (SELECT FROM wanted_texts w WHERE w.text_hash = e.text_hash)""",
            [list(files)],
        ).rowcount


def plan_moves(connection: Connection, files: Sequence[uuid.UUID]) -> int:
    """Leaves the rows of `files` that are embeddings, and their places in one new file, in `pg_temp.moves`."""
    connection.execute("DROP TABLE IF EXISTS pg_temp.moves")
    psycopg.ClientCursor(connection).execute(
        """CREATE TEMPORARY TABLE moves AS
           SELECT e.text_hash, e.file_id, e.row_index,
             (row_number() OVER (ORDER BY given.n, e.row_index) - 1)::int AS new_index
           FROM unnest(%s::uuid[]) WITH ORDINALITY AS given(file_id, n) JOIN embeddings e USING (file_id)""",
        [list(files)],
    )
    connection.execute("CREATE INDEX ON pg_temp.moves (file_id, row_index)")
    connection.execute("ANALYZE pg_temp.moves")
    row = connection.execute("SELECT count(*) FROM pg_temp.moves").fetchone()
    assert row is not None
    return row[0]


def rows_to_move(connection: Connection, file: uuid.UUID) -> NDArray[np.int64]:
    """The rows of a file that are to be copied, in order."""
    rows = connection.execute(
        "SELECT row_index FROM pg_temp.moves WHERE file_id = %s ORDER BY row_index", [file]
    )
    return np.fromiter((row for (row,) in rows), np.int64)


def record_moves(
    connection: Connection, candidate: Candidate, written: WrittenFile, rows: int
) -> None:
    """Records a file of so many copied rows, and that what `pg_temp.moves` says is there now."""
    file_id = add_file(connection, candidate.model, candidate.file.kinds, written, rows)
    # In the order of the key, as every writer of embeddings: two must not wait for each other in a circle.
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
    """Marks those of `files` that hold no embedding any more. Returns how many."""
    return connection.execute(
        """UPDATE embedding_files f SET retired_at = now() WHERE f.id = ANY(%s) AND f.retired_at IS NULL
           AND NOT EXISTS (SELECT FROM embeddings e WHERE e.file_id = f.id)""",
        [list(files)],
    ).rowcount


def retired(connection: Connection, *, seconds: float) -> list[tuple[uuid.UUID, str, int]]:
    """(id, path, bytes) of the files that were replaced at least so long ago."""
    return connection.execute(
        """SELECT id, path, byte_count FROM embedding_files
           WHERE retired_at <= now() - make_interval(secs => %s) ORDER BY path""",
        [seconds],
    ).fetchall()


def forget_retired(connection: Connection, files: Sequence[uuid.UUID]) -> None:
    connection.execute(
        "DELETE FROM embedding_files WHERE id = ANY(%s) AND retired_at IS NOT NULL", [list(files)]
    )
