"""Columns `usage_count` and `last_used_at` of API keys, written in batches: a row a request would be a hot row."""

from __future__ import annotations

import uuid
from collections import Counter
from datetime import UTC, datetime

from resources.batched_writes import BatchedWrites
from resources.postgres.connection_pool import Connections
from resources.postgres.identity.api_keys import count_uses


class KeyUses:
    """Takes uses from any thread; a background thread, started at the first use, writes them."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._uses = BatchedWrites("uses of API keys", self._write)

    def add(self, key_id: uuid.UUID) -> None:
        self._uses.add([key_id])

    def close(self) -> None:
        """Write the remaining uses, and end the thread."""
        self._uses.close()

    def _write(self, key_ids: list[uuid.UUID]) -> None:
        with self._connections.connection() as connection:
            count_uses(connection, Counter(key_ids), datetime.now(UTC))
