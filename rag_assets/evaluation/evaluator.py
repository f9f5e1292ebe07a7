"""Measures how good retrieval is: the queries of a set through the searcher, and its indexes beside exact search.

What was measured is judged in `retrieval_quality`, and kept by the asset `retrieval_evaluation`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rag_assets.evaluation.embedded_rows import embedded_rows, unit_vectors
from rag_assets.pipeline import progress
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
from rag_assets.search.candidates import MODES, Mode, needed_kinds
from rag_assets.search.searcher import Answer, Searcher
from resources.dagster_resources import EmbedderResource, MilvusResource
from resources.embedding_files import sparse_rows
from resources.errors import ConfigError
from resources.files import FileStore
from resources.milvus.store import MilvusStore
from resources.postgres.connection import Connection, Postgres
from resources.postgres.evaluation.evaluations import Measure, ModeResult
from resources.postgres.evaluation.retrieval_sets import RetrievalSet, queries_of, relevant_of
from resources.postgres.vectors.collections import ALL_STATES, Collection, collections

#: How far down a known item is looked for that is not among the first ten.
DEPTH = 50
#: Queries whose judgements are read at a time.
QUERIES = 200
#: Queries whose exact neighbours are computed.
EXACT_QUERIES = 100

ANN_RECALL = "ANN recall@10"
_PERCENTILES = {"p50 ms": 50, "p95 ms": 95, "p99 ms": 99}


@dataclass
class _Seen:
    """Of one mode, query by query."""

    ids: list[str] = field(default_factory=list)
    ranks: list[int] = field(default_factory=list)
    milliseconds: list[float] = field(default_factory=list)
    scores: list[dict[str, float]] = field(default_factory=list)


def measuring_searcher(
    database: Postgres,
    store: MilvusStore,
    milvus: MilvusResource,
    embedder: EmbedderResource,
    **options: Any,
) -> Searcher:
    """A searcher as users have it, whose searches do not count."""
    kinds: Any = tuple(embedder.kinds)
    given: dict[str, Any] = {"kinds": kinds, "timeout": milvus.timeout, "counted": False} | options
    return Searcher(
        database,
        store,
        embedder.open(),
        embedder.fingerprint(),
        dense_params=milvus.dense_search,
        **given,
    )


@dataclass(frozen=True)
class Evaluator:
    """`connection` must be in autocommit mode; `searcher` one that does not count what it finds."""

    connection: Connection
    searcher: Searcher
    files: FileStore

    @property
    def modes(self) -> list[Mode]:
        """Those whose vectors are kept."""
        return [mode for mode in MODES if set(needed_kinds(mode)) <= set(self.searcher.kinds)]

    def evaluate(
        self, known: RetrievalSet, limit: int | None = None
    ) -> tuple[list[ModeResult], int]:
        """A result for each mode, and how many queries are outdated: the source no longer has what they ask for.

        No results where all are. `limit`: so many queries, a sample. Numbers of a query are kept in memory, not its
        results: some hundred bytes a query.
        """
        queries = queries_of(self.connection, known.id)[:limit]
        self.searcher.milvus.rest()
        seen: dict[Mode, _Seen] = {mode: _Seen() for mode in self.modes}
        for start in range(0, len(queries), QUERIES):
            part = queries[start : start + QUERIES]
            self._ask(known, part, seen)
            progress.report("retrieval_evaluation", known.name, start + len(part), len(queries))
        asked = set(seen[self.modes[0]].ids)
        sample = [text for query, text in queries if query in asked][:EXACT_QUERIES]
        recall = {kind: self._ann_recall(kind, known, sample) for kind in self.searcher.kinds}
        results = [
            _result(mode, found, recall.get(mode))  # pyright: ignore[reportArgumentType, reportCallIssue]
            for mode, found in seen.items()
            if found.ids
        ]
        return results, len(queries) - len(asked)

    # Queries ---------------------------------------------------------------------------------------------------

    def _ask(
        self, known: RetrievalSet, queries: Sequence[tuple[str, str]], seen: Mapping[Mode, _Seen]
    ) -> None:
        relevant = relevant_of(self.connection, known, [query for query, _ in queries])
        results: dict[Mode, dict[str, list[frozenset[str]]]] = {mode: {} for mode in seen}
        for query, text in queries:
            if query not in relevant:
                continue
            for mode, answer in self._answers(known, query, text, seen).items():
                found = [_labels(known, hit) for hit in answer.hits]
                results[mode][query] = found
                rank = first_rank(found, relevant[query])
                if known.known_items and not rank:
                    rank = self._further_down(known, text, mode, relevant[query])
                seen[mode].ids.append(query)
                seen[mode].ranks.append(rank)
                seen[mode].milliseconds.append(sum(stage.milliseconds for stage in answer.stages))
        for mode, found in seen.items():
            scores = query_scores(relevant, results[mode])
            found.scores += [scores[query] for query in results[mode]]

    def _answers(
        self, known: RetrievalSet, query: str, text: str, seen: Mapping[Mode, _Seen]
    ) -> dict[Mode, Answer]:
        options: dict[str, Any] = {
            "k": CUTOFF,
            "filters": Filters(source=(known.source,)),
            "by_document": not known.by_passage,
        }
        try:
            if not seen[self.modes[0]].ids:  # connections are opened, indexes loaded
                self.searcher.answers(text, self.modes, **options)
            return self.searcher.answers(text, self.modes, **options)
        except ConfigError as error:
            raise ConfigError(f"Set {known.name}, query {query}: {error}") from error

    def _further_down(
        self, known: RetrievalSet, text: str, mode: Mode, relevant: Sequence[Relevant]
    ) -> int:
        filters = Filters(source=(known.source,))
        hits = self.searcher.search(text, mode=mode, k=DEPTH, filters=filters)
        return first_rank([_labels(known, hit) for hit in hits], relevant)

    # Indexes ---------------------------------------------------------------------------------------------------

    def _ann_recall(self, kind: Kind, known: RetrievalSet, texts: Sequence[str]) -> float | None:
        """Of the index of a kind, by the vectors in Parquet of what it acknowledged. Not of multi-vectors, whose
        neighbours are tokens."""
        if kind == "multi" or not texts:
            return None
        collection = self._collection(kind)
        vectors = [self.searcher.embed(text, (kind,)) for text in texts]
        if kind == "dense":
            dense = np.concatenate([each.dense for each in vectors if each.dense is not None])
            queries: Any = list(dense)
        else:
            sparse = _together([each.sparse for each in vectors if each.sparse is not None])
            queries = [
                dict(zip(each.sparse.indices.tolist(), each.sparse.values.tolist()))
                for each in vectors
                if each.sparse is not None and len(each.sparse.indices)
            ]
        limits = Filters(source=(known.source,)).expression()
        params = self.searcher.dense_params if kind == "dense" else {}
        found = [
            [
                hit["id"].rsplit("_", 1)[0]
                for hit in self.searcher.milvus.search(
                    collection.name, query, limit=CUTOFF, params=params, filter=limits
                )
            ]
            for query in queries
        ]
        recall = Recall(found, CUTOFF, only_positive=kind == "sparse")
        for ids, table in embedded_rows(self.connection, self.files, collection, known.source_id):
            if kind == "dense":
                recall.add(ids, dense_scores(dense, unit_vectors(table)))
            else:
                recall.add(ids, sparse_scores(sparse, sparse_rows(table)))
        return recall.value()

    def _collection(self, kind: Kind) -> Collection:
        """The one that the searcher searches."""
        name = self.searcher.collections.get(kind)
        states = ALL_STATES if name else ("serving",)
        known = collections(self.connection, kind=kind, states=states)
        return next(each for each in known if name in (None, each.name))


def _labels(known: RetrievalSet, hit: Hit) -> frozenset[str]:
    if known.by_passage:
        return frozenset([hit.chunk_id])
    return frozenset([hit.key, *(holder.key for holder in hit.also_in)])


def _together(vectors: Sequence[Sparse]) -> Sparse:
    """Those that have terms, one below the other."""
    vectors = [each for each in vectors if len(each.indices)]
    lengths = [len(each.indices) for each in vectors]
    return Sparse(
        np.cumsum([0, *lengths]).astype(np.int64),
        np.concatenate([np.zeros(0, np.uint32), *(each.indices for each in vectors)]),
        np.concatenate([np.zeros(0, np.float32), *(each.values for each in vectors)]),
    )


def _result(mode: Mode, seen: _Seen, recall: float | None) -> ModeResult:
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
