"""Columns `search_count` and `last_search_score` of chunks, written in batches apart from the searches.

Counts may be lost with their process: nothing depends on them.
"""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Sequence

import psycopg

from resources.errors import RagError
from resources.postgres.bulk_copy import copy_rows
from resources.postgres.connection import Postgres

#: Seconds between two writes, and the maximum of hits that wait for one; further hits are not counted.
INTERVAL = 5.0
WAITING = 100_000


class SearchCounts:
    """Takes hits from any thread; a background thread, started at the first hits, writes them."""

    def __init__(self, postgres: Postgres) -> None:
        self._postgres = postgres
        self._hits: list[tuple[str, float]] = []
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def add(self, hits: Sequence[tuple[str, float]]) -> None:
        """Count the (chunk id, score) of an answer."""
        with self._lock:
            if self._thread is None and not self._closing.is_set():
                self._thread = threading.Thread(target=self._run, name="search counts", daemon=True)
                self._thread.start()
            self._hits += hits[: WAITING - len(self._hits)]

    def close(self) -> None:
        """Write the remaining hits, and end the thread."""
        with self._lock:
            self._closing.set()
            thread = self._thread
        if thread is not None:
            thread.join()

    def _run(self) -> None:
        while not self._closing.wait(INTERVAL):
            self._write()
        self._write()

    def _write(self) -> None:
        with self._lock:
            hits, self._hits = self._hits, []
        counts: dict[str, tuple[int, float]] = {}
        for chunk, score in hits:
            counts[chunk] = counts.get(chunk, (0, 0.0))[0] + 1, score
        if not counts:
            return
        try:
            with self._postgres.connect() as connection:
                copy_rows(
                    connection,
                    "hits",
                    {"id": "uuid", "times": "int4", "score": "float8"},
                    ((uuid.UUID(chunk), *count) for chunk, count in counts.items()),
                )
                # SKIP LOCKED: a sync may hold locks on these rows for long; it must not wait for a count either.
                connection.execute(
                    """UPDATE document_chunks u
                       SET search_count = search_count + hits.times, last_search_score = hits.score
                       FROM (SELECT c.id FROM document_chunks c JOIN pg_temp.hits USING (id)
                             ORDER BY c.id FOR UPDATE OF c SKIP LOCKED) AS free
                       JOIN pg_temp.hits USING (id)
                       WHERE u.id = free.id"""
                )
        except (RagError, psycopg.Error) as error:
            # The next write may find PostgreSQL again.
            reason = str(error).partition("\n")[0]
            logging.getLogger(__name__).warning("Search counts were not written: %s", reason)
