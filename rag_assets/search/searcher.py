"""Search: candidates from Milvus, texts from PostgreSQL, and nothing that PostgreSQL does not have in scope.

A program keeps one `Searcher`: it is safe in threads, pools its connections, and has `asearch` for asyncio.
A chunk whose document was deleted cannot be returned, even while its vectors wait for their deletion.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

from rag_assets.pipeline.access import AccessScope
from rag_assets.pipeline.hits import ChunkText, Hit
from rag_assets.pipeline.reranker import Reranker
from rag_assets.pipeline.vectors import Embedder, Embeddings, Kind
from rag_assets.search.answer import Answer, assembled, best_below, shown, within
from rag_assets.search.calibration import (
    Judge,
    QueryTerms,
    calibration_of,
    has_lexical_sparse,
)
from rag_assets.search.candidates import Candidates, Ranking, SearchBatches, timed
from rag_assets.search.fusion import Fusion, FusionRule
from rag_assets.search.query_vectors import MemoryQueryVectorCache, QueryVectorCache, QueryVectors
from rag_assets.search.request import MAX_OFFSET, Mode, SearchRequest, needed_kinds
from rag_assets.search.reranking import Reranking
from rag_assets.search.served_collections import ServedCollections
from resources.errors import ConfigError, StoreUnavailable
from resources.milvus.store import MilvusStore
from resources.postgres.connection import Connection, Postgres
from resources.postgres.connection_pool import Connections
from resources.postgres.registry.visible_sources import require_sources
from resources.postgres.search.hydration import hydrate, serving, surroundings
from resources.postgres.search.search_counts import SearchCounts

#: Minimum number of candidates of a first stage: fusion needs them, and they replace hits that are dropped.
CANDIDATES = 50
#: Candidates that are read from PostgreSQL first, beyond the requested results.
SPARE = 5
#: Maximum number of candidates of a first stage (Milvus returns at most 16,384 rows).
MAX_CANDIDATES = 4 * MAX_OFFSET
#: Threads and connections of a searcher.
CONCURRENCY = 8


@dataclass(frozen=True)
class Searcher:
    """Searches the collections of one model. Make it with `open`, and close it.

    `kinds`: the kinds of vectors that are kept. `limit`: the maximum of k. `counts`: None does not count the hits.
    `reranker`: None reranks by MaxSim; `reranked` is the maximum of texts that it gets. `min_score`: the least
    relevance of a hit, for requests that state none.
    """

    connections: Connections
    collections: ServedCollections
    queries: QueryVectors
    executor: Executor
    kinds: tuple[Kind, ...]
    dense_params: Mapping[str, object]
    limit: int = 100
    fusion: Fusion = "weighted"
    counts: SearchCounts | None = None
    closing: ExitStack = field(default_factory=ExitStack, repr=False)
    batches: SearchBatches = field(default_factory=SearchBatches, repr=False)
    reranker: Reranker | None = None
    reranked: int = 30
    min_score: float = 0.0

    @classmethod
    def open(
        cls,
        postgres: Postgres,
        milvus: MilvusStore,
        embedder: Embedder,
        model: str,
        kinds: tuple[Kind, ...],
        dense_params: Mapping[str, object],
        *,
        limit: int = 100,
        fusion: Fusion = "weighted",
        timeout: float = 30.0,
        collections: Mapping[Kind, str] | None = None,
        counted: bool = True,
        owns_milvus: bool = False,
        cache: QueryVectorCache | None = None,
        connections: Connections | None = None,
        executor: Executor | None = None,
        reranker: Reranker | None = None,
        reranked: int = 30,
        min_score: float = 0.0,
    ) -> Searcher:
        """Return a searcher with its own connections. `model`: the embedder's fingerprint.

        `timeout`: seconds in which PostgreSQL must answer. `collections`: other ones than those that serve. `counted`:
        count the hits in `search_count`; measurements do not. `owns_milvus`: close the client with the searcher.
        `cache`, `connections` and `executor` stay the caller's; None makes the searcher's own. `reranker` gets up to
        `reranked` texts. `min_score`: the least relevance of a hit, for requests that state none; measurements of
        rankings leave it 0.
        """
        closing = ExitStack()
        if owns_milvus:
            closing.callback(milvus.close)
        if connections is None:
            connections = Connections(postgres.url, size=CONCURRENCY, timeout=timeout)
            closing.callback(connections.close)
        if executor is None:
            executor = ThreadPoolExecutor(CONCURRENCY, thread_name_prefix="search")
            closing.callback(executor.shutdown)
        if cache is None:
            cache = MemoryQueryVectorCache()
        counts = SearchCounts(postgres) if counted else None
        if counts is not None:
            closing.callback(counts.close)
        return cls(
            connections,
            ServedCollections(milvus, model, collections or {}),
            QueryVectors(embedder, model, connections, cache),
            executor,
            kinds,
            dense_params,
            limit,
            fusion,
            counts,
            closing,
            reranker=reranker,
            reranked=reranked,
            min_score=min_score,
        )

    @property
    def milvus(self) -> MilvusStore:
        return self.collections.milvus

    @property
    def model(self) -> str:
        """The fingerprint of the model."""
        return self.queries.model

    def __enter__(self) -> Searcher:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Write the remaining search counts, and close what the searcher owns."""
        self.closing.close()

    def validate(self, request: SearchRequest, problems: Sequence[str] = ()) -> None:
        """Raise ConfigError that lists everything wrong, after the `problems` that the caller found."""
        mode = request.mode_among(self.kinds)
        if (
            request.min_score is not None
            and calibration_of(self.queries.embedder.identity, mode) is None
        ):
            backend = self.queries.embedder.identity.get("backend", "this embedder")
            problems = [
                *problems,
                f"min_score: the relevance of {backend} was not measured in mode {mode}; use radius (--radius), which "
                "cuts off by the dense score, in mode sparse by the sparse one",
            ]
        request.validate(self.kinds, self.limit, problems, has_reranker=self.reranker is not None)

    def search(self, request: SearchRequest | str, scope: AccessScope) -> list[Hit]:
        """Return the hits of `answer`."""
        return list(self.answer(request, scope).hits)

    async def asearch(self, request: SearchRequest | str, scope: AccessScope) -> Answer:
        """Return `answer` for asyncio: it runs in a thread of the running loop's executor."""
        return await asyncio.to_thread(self.answer, request, scope)

    def answers(
        self, request: SearchRequest | str, modes: Sequence[Mode], scope: AccessScope
    ) -> dict[Mode, Answer]:
        """Answer the request in each mode; its text is embedded once."""
        request = _as_request(request)
        requests: dict[Mode, SearchRequest] = {mode: replace(request, mode=mode) for mode in modes}
        for variant in requests.values():
            self.validate(variant)
        kinds: set[Kind] = {kind for each in requests.values() for kind in self._kinds(each)}
        self.queries.embed(request.text, kinds, scope)
        return {mode: self.answer(variant, scope) for mode, variant in requests.items()}

    def answer(self, request: SearchRequest | str, scope: AccessScope) -> Answer:
        """Answer the request from the sources in scope. A text alone is a request with the defaults.

        Raises ConfigError that lists everything wrong: blank text, k out of range, an unknown filter, a kind that is
        not kept, another model than the index's or behind its name. Raises StoreUnavailable if a store does not answer.
        """
        started = time.perf_counter()
        request = _as_request(request)
        self.validate(request)
        kinds = self._kinds(request)
        reranking = (
            Reranking(self.reranker, self.reranked) if request.rerank and self.reranker else None
        )
        with timed("embed") as embedding:
            query = self.queries.embed(request.text, kinds, scope)
        if query.failures:
            raise ConfigError(f"This text cannot be searched for: {query.failures[0]}.")
        end = request.offset + request.k
        # The same candidates for every page of a reranked search, so that pages follow one another.
        needed = max(end, self.reranked) if reranking else end
        wanted = max((self.reranked if reranking else end) * 2, CANDIDATES)
        rule = self._rule(request, query, scope)
        least = self.min_score if request.min_score is None else request.min_score
        while True:
            ranking = self._rank(request, scope, query, wanted, rule)
            with timed("hydrate") as hydration, self.connections.connection() as connection:
                # One round trip.
                with connection.pipeline():
                    served = serving(connection, self.collections.instead.values())
                    hits, texts = self._hits(connection, request, scope, ranking, least, needed)
                self.collections.require_model(served, kinds, query)
                self.queries.require_known_model(connection, kinds)
                if request.filters.source and not ranking.scored:
                    require_sources(connection, request.filters.source, scope)
                if reranking:
                    reranking.take(ranking.fitting(least), texts)
                # Equal texts and rows that PostgreSQL does not confirm leave fewer hits: then ask for more candidates,
                # unless these would be less relevant than the least relevant candidate, which is hidden.
                last = ranking.complete or wanted >= MAX_CANDIDATES or ranking.reaches_below(least)
                hits_shown = shown(hits, least)
                if last or (len(hits_shown) >= end and (not reranking or reranking.is_fixed)):
                    page = hits_shown[request.offset : end]
                    below = len(hits[request.offset : end]) - len(page)
                    if request.neighbours and not reranking:
                        page = surroundings(connection, page, request.neighbours, scope)
                    break
            wanted = min(wanted * 4, MAX_CANDIDATES)
        hydration.scores = [(hit.chunk_id, hit.score) for hit in hits]
        stages = [embedding, *within(scope, ranking.stages, texts), hydration]
        if reranking:
            # No connection is kept meanwhile: a reranker takes longer than all else.
            ranked = reranking.order(request.text, ranking.fitting(least), request.offset)
            texts |= reranking.candidates
            hits_in_order = assembled(request, ranking, ranked, texts, reranking.stage)
            page = hits_in_order[request.offset : end]
            stages.append(reranking.stage)
            with self.connections.connection() as connection:
                # A document may have been deleted meanwhile.
                chunks = [hit.chunk_id for hit in page]
                confirmed = hydrate(connection, chunks, request.filters, scope)
                page = [hit for hit in page if hit.chunk_id in confirmed]
                if request.neighbours:
                    page = surroundings(connection, page, request.neighbours, scope)
        if self.counts is not None:
            self.counts.add([(hit.chunk_id, hit.score) for hit in page])
        not_reranked = reranking.not_reranked if reranking else None
        return Answer(
            page,
            stages,
            exhausted=last and len(hits_shown) <= end,
            milliseconds=(time.perf_counter() - started) * 1000,
            min_score=None if rule.judge is None else least,
            hidden=below,
            best_hidden=best_below(hits, least) if below else None,
            reranked=request.rerank and not_reranked is None,
            not_reranked=not_reranked,
        )

    def _kinds(self, request: SearchRequest) -> tuple[Kind, ...]:
        return needed_kinds(request.mode_among(self.kinds), self._by_maxsim(request))

    def _by_maxsim(self, request: SearchRequest) -> bool:
        return request.rerank and self.reranker is None

    def _rule(self, request: SearchRequest, query: Embeddings, scope: AccessScope) -> FusionRule:
        """Return how this query's candidates are fused and judged."""
        identity = self.queries.embedder.identity
        terms = self.queries.terms(query, scope) if has_lexical_sparse(identity) else None
        calibration = calibration_of(identity, request.mode_among(self.kinds))
        judge = Judge(calibration, terms or QueryTerms()) if calibration else None
        return FusionRule(self.fusion, judge, terms)

    def _rank(
        self,
        request: SearchRequest,
        scope: AccessScope,
        query: Embeddings,
        wanted: int,
        rule: FusionRule,
    ) -> Ranking:
        mode = request.mode_among(self.kinds)
        kinds = self._kinds(request)
        candidates = Candidates(
            self.milvus,
            self.collections.names,
            query,
            self.dense_params,
            request.filters,
            scope,
            self.executor,
            self.batches,
            request.radius,
        )
        try:
            limits = scope.restrict(request.filters)
            if limits is not None:
                self.collections.require_fields(kinds, limits.columns)
            return candidates.rank(mode, wanted, rule=rule, rerank=self._by_maxsim(request))
        except StoreUnavailable:
            with self.connections.connection() as connection:
                # A mismatch of model and collection explains more than the store's error.
                self.collections.require_model(
                    serving(connection, self.collections.instead.values()), kinds, query
                )
            raise

    def _hits(
        self,
        connection: Connection,
        request: SearchRequest,
        scope: AccessScope,
        ranking: Ranking,
        least: float,
        needed: int,
    ) -> tuple[list[Hit], dict[str, ChunkText]]:
        """Return the hits of the candidates, and the texts that PostgreSQL confirmed.

        A row is a page or two of PostgreSQL's files, so candidates that are hardly needed are read only if they are.
        """
        hits: list[Hit] = []
        texts: dict[str, ChunkText] = {}
        maxsim = next((s for s in ranking.stages if s.name == "maxsim" and request.rerank), None)
        first = needed + SPARE
        for start, stop in ((0, first), (first, None)):
            chunks = [chunk for chunk, _ in ranking.scored[start:stop]]
            if start and not any(ranking.fits(chunk, least) for chunk in chunks):
                break
            if len(shown(hits, least)) <= needed:
                texts |= hydrate(connection, chunks, request.filters, scope)
                hits = assembled(request, ranking, ranking.scored[:stop], texts, maxsim)
        return hits, texts


def _as_request(request: SearchRequest | str) -> SearchRequest:
    return SearchRequest(request) if isinstance(request, str) else request
