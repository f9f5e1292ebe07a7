"""The vectors of queries: embedded or from a cache, and sparse ones weighted by the rarity of their terms in scope.

Also whether the embedder is still the model that made the stored vectors: another one would find anything.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Collection, Hashable
from dataclasses import dataclass, field, replace
from typing import Generic, Protocol, TypeVar

from rag_assets.pipeline.access import AccessScope
from rag_assets.pipeline.model_probe import compare, other_model_message, probes_of
from rag_assets.pipeline.term_statistics import TermStatistics, WeighsQueries
from rag_assets.pipeline.vectors import KINDS, Embedder, Embeddings, Kind
from rag_assets.search.calibration import QueryTerms
from resources.embedders.checked import CheckedEmbedder
from resources.errors import OtherModel
from resources.postgres.connection import Connection
from resources.postgres.connection_pool import Connections
from resources.postgres.vectors.model_probes import read_probes
from resources.postgres.vectors.term_statistics import total_statistics

#: Queries whose vectors stay in memory. Dense and sparse ones of a query take about 5 KB.
CACHED_QUERIES = 1000
#: Seconds in which the terms' frequencies are not read again, and the scopes whose frequencies stay in memory.
STATISTICS_SECONDS, STATISTICS_SCOPES = 60.0, 32
#: Seconds until the embedder is compared with the known vectors again: a server's model may change while we run.
KNOWN_MODEL_SECONDS = 3600.0

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class QueryKey:
    """The key of one vector: kinds are cached one by one, so that searches in different modes share them."""

    model: str
    kind: Kind
    text: str


class QueryVectorCache(Protocol):
    """A cache of query vectors, safe in threads. One that raises is treated as a miss."""

    def get(self, key: QueryKey, /) -> Embeddings | None:
        """Return the vectors of one text in the key's kind, before any weighting."""
        ...

    def put(self, key: QueryKey, vectors: Embeddings, /) -> None: ...


