"""Search: candidates from Milvus, texts from PostgreSQL, and nothing that PostgreSQL does not know.

A program keeps one `Searcher`: it is safe in threads, pools its connections, and has `asearch` for asyncio.
A chunk whose document was deleted cannot be returned, even while its vectors wait for their deletion.
"""

from __future__ import annotations

import asyncio
import threading
import time
import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from numbers import Integral, Real
from typing import Any, Literal
from weakref import WeakKeyDictionary

import numpy as np
import psycopg
from psycopg_pool import ConnectionPool, PoolTimeout

from rag_assets.pipeline.filters import Filters
from rag_assets.pipeline.hits import ChunkText, Hit, assemble
from rag_assets.pipeline.term_statistics import TermStatistics, WeighsQueries
from rag_assets.pipeline.vectors import Embedder, Embeddings, Kind
from rag_assets.search.candidates import MODES, Candidates, Mode, Stage, needed_kinds, timed
from resources.errors import ConfigError, StoreUnavailable
from resources.milvus.collections import ALIASES
from resources.milvus.store import MilvusStore
from resources.postgres.connection import Connection, Postgres
from resources.postgres.registry.sources import list_sources
from resources.postgres.search.hydration import (
    Serving,
    hydrate,
    serving,
    surroundings,
    with_holders,
)
from resources.postgres.search.search_counts import SearchCounts
from resources.postgres.vectors.term_statistics import total_statistics

#: Candidates of a first stage, at least: what fusion and dropped hits are made up from.
CANDIDATES = 50
#: Candidates that are read from PostgreSQL first, beyond the results that are wanted.
SPARE = 5
#: Candidates of a first stage, at most (Milvus answers with 16,384 rows at most).
MAX_CANDIDATES = 10_000
#: Queries whose vectors are remembered: one of each kind is about 5 KB.
CACHED_QUERIES = 1000
#: Seconds for which the terms' frequencies are not read again.
STATISTICS_SECONDS = 60.0
#: Seconds for which a connection that answered is taken to live.
FRESH = 1.0
#: Of the fusion, where an embedder does not say its own (`fusion_weights(query)`).
EQUAL_WEIGHTS: Mapping[Kind, float] = {"dense": 0.5, "sparse": 0.5}


@dataclass(frozen=True)
class Answer:
    """The hits, best first, and the stages that made them. `exhausted`: there are no further hits behind these."""

    hits: Sequence[Hit]
    stages: Sequence[Stage]
    exhausted: bool

    def as_dict(self) -> dict[str, Any]:
        return {
            "hits": [hit.as_dict() for hit in self.hits],
            "stages": [stage.as_dict() for stage in self.stages],
            "exhausted": self.exhausted,
        }


