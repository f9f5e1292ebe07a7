"""Measures retrieval quality: the results of a set's queries, and the recall of indexes against exact search.

`quality` judges the measurements; the asset `retrieval_evaluation` stores them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rag_assets.evaluation.embedded_rows import embedded_rows, unit_vectors
from rag_assets.pipeline import progress
from rag_assets.pipeline.access import AccessScope
from rag_assets.pipeline.filters import Filters
from rag_assets.pipeline.hits import Hit
from rag_assets.pipeline.nearest import Recall, dense_scores, sparse_scores
from rag_assets.pipeline.relevance import (
    CUTOFF,
    MEASURES,
    Relevant,
    confidence_interval,
    first_rank,
    query_scores,
)
from rag_assets.pipeline.vectors import Kind, Sparse
from rag_assets.search.answer import Answer
from rag_assets.search.fusion import Fusion
from rag_assets.search.request import MODES, Mode, SearchRequest, needed_kinds
from rag_assets.search.searcher import Searcher
from resources.embedding_files import sparse_rows
from resources.errors import ConfigError
from resources.files import FileStore
from resources.postgres.connection import Connection, Postgres
from resources.postgres.evaluation.evaluations import Measure, ModeResult
from resources.postgres.evaluation.retrieval_sets import RetrievalSet, queries_of, relevant_of
from resources.postgres.vectors.collections import ALL_STATES, Collection, collections
from resources.vector_stores import VectorStores

#: Results among which a known item is looked for if it is not among the first ten.
DEPTH = 50
#: Queries whose judgements are read at once.
QUERIES = 200
#: Queries whose exact neighbours are computed.
EXACT_QUERIES = 100

ANN_RECALL = "ANN recall@10"
_PERCENTILES = {"p50 ms": 50, "p95 ms": 95, "p99 ms": 99}


@dataclass
class _Observations:
    """The observations of one mode, one entry per query."""

    ids: list[str] = field(default_factory=list)
    ranks: list[int] = field(default_factory=list)
    milliseconds: list[float] = field(default_factory=list)
    scores: list[dict[str, float]] = field(default_factory=list)


def measuring_searcher(
    database: Postgres,
    stores: VectorStores,
    *,
    kinds: tuple[Kind, ...] | None = None,
    collections: Mapping[Kind, str] | None = None,
    fusion: Fusion = "weighted",
) -> Searcher:
    """Return a searcher with the users' configuration whose searches are not counted.

    `kinds` (default: all that are kept) and `collections` (default: the serving ones) limit it to some collections.
    """
    return Searcher.open(
        database,
        stores.milvus,
        stores.model.embedder,
        stores.model.fingerprint,
        kinds=kinds or stores.model.kinds,
        dense_params=stores.index.dense_search,
        timeout=stores.milvus.timeout,
        collections=collections,
        fusion=fusion,
        counted=False,
    )


@dataclass(frozen=True)
class Evaluator:
    """`connection` must be in autocommit mode; `searcher` must not count its searches."""

    connection: Connection
    searcher: Searcher
    files: FileStore

    @property
    def modes(self) -> list[Mode]:
        """The modes whose vectors are kept."""
        return [mode for mode in MODES if set(needed_kinds(mode)) <= set(self.searcher.kinds)]

    def evaluate(
        self, query_set: RetrievalSet, limit: int | None = None
    ) -> tuple[list[ModeResult], int]:
        """A result for each mode, and the number of outdated queries, whose answers the source no longer has.

        No results if all queries are outdated. `limit`: use only the first queries, as a sample. Memory: some hundred
        bytes per query, for its numbers; its hits are not kept.
        """
        queries = queries_of(self.connection, query_set.id)[:limit]
        self.searcher.milvus.wait_for_flush()
        observations: dict[Mode, _Observations] = {mode: _Observations() for mode in self.modes}
        for start in range(0, len(queries), QUERIES):
            batch = queries[start : start + QUERIES]
            self._run_queries(query_set, batch, observations)
            done = start + len(batch)
            progress.report("retrieval_evaluation", query_set.name, done, len(queries))
        answered = set(observations[self.modes[0]].ids)
        sample = [text for query, text in queries if query in answered][:EXACT_QUERIES]
        recall = {kind: self._ann_recall(kind, query_set, sample) for kind in self.searcher.kinds}
        results = [
            _result(mode, item, recall.get(mode))  # pyright: ignore[reportArgumentType, reportCallIssue]
            for mode, item in observations.items()
            if item.ids
        ]
        return results, len(queries) - len(answered)

    # Queries ---------------------------------------------------------------------------------------------------

    def _run_queries(
        self,
        query_set: RetrievalSet,
        queries: Sequence[tuple[str, str]],
        observations: Mapping[Mode, _Observations],
    ) -> None:
        relevant = relevant_of(self.connection, query_set, [query for query, _ in queries])
        results: dict[Mode, dict[str, list[frozenset[str]]]] = {mode: {} for mode in observations}
        for query, text in queries:
            if query not in relevant:
                continue
            for mode, answer in self._answers(query_set, query, text, observations).items():
                labels = [_labels(query_set, hit) for hit in answer.hits]
                results[mode][query] = labels
                rank = first_rank(labels, relevant[query])
                if query_set.known_items and not rank:
                    rank = self._deeper_rank(query_set, text, mode, relevant[query])
                seen = observations[mode]
                seen.ids.append(query)
                seen.ranks.append(rank)
                seen.milliseconds.append(answer.milliseconds)
        for mode, seen in observations.items():
            scores = query_scores(relevant, results[mode])
            seen.scores += [scores[query] for query in results[mode]]

    def _answers(
        self,
        query_set: RetrievalSet,
        query: str,
        text: str,
        observations: Mapping[Mode, _Observations],
    ) -> dict[Mode, Answer]:
        request = SearchRequest(
            text,
            k=CUTOFF,
            filters=Filters(source=(query_set.source,)),
            by_document=not query_set.by_passage,
        )
        try:
            # Warm up before the first query: open connections, load indexes.
            if not observations[self.modes[0]].ids:
                self.searcher.answers(request, self.modes, AccessScope.owner())
            return self.searcher.answers(request, self.modes, AccessScope.owner())
        except ConfigError as error:
            raise ConfigError(f"Set {query_set.name}, query {query}: {error}") from error

    def _deeper_rank(
        self, query_set: RetrievalSet, text: str, mode: Mode, relevant: Sequence[Relevant]
    ) -> int:
        filters = Filters(source=(query_set.source,))
        request = SearchRequest(text, k=DEPTH, mode=mode, filters=filters)
        hits = self.searcher.search(request, AccessScope.owner())
        return first_rank([_labels(query_set, hit) for hit in hits], relevant)

    # Indexes ---------------------------------------------------------------------------------------------------

    def _ann_recall(
        self, kind: Kind, query_set: RetrievalSet, texts: Sequence[str]
    ) -> float | None:
        """Recall of the kind's index against exact search over the acknowledged vectors in Parquet.

        None for multi-vectors, whose neighbours are tokens.
        """
        if kind == "multi" or not texts:
            return None
        collection = self._collection(kind)
        owner = AccessScope.owner()
        vectors = [self.searcher.queries.embed(text, (kind,), owner) for text in texts]
        if kind == "dense":
            dense = np.concatenate([item.dense for item in vectors if item.dense is not None])
            queries: Any = list(dense)
        else:
            sparse = _concatenated([item.sparse for item in vectors if item.sparse is not None])
            queries = [
                dict(zip(item.sparse.indices.tolist(), item.sparse.values.tolist()))
                for item in vectors
                if item.sparse is not None and len(item.sparse.indices)
            ]
        condition = Filters(source=(query_set.source,)).expression()
        params = self.searcher.dense_params if kind == "dense" else {}
        results = [
            [
                hit["id"].rsplit("_", 1)[0]
                for hit in self.searcher.milvus.search(
                    collection.name, query, limit=CUTOFF, params=params, filter=condition
                )
            ]
            for query in queries
        ]
        recall = Recall(results, CUTOFF, only_positive=kind == "sparse")
        for ids, table in embedded_rows(
            self.connection, self.files, collection, query_set.source_id
        ):
            if kind == "dense":
                recall.add(ids, dense_scores(dense, unit_vectors(table)))
            else:
                recall.add(ids, sparse_scores(sparse, sparse_rows(table)))
        return recall.value()

    def _collection(self, kind: Kind) -> Collection:
        """The collection that the searcher uses."""
        name = self.searcher.collections.instead.get(kind)
        states = ALL_STATES if name else ("serving",)
        candidates = collections(self.connection, kind=kind, states=states)
        return next(item for item in candidates if name in (None, item.name))


def _labels(query_set: RetrievalSet, hit: Hit) -> frozenset[str]:
    if query_set.by_passage:
        return frozenset([hit.chunk_id])
    return frozenset([hit.key, *(holder.key for holder in hit.also_in)])


def _concatenated(vectors: Sequence[Sparse]) -> Sparse:
    """One matrix of the vectors that have terms."""
    vectors = [item for item in vectors if len(item.indices)]
    lengths = [len(item.indices) for item in vectors]
    return Sparse(
        np.cumsum([0, *lengths]).astype(np.int64),
        np.concatenate([np.zeros(0, np.uint32), *(item.indices for item in vectors)]),
        np.concatenate([np.zeros(0, np.float32), *(item.values for item in vectors)]),
    )


def _result(mode: Mode, seen: _Observations, recall: float | None) -> ModeResult:
    measures = {}
    for name in MEASURES:
        values = np.array([scores[name] for scores in seen.scores])
        measures[name] = Measure(float(values.mean()), *confidence_interval(values))
    if recall is not None:
        measures[ANN_RECALL] = Measure(recall)
    for name, percent in _PERCENTILES.items():
        measures[name] = Measure(float(np.percentile(seen.milliseconds, percent)))
    ndcg = np.array([scores["nDCG@10"] for scores in seen.scores])
    return ModeResult(mode, measures, seen.ids, np.array(seen.ranks, np.int32), ndcg)
