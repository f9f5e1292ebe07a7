"""Whether this process can answer searches now, and why not."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

from rag_assets.search.searcher import Searcher
from resources.errors import EmbedderUnavailable, RagError, StoreUnavailable
from resources.postgres.connection_pool import Connections
from resources.postgres.queries import scalar

#: Seconds for which a result is kept.
KEPT = 2.0


@dataclass(frozen=True)
class Readiness:
    """`parts`: part -> "ok", or what is wrong. `notes`: what is away without making the service unready."""

    parts: Mapping[str, str]
    notes: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_ready(self) -> bool:
        return all(state == "ok" for state in self.parts.values())


class ReadinessProbe:
    """Looks at the stores at most every two seconds, however many ask. Safe in threads."""

    def __init__(self, connections: Connections, searcher: Searcher) -> None:
        self._connections, self._searcher = connections, searcher
        self._lock = threading.Lock()
        self._last: Readiness | None = None
        self._at = 0.0
        self._embedder_failure = ""

    def look(self) -> Readiness:
        """Return the state of the stores. Who asks while another looks gets the last one: nobody waits in a queue."""
        last = self._last
        if not self._lock.acquire(blocking=last is None):
            assert last is not None
            return last
        try:
            if self._last is None or time.monotonic() - self._at > KEPT:
                self._last = self._looked()
                self._at = time.monotonic()
            return self._last
        finally:
            self._lock.release()

    def _looked(self) -> Readiness:
        parts = {"postgres": self._state_of(self._postgres), **self._collections()}
        away = self._embedder_failure
        notes = {"embedder": away} if away else {}
        return Readiness(parts, notes)

    def note_search(self, error: Exception | None) -> None:
        """Take the outcome of a search: it shows, without a call of its own, whether the embedder answers."""
        if error is None:
            self._embedder_failure = ""
        elif isinstance(error, EmbedderUnavailable):
            self._embedder_failure = _first_line(error)

    def _postgres(self) -> None:
        with self._connections.connection() as connection:
            scalar(connection, "SELECT 1")

    def _collections(self) -> dict[str, str]:
        names = self._searcher.collections.names
        return {
            f"milvus/{kind}": self._state_of(partial(self._collection, names[kind]))
            for kind in self._searcher.kinds
        }

    def _collection(self, name: str) -> None:
        milvus = self._searcher.milvus
        if not milvus.has_collection(name):
            raise StoreUnavailable(f"{name} is the alias of no collection; run: rag ingest")
        if not milvus.is_loaded(name):
            raise StoreUnavailable(f"{name} is not loaded")

    @staticmethod
    def _state_of(look: Callable[[], None]) -> str:
        try:
            look()
        except RagError as error:
            return _first_line(error)
        return "ok"


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0][:300]
