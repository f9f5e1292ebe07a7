"""The stages of a search that ask Milvus: which chunks, in which order, with which scores.

No text and no PostgreSQL.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np

from rag_assets.pipeline.index_kinds import wide_enough
from rag_assets.pipeline.ranking import rank_by_maxsim, reciprocal_rank_fusion, weighted_fusion
from rag_assets.pipeline.vectors import Embeddings, Kind
from resources.milvus.collections import ALIASES
from resources.milvus.store import MilvusStore

Mode = Literal["dense", "sparse", "hybrid", "multi"]
MODES: tuple[Mode, ...] = get_args(Mode)

#: (chunk id, score), best first.
Scored = Sequence[tuple[str, float]]

#: Query tokens that a multi-vector search asks for; the rest count in the re-ranking.
SEARCHED_TOKENS = 16
#: Chunks whose token vectors are read for the exact MaxSim.
RERANKED = 30


@dataclass
class Stage:
    """What one stage took and gave: for explanations."""

    name: str
    milliseconds: float = 0.0
    scores: Scored = ()

    def as_dict(self) -> dict[str, Any]:
        return {
            "stage": self.name,
            "milliseconds": round(self.milliseconds, 3),
            "candidates": len(self.scores),
            "scores": dict(self.scores),
        }


@contextmanager
def timed(name: str) -> Iterator[Stage]:
    stage, started = Stage(name), time.perf_counter()
    yield stage
    stage.milliseconds = (time.perf_counter() - started) * 1000


@dataclass
class Ranking:
    """`complete`: no stage left out a row that is eligible."""

    scored: Scored
    stages: list[Stage]
    complete: bool


def needed_kinds(mode: Mode, rerank: bool = False) -> tuple[Kind, ...]:
    first: tuple[Kind, ...] = ("dense", "sparse") if mode == "hybrid" else (mode,)
    return (*first, "multi") if rerank and mode != "multi" else first


@dataclass
class Candidates:
    """One query on the serving collections (or those that `names` says), under one condition (a Milvus expression)."""

    milvus: MilvusStore
    query: Embeddings
    dense_params: Mapping[str, Any]
    condition: str
    radius: float | None = None
    names: Mapping[Kind, str] = field(default_factory=lambda: ALIASES)
    _complete: bool = field(default=True, init=False)

    def rank(
        self, mode: Mode, wanted: int, *, weights: Mapping[Kind, float] | None, rerank: bool
    ) -> Ranking:
        """At least `wanted` candidates of each first stage. `weights`: of a hybrid's scores; None: reciprocal ranks."""
        self._complete = True
        stages: list[Stage] = []
        for kind in needed_kinds(mode):
            with timed(kind) as stage:
                stage.scores = (
                    self._near_any_token(wanted) if kind == "multi" else self._nearest(kind, wanted)
                )
            stages.append(stage)
        if mode == "hybrid":
            with timed("fusion") as stage:
                found = [each.scores for each in stages]
                stage.scores = (
                    reciprocal_rank_fusion([[chunk for chunk, _ in scores] for scores in found])
                    if weights is None
                    else weighted_fusion(found, [weights[kind] for kind in needed_kinds(mode)])
                )
            stages.append(stage)
        if rerank or mode == "multi":
            with timed("maxsim") as stage:
                stage.scores = self._by_maxsim([chunk for chunk, _ in stages[-1].scores])
            stages.append(stage)
        return Ranking(stages[-1].scores, stages, self._complete)

    def _nearest(self, kind: Kind, limit: int) -> Scored:
        if kind == "dense":
            assert self.query.dense is not None
            vector: Any = self.query.dense[0]
            params = wide_enough(self.dense_params, limit)
        else:
            assert self.query.sparse is not None
            sparse = self.query.sparse
            vector = dict(zip(sparse.indices.tolist(), sparse.values.tolist()))
            params = {}
        if self.radius is not None:
            params = {**params, "radius": self.radius}
        hits = self.milvus.search(
            self.names[kind], vector, limit=limit, params=params, filter=self.condition
        )
        self._complete &= len(hits) < limit
        return [(hit["id"].rsplit("_", 1)[0], float(hit["distance"])) for hit in hits]

    def _near_any_token(self, limit: int) -> Scored:
        """Chunks near the query's first tokens, by the sum of each token's best."""
        assert self.query.multi is not None
        best: dict[str, float] = {}
        for vector in self.query.multi.vectors[:SEARCHED_TOKENS]:
            near: dict[str, float] = {}
            hits = self.milvus.search(
                self.names["multi"],
                vector,
                limit=limit,
                params=wide_enough(self.dense_params, limit),
                filter=self.condition,
                output_fields=("id", "chunk_id"),
            )
            self._complete &= len(hits) < limit
            for hit in hits:
                chunk = hit["entity"]["chunk_id"]
                near[chunk] = max(near.get(chunk, 0.0), float(hit["distance"]))
            for chunk, score in near.items():
                best[chunk] = best.get(chunk, 0.0) + score
        return sorted(best.items(), key=lambda item: -item[1])

    def _by_maxsim(self, chunks: Sequence[str]) -> Scored:
        assert self.query.multi is not None
        first = chunks[:RERANKED]
        self._complete &= len(chunks) <= RERANKED
        documents = self.milvus.token_vectors(self.names["multi"], first) if first else {}
        return rank_by_maxsim(np.asarray(self.query.multi.vectors), documents)