class LruCache(Generic[K, V]):
    """At most `size` values; the one that was used least recently goes first. Safe in threads."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._values: OrderedDict[K, V] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: K) -> V | None:
        with self._lock:
            if key not in self._values:
                return None
            self._values.move_to_end(key)
            return self._values[key]

    def put(self, key: K, value: V) -> None:
        with self._lock:
            self._values[key] = value
            self._values.move_to_end(key)
            while len(self._values) > self._size:
                self._values.popitem(last=False)


class MemoryQueryVectorCache(LruCache[QueryKey, Embeddings]):
    """The cache of one process."""

    def __init__(self, queries: int = CACHED_QUERIES) -> None:
        super().__init__(queries * len(KINDS))


class KnownModel:
    """When the embedder returned the known vectors of each kind, in this process. Safe in threads."""

    def __init__(self) -> None:
        self._compared: dict[Kind, float] = {}
        self._lock = threading.Lock()

    def require(
        self, connection: Connection, embedder: Embedder, model: str, kinds: Collection[Kind]
    ) -> None:
        """Raise OtherModel if the embedder returns other vectors. An embedder that fails is asked again next time."""
        if not self._due(kinds):
            return
        with self._lock:
            if not (due := self._due(kinds)):
                return
            known = read_probes(connection, model)
            try:
                vectors = (
                    CheckedEmbedder(embedder).embed(list(known), due) if known else Embeddings()
                )
            # The query was embedded, so the search can be answered. A user's embedder may raise anything.
            except Exception as error:
                _log.warning("The embedder was not compared with the known vectors: %s", error)
                return
            comparison = compare(known, probes_of(list(known), vectors), due)
            if not comparison.is_same_model:
                raise OtherModel(
                    "This search cannot be answered. "
                    + other_model_message(comparison, embedder.identity)
                )
            self._compared |= dict.fromkeys(due, time.monotonic())

    def _due(self, kinds: Collection[Kind]) -> list[Kind]:
        now = time.monotonic()
        return [
            kind
            for kind in kinds
            if kind not in self._compared or now - self._compared[kind] > KNOWN_MODEL_SECONDS
        ]


@dataclass(frozen=True)
class QueryVectors:
    """Embeds queries with one model. `model`: its fingerprint."""

    embedder: Embedder
    model: str
    connections: Connections
    cache: QueryVectorCache = field(default_factory=MemoryQueryVectorCache)
    statistics: LruCache[frozenset[str] | None, tuple[float, TermStatistics]] = field(
        default_factory=lambda: LruCache[frozenset[str] | None, tuple[float, TermStatistics]](
            STATISTICS_SCOPES
        )
    )
    known_model: KnownModel = field(default_factory=KnownModel)

    def embed(self, text: str, kinds: Collection[Kind], scope: AccessScope) -> Embeddings:
        """Return the query's vectors of at least these kinds, sparse ones weighted."""
        vectors = self._vectors(text, kinds)
        if vectors.sparse is None or not isinstance(self.embedder, WeighsQueries):
            return vectors
        statistics = self._term_statistics(scope)
        return replace(vectors, sparse=self.embedder.weigh_queries(vectors.sparse, statistics))

    def require_known_model(self, connection: Connection, kinds: Collection[Kind]) -> None:
        """Raise OtherModel unless the embedder returns the recorded vectors, compared once an hour."""
        self.known_model.require(connection, self.embedder, self.model, kinds)

    def terms(self, query: Embeddings, scope: AccessScope) -> QueryTerms:
        """Return the weight of an embedded query's terms, and the share of them that the sources in scope have."""
        if query.sparse is None:
            return QueryTerms()
        known = self._term_statistics(scope).known_share(query.sparse.indices)
        return QueryTerms(float(query.sparse.values.sum()), known)

    def _vectors(self, text: str, kinds: Collection[Kind]) -> Embeddings:
        keys: dict[Kind, QueryKey] = {kind: QueryKey(self.model, kind, text) for kind in kinds}
        vectors: dict[Kind, Embeddings] = {
            kind: cached for kind, key in keys.items() if (cached := self._cached(key)) is not None
        }
        missing: list[Kind] = [kind for kind in keys if kind not in vectors]
        if missing:
            embedded = self.embedder.embed_queries([text], missing)
            for kind in missing:
                vectors[kind] = _only(embedded, kind)
                self._put(keys[kind], vectors[kind])
        return Embeddings(
            dense=vectors["dense"].dense if "dense" in vectors else None,
            sparse=vectors["sparse"].sparse if "sparse" in vectors else None,
            multi=vectors["multi"].multi if "multi" in vectors else None,
            failures={at: why for each in vectors.values() for at, why in each.failures.items()},
        )

    def _cached(self, key: QueryKey) -> Embeddings | None:
        try:
            vectors = self.cache.get(key)
        except Exception as error:
            _log.warning(
                "The cache of query vectors did not answer; the query is embedded: %s", error
            )
            return None
        # Another version of a shared cache may have stored something else.
        return vectors if vectors is not None and _has(vectors, key.kind) else None

    def _put(self, key: QueryKey, vectors: Embeddings) -> None:
        try:
            self.cache.put(key, vectors)
        except Exception as error:
            _log.warning("The cache of query vectors did not store a query: %s", error)

    def _term_statistics(self, scope: AccessScope) -> TermStatistics:
        """Only of the sources in scope: else a score would tell how frequent a term is in the others."""
        recent = self.statistics.get(scope.sources)
        if recent is not None and time.monotonic() - recent[0] <= STATISTICS_SECONDS:
            return recent[1]
        with self.connections.connection() as connection:
            statistics = total_statistics(connection, self.model, scope)
        self.statistics.put(scope.sources, (time.monotonic(), statistics))
        return statistics


_log = logging.getLogger(__name__)


def _only(vectors: Embeddings, kind: Kind) -> Embeddings:
    return Embeddings(
        dense=vectors.dense if kind == "dense" else None,
        sparse=vectors.sparse if kind == "sparse" else None,
        multi=vectors.multi if kind == "multi" else None,
        failures=vectors.failures,
    )


def _has(vectors: Embeddings, kind: Kind) -> bool:
    values = {"dense": vectors.dense, "sparse": vectors.sparse, "multi": vectors.multi}
    return values[kind] is not None
