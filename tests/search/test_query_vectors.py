"""Query vectors: what is cached, under which key, and what a broken cache costs."""

from __future__ import annotations

import logging
import threading
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import pytest

from rag_assets.pipeline.access import AccessScope
from rag_assets.pipeline.vectors import KINDS, Embeddings, Kind
from rag_assets.search.query_vectors import (
    LruCache,
    MemoryQueryVectorCache,
    QueryKey,
    QueryVectorCache,
    QueryVectors,
)
from rag_assets.search.searcher import Searcher
from resources.milvus.store import MilvusStore
from resources.postgres.connection import Postgres
from resources.postgres.connection_pool import Connections
from tests.support.embedders import CountingEmbedder

OWNER = AccessScope.owner()


@dataclass
class RecordingEmbedder(CountingEmbedder):
    requests: list[tuple[str, tuple[Kind, ...]]] = field(default_factory=list)

    def embed_queries(self, texts: Sequence[str], kinds: Collection[Kind]) -> Embeddings:
        self.requests += [(text, tuple(kinds)) for text in texts]
        return super().embed_queries(texts, kinds)


def query_vectors(
    embedder: CountingEmbedder, cache: QueryVectorCache, model: str = "model"
) -> QueryVectors:
    return QueryVectors(embedder, model, Connections("postgresql://nowhere"), cache)


def test_a_query_is_embedded_once_for_each_kind() -> None:
    embedder = RecordingEmbedder()
    queries = query_vectors(embedder, MemoryQueryVectorCache())
    first = queries.embed("text", ("dense",), OWNER)
    both = queries.embed("text", ("dense", "sparse"), OWNER)
    again = queries.embed("text", ("sparse",), OWNER)
    assert embedder.requests == [("text", ("dense",)), ("text", ("sparse",))]
    assert both.dense is first.dense and again.sparse is both.sparse
    assert first.sparse is again.dense is both.multi is None


def test_searchers_of_different_models_share_a_cache_without_sharing_vectors() -> None:
    cache, embedder = MemoryQueryVectorCache(), RecordingEmbedder()
    for model in ("one", "other", "one"):
        query_vectors(embedder, cache, model).embed("text", ("dense",), OWNER)
    assert len(embedder.requests) == 2


def test_a_searcher_uses_the_cache_and_the_executor_that_it_is_given() -> None:
    cache = MemoryQueryVectorCache()
    with ThreadPoolExecutor(1) as executor:
        with Searcher.open(
            Postgres("postgresql://nowhere"),
            MilvusStore("http://nowhere"),
            CountingEmbedder(),
            "model",
            ("dense",),
            {},
            cache=cache,
            executor=executor,
        ) as searcher:
            assert searcher.queries.cache is cache and searcher.executor is executor
        assert executor.submit(lambda: "still open").result() == "still open"


def test_failures_are_cached_with_the_query() -> None:
    class Failing(RecordingEmbedder):
        def embed_queries(self, texts: Sequence[str], kinds: Collection[Kind]) -> Embeddings:
            super().embed_queries(texts, kinds)
            return Embeddings(dense=np.zeros((1, 2), np.float32), failures={0: "too long"})

    embedder = Failing()
    queries = query_vectors(embedder, MemoryQueryVectorCache())
    for _ in range(2):
        assert queries.embed("text", ("dense",), OWNER).failures == {0: "too long"}
    assert len(embedder.requests) == 1


class BrokenCache:
    """Raises as a client of a server that is down, or returns vectors of another kind."""

    def __init__(self, wrong: Embeddings | None = None) -> None:
        self.wrong = wrong

    def get(self, key: QueryKey, /) -> Embeddings | None:
        if self.wrong is None:
            raise ConnectionError("no cache")
        return self.wrong

    def put(self, key: QueryKey, vectors: Embeddings, /) -> None:
        raise ConnectionError("no cache")


def test_a_cache_that_raises_is_a_miss(caplog: pytest.LogCaptureFixture) -> None:
    embedder = RecordingEmbedder()
    queries = query_vectors(embedder, BrokenCache())
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert queries.embed("text", ("dense",), OWNER).dense is not None
    assert len(embedder.requests) == 2
    assert [record.message for record in caplog.records] == [
        "The cache of query vectors did not answer; the query is embedded: no cache",
        "The cache of query vectors did not store a query: no cache",
    ] * 2


def test_a_cached_value_without_the_kind_is_a_miss() -> None:
    embedder = RecordingEmbedder()
    wrong = Embeddings(dense=np.ones((1, 2), np.float32))
    vectors = query_vectors(embedder, BrokenCache(wrong)).embed("text", ("sparse",), OWNER)
    assert vectors.sparse is not None and len(embedder.requests) == 1


def test_the_least_recently_used_value_goes_first() -> None:
    cache = LruCache[str, int](2)
    cache.put("a", 1)
    cache.put("b", 2)
    assert cache.get("a") == 1
    cache.put("c", 3)
    assert (cache.get("a"), cache.get("b"), cache.get("c"), len(cache)) == (1, None, 3, 2)


def test_the_cache_of_a_process_is_bounded_by_queries_of_every_kind() -> None:
    cache, vectors = MemoryQueryVectorCache(queries=2), Embeddings()
    for text in "abc":
        for kind in KINDS:
            cache.put(QueryKey("model", kind, text), vectors)
    assert len(cache) == 2 * len(KINDS)
    assert cache.get(QueryKey("model", "dense", "a")) is None
    assert cache.get(QueryKey("model", "multi", "c")) is vectors


def test_a_cache_is_safe_in_threads() -> None:
    cache, errors = LruCache[int, int](10), []

    def use(seed: int) -> None:
        try:
            for n in range(5000):
                cache.put((seed + n) % 37, n)
                cache.get(n % 41)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=use, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == [] and len(cache) == 10