@dataclass
class Searcher:
    """Searches the serving collections. `kinds`: the kinds of vectors that are kept; `limit`: results at most.

    `fusion` of a hybrid: "weighted" scores by the embedder's weights, or "rrf" (reciprocal ranks). `collections`: other
    ones than those that serve. `counted`: what is found counts in `search_count`; not so for measurements.
    `owns_milvus`: the client is closed with the searcher.
    """

    postgres: Postgres
    milvus: MilvusStore
    embedder: Embedder
    model: str
    kinds: tuple[Kind, ...]
    dense_params: Mapping[str, Any]
    limit: int = 100
    fusion: Literal["weighted", "rrf"] = "weighted"
    timeout: float = 30.0
    connections: int = 8
    collections: Mapping[Kind, str] = field(default_factory=dict)
    counted: bool = True
    owns_milvus: bool = False
    _pool: ConnectionPool | None = field(default=None, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _cache: dict[str, Embeddings] = field(default_factory=dict, repr=False)
    _statistics: tuple[float, TermStatistics] | None = field(default=None, repr=False)
    _counts: SearchCounts | None = field(default=None, repr=False)
    _answered: WeakKeyDictionary[Connection, float] = field(
        default_factory=WeakKeyDictionary, repr=False
    )
    _fields: dict[str, frozenset[str]] = field(default_factory=dict, repr=False)

    def __enter__(self) -> Searcher:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Writes what is left of the search counts, and closes the connections."""
        with self._lock:
            counts, self._counts = self._counts, None
            pool, self._pool = self._pool, None
        if counts is not None:
            counts.close()
        if pool is not None:
            pool.close()
        if self.owns_milvus:
            self.milvus.close()

    def search(self, text: str, **options: Any) -> list[Hit]:
        """The hits of `answer` alone."""
        return list(self.answer(text, **options).hits)

    async def asearch(self, text: str, **options: Any) -> Answer:
        """`answer` for asyncio: in a thread of the running loop's executor."""
        return await asyncio.to_thread(self.answer, text, **options)

    def answers(self, text: str, modes: Sequence[Mode], **options: Any) -> dict[Mode, Answer]:
        """One text searched in several modes; it is embedded once."""
        needed: set[Kind] = {kind for mode in modes for kind in needed_kinds(mode)}
        if text.strip() and needed <= set(self.kinds):
            self.embed(text, needed)
        return {mode: self.answer(text, mode=mode, **options) for mode in modes}

    def answer(
        self,
        text: str,
        *,
        k: int = 10,
        offset: int = 0,
        mode: Mode | None = None,
        filters: Filters | Mapping[str, object] | None = None,
        radius: float | None = None,
        rerank: bool = False,
        by_document: bool = False,
        neighbours: int = 0,
    ) -> Answer:
        """The k best chunks after the first `offset`. Equal texts are one hit that names all who hold them.

        `mode`: by default hybrid where dense and sparse are kept, else the kind that is. `filters`: see `Filters`.
        `radius`: only rows whose inner product with the query is above it (dense or sparse). `rerank`: the candidates
        are ordered anew by MaxSim (multi-vectors must be kept). `by_document`: the best chunk of each document.
        `neighbours`: chunks before and after each hit, and its section's opening, for a context window.

        Raises ConfigError that lists everything wrong: blank text, k out of range, an unknown filter, a kind that is
        not kept, another model than the index's; StoreUnavailable when a store does not answer in `timeout` seconds.
        """
        mode = mode or ("hybrid" if {"dense", "sparse"} <= set(self.kinds) else self.kinds[0])
        needed = needed_kinds(mode, rerank)
        limits = self._validate(text, k, offset, mode, needed, filters, radius, neighbours)
        with timed("embed") as embedding:
            query = self.embed(text, needed)
        if query.failures:
            raise ConfigError(f"This text cannot be searched for: {query.failures[0]}.")
        names: dict[Kind, str] = {**ALIASES, **self.collections}
        candidates = Candidates(
            self.milvus, query, self.dense_params, limits.expression(), radius, names
        )
        weights = self._weights(text) if self.fusion == "weighted" else None
        wanted = max((offset + k) * 2, CANDIDATES)
        while True:
            try:
                self._hold_fields([names[kind] for kind in needed], limits)
                ranking = candidates.rank(mode, wanted, weights=weights, rerank=rerank)
            except StoreUnavailable:
                with self._connection() as connection:
                    self._hold_model(
                        serving(connection, self.collections.values()), needed, query
                    )  # it may know why
                raise
            with timed("hydrate") as hydration, self._connection() as connection:
                self._hold_model(serving(connection, self.collections.values()), needed, query)
                if limits.source and not ranking.scored:
                    _expect_sources(connection, limits.source)
                hits: list[Hit] = []
                rows: dict[uuid.UUID, ChunkText] = {}
                # A row is a page or two of PostgreSQL's files: those that are hardly needed are read where they are.
                for first, end in ((0, offset + k + SPARE), (offset + k + SPARE, None)):
                    if len(hits) <= offset + k:
                        some = [uuid.UUID(chunk) for chunk, _ in ranking.scored[first:end]]
                        rows |= hydrate(connection, some, limits)
                        hits = assemble(ranking.scored[:end], rows, by_document=by_document)
                # Equal texts and what PostgreSQL does not know leave fewer: then more candidates are asked for.
                last = ranking.complete or wanted >= MAX_CANDIDATES
                if last or len(hits) >= offset + k:
                    page = with_holders(connection, hits[offset : offset + k], limits)
                    if neighbours:
                        page = surroundings(connection, page, neighbours)
                    break
            wanted = min(wanted * 4, MAX_CANDIDATES)
        hydration.scores = [(hit.chunk_id, hit.score) for hit in hits]
        if self.counted:
            self._count(page)
        exhausted = last and len(hits) <= offset + k
        return Answer(page, [embedding, *ranking.stages, hydration], exhausted)

    # What a search needs ---------------------------------------------------------------------------------------

    def _validate(
        self,
        text: str,
        k: int,
        offset: int,
        mode: Mode,
        needed: Sequence[Kind],
        filters: Filters | Mapping[str, object] | None,
        radius: float | None,
        neighbours: int,
    ) -> Filters:
        problems = []
        if not isinstance(text, str):
            problems.append(f"text: expected text, found {text!r}")
        elif not text.strip():
            problems.append("text: expected something to search for, found blanks")
        numbers = {"k": (k, 1, self.limit), "offset": (offset, 0, MAX_CANDIDATES // 4)}
        numbers["neighbours"] = (neighbours, 0, 20)
        for name, (number, least, most) in numbers.items():
            if not isinstance(number, Integral):
                problems.append(f"{name}: expected an integer, found {number!r}")
            elif not least <= number <= most:
                problems.append(f"{name}: expected {least} to {most}, found {number}")
        if mode not in MODES:
            problems.append(f"mode: expected one of {', '.join(MODES)}, found {mode!r}")
        if radius is not None and mode not in ("dense", "sparse"):
            problems.append(f"radius: expected with mode dense or sparse, found with {mode}")
        if radius is not None and not isinstance(radius, Real):
            problems.append(f"radius: expected a number, found {radius!r}")
        elif radius is not None and not np.isfinite(float(radius)):
            problems.append(f"radius: expected a finite number, found {radius}")
        for kind in needed:
            if kind not in self.kinds and mode in MODES:
                problems.append(
                    f"mode {mode}: {kind} vectors are not kept; "
                    f"set RAG_VECTORS={','.join([*self.kinds, kind])} and run rag ingest"
                )
        limits = Filters()
        try:
            limits = filters if isinstance(filters, Filters) else Filters.of(filters or {})
        except ValueError as error:
            problems.append(str(error))
        if problems:
            raise ConfigError("This search cannot be answered:\n  " + "\n  ".join(problems))
        return limits

    def _hold_model(
        self, found: Mapping[Kind, Serving], needed: Sequence[Kind], query: Embeddings
    ) -> None:
        """Raises ConfigError unless the collections hold vectors of this model."""
        problems = []
        for kind in needed:
            if kind not in found:
                problems.append(f"{kind} vectors: none are indexed yet; run: rag ingest")
            elif found[kind].model != self.model:
                problems.append(
                    f"{ALIASES[kind]} holds vectors of model {found[kind].model}, the embedder is {self.model}; "
                    "run rag ingest to index with it, or set RAG_EMBEDDER back"
                )
            elif kind == "dense" and query.dense is not None:
                dimension = query.dense.shape[1]
                if found[kind].dimension != dimension:
                    problems.append(
                        f"{ALIASES[kind]} has dimension {found[kind].dimension}, the query's vector {dimension}"
                    )
        if problems:
            raise ConfigError("This search cannot be answered:\n  " + "\n  ".join(problems))

    def _hold_fields(self, names: Sequence[str], limits: Filters) -> None:
        """Raises ConfigError where a collection lacks a field of the filters: no row of it would be found."""
        for name in names:
            if limits.columns <= self._fields.get(name, frozenset()):
                continue
            self._fields[name] = self.milvus.fields(name)
            if lacking := limits.columns - self._fields[name]:
                raise ConfigError(
                    f"{name} was made by an earlier version and cannot be filtered by {', '.join(sorted(lacking))}. "
                    "Make it anew, from Parquet and without a model call: rag rebuild milvus"
                )

    def embed(self, text: str, needed: Collection[Kind]) -> Embeddings:
        """The query's vectors, from memory where they are there; sparse ones weighted by the terms' rarity."""
        with self._lock:
            vectors = self._cache.get(text)
        if vectors is None or any(getattr(vectors, kind) is None for kind in needed):
            vectors = self.embedder.embed_queries([text], needed)
            with self._lock:
                while len(self._cache) >= CACHED_QUERIES:
                    self._cache.pop(next(iter(self._cache)))
                self._cache[text] = vectors
        if vectors.sparse is None or not isinstance(self.embedder, WeighsQueries):
            return vectors
        return replace(
            vectors, sparse=self.embedder.weigh_queries(vectors.sparse, self._term_statistics())
        )

    def _weights(self, text: str) -> Mapping[Kind, float]:
        own = getattr(self.embedder, "fusion_weights", None)
        return own(text) if own else EQUAL_WEIGHTS

    def _term_statistics(self) -> TermStatistics:
        with self._lock:
            known = self._statistics
        if known is None or time.monotonic() - known[0] > STATISTICS_SECONDS:
            with self._connection() as connection:
                known = time.monotonic(), total_statistics(connection, self.model)
            with self._lock:
                self._statistics = known
        return known[1]

    @contextmanager
    def _connection(self) -> Iterator[Connection]:
        with self._lock:
            if self._pool is None:
                self._pool = ConnectionPool(
                    self.postgres.url,
                    min_size=1,
                    max_size=self.connections,
                    timeout=self.timeout,
                    kwargs={"autocommit": True, "application_name": "rag-assets search"},
                    check=self._check,
                    open=True,
                )
            pool = self._pool
        try:
            with pool.connection() as connection:
                yield connection
                self._answered[connection] = time.monotonic()
        except (PoolTimeout, psycopg.OperationalError) as error:
            raise StoreUnavailable(f"PostgreSQL does not answer: {error}".strip()) from error

    def _check(self, connection: Connection) -> None:
        """Of a connection that is given out again: one that answered just now is not asked (0.16 ms)."""
        if time.monotonic() - self._answered.get(connection, 0.0) > FRESH:
            ConnectionPool.check_connection(connection)

    def _count(self, hits: Sequence[Hit]) -> None:
        with self._lock:
            if self._counts is None:
                self._counts = SearchCounts(self.postgres)
            counts = self._counts
        counts.add([(hit.chunk_id, hit.score) for hit in hits])


def _expect_sources(connection: Connection, names: Sequence[str]) -> None:
    known = {source.name for source in list_sources(connection)}
    if unknown := [name for name in names if name not in known]:
        raise ConfigError(
            f"No source is named {', '.join(map(repr, unknown))}; there are: {', '.join(sorted(known)) or 'none'}."
        )
