"""How often chunks were found, written in batches off the path of a search: `search_count` and `last_search_score`.

A count that is lost with its process is no harm: nothing rests on it.
"""

from __future__ import annotations

import logging
import queue
import threading
import uuid
from collections.abc import Sequence

import psycopg

from resources.errors import RagError
from resources.postgres.bulk_copy import copy_rows
from resources.postgres.connection import Postgres

#: Seconds between two writes, and the hits that are held at most; further ones are not counted.
INTERVAL = 5.0
HELD = 100_000


class SearchCounts:
    """Takes hits from any thread; a thread of its own writes them."""

    def __init__(self, postgres: Postgres) -> None:
        self._postgres = postgres
        self._hits: queue.Queue[tuple[str, float]] = queue.Queue(HELD)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="search counts", daemon=True)
        self._thread.start()

    def add(self, hits: Sequence[tuple[str, float]]) -> None:
        """(chunk id, score) of what was returned."""
        try:
            for hit in hits:
                self._hits.put_nowait(hit)
        except queue.Full:
            pass

    def close(self) -> None:
        """Writes what is left, and ends."""
        self._closing.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._closing.wait(INTERVAL):
            self._write()
        self._write()

    def _write(self) -> None:
        counts: dict[str, tuple[int, float]] = {}
        while True:
            try:
                chunk, score = self._hits.get_nowait()
            except queue.Empty:
                break
            counts[chunk] = counts.get(chunk, (0, 0.0))[0] + 1, score
        if not counts:
            return
        try:
            with self._postgres.connect() as connection:
                copy_rows(
                    connection,
                    "found",
                    {"id": "uuid", "times": "int4", "score": "float8"},
                    ((uuid.UUID(chunk), *count) for chunk, count in counts.items()),
                )
                # SKIP LOCKED: a sync that holds these rows is not waited for, and goes before a count.
                connection.execute(
                    """UPDATE document_chunks u SET search_count = search_count + f.times, last_search_score = f.score
                       FROM (SELECT c.id FROM document_chunks c JOIN found USING (id)
                             ORDER BY c.id FOR UPDATE OF c SKIP LOCKED) AS free JOIN found f USING (id)
                       WHERE u.id = free.id"""
                )
        except (RagError, psycopg.Error) as error:  # PostgreSQL may be back at the next write
            logging.getLogger(__name__).warning("Search counts were not written: %s", error)
