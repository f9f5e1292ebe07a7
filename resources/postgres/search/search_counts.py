"""Columns `search_count` and `last_search_score` of chunks, written in batches apart from the searches.

Counts may be lost with their process: nothing depends on them.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from resources.batched_writes import BatchedWrites
from resources.postgres.bulk_copy import copy_rows
from resources.postgres.connection import Postgres


class SearchCounts:
    """Takes hits from any thread; a background thread, started at the first hits, writes them."""

    def __init__(self, postgres: Postgres) -> None:
        self._postgres = postgres
        self._hits = BatchedWrites("search counts", self._write)

    def add(self, hits: Sequence[tuple[str, float]]) -> None:
        """Count the (chunk id, score) of an answer."""
        self._hits.add(hits)

    def close(self) -> None:
        """Write the remaining hits, and end the thread."""
        self._hits.close()

    def _write(self, hits: list[tuple[str, float]]) -> None:
        counts: dict[str, tuple[int, float]] = {}
        for chunk, score in hits:
            counts[chunk] = counts.get(chunk, (0, 0.0))[0] + 1, score
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
