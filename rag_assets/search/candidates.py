"""The stages of a search that read Milvus: chunk ids in order, with their scores. No text and no PostgreSQL."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rag_assets.pipeline.access import AccessScope
from rag_assets.pipeline.filters import Filters
from rag_assets.pipeline.index_kinds import wide_enough
from rag_assets.pipeline.ranking import rank_by_maxsim
from rag_assets.pipeline.vectors import Embeddings, Kind
from rag_assets.search.batches import Batches
from rag_assets.search.calibration import FirstStage, Scored
from rag_assets.search.fusion import FusionRule
from rag_assets.search.request import Mode, needed_kinds
from resources.milvus.search_request import Nearest
from resources.milvus.store import MilvusStore
from resources.milvus.upsert_request import sparse_bytes

#: Searches of several threads that share requests.
SearchBatches = Batches[bytes, Nearest]

_CHUNK_ID = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

#: Query tokens for which a multi-vector search searches; the others count in the re-ranking only.
SEARCHED_TOKENS = 16
#: Chunks whose token vectors are read for the exact MaxSim.
RERANKED = 30


@dataclass
class Stage:
    """The duration and the scores of one stage, for explanations."""

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


@dataclass(frozen=True)
class Ranking:
    """`complete`: no stage left out an eligible row. `relevances`: of each candidate, or None."""

    scored: Scored
    stages: list[Stage]
    complete: bool
    relevances: Mapping[str, float] | None = None

    def fits(self, chunk: str, least: float) -> bool:
        return self.relevances is None or self.relevances[chunk] >= least

    def fitting(self, least: float) -> Scored:
        """Return the candidates that are relevant enough."""
        return [(chunk, score) for chunk, score in self.scored if self.fits(chunk, least)]

    def reaches_below(self, least: float) -> bool:
        """Return whether a candidate is less relevant: then every row that is no candidate is, too."""
        return self.relevances is not None and any(
            relevance < least for relevance in self.relevances.values()
        )


@dataclass(frozen=True)
class Candidates:
    """One query on the collections `names`, under the filters and the scope of its search.

    `executor`: makes the requests beside the first one; the first stages of a hybrid run at the same time.
    `batches`: joins the requests of searches that differ in the query only.
    """

    milvus: MilvusStore
    names: Mapping[Kind, str]
    query: Embeddings
    dense_params: Mapping[str, object]
    filters: Filters
    scope: AccessScope
    executor: Executor
    batches: SearchBatches = field(default_factory=SearchBatches)
    radius: float | None = None

    def rank(self, mode: Mode, wanted: int, *, rule: FusionRule, rerank: bool) -> Ranking:
        """Return at least `wanted` candidates of each first stage, ranked; a hybrid by the rule."""
        kinds = needed_kinds(mode)
        # The radius of a hybrid must not change the scores that are fused: it is applied to the result.
        unlimited = replace(self, radius=None) if mode == "hybrid" else self
        firsts = unlimited._first_stages(kinds, wanted)
        stages = [stage for stage, _ in firsts]
        complete = all(whole for _, whole in firsts)
        candidates: dict[Kind, FirstStage] = {
            kind: FirstStage(stage.scores, whole) for kind, (stage, whole) in zip(kinds, firsts)
        }
        if mode == "hybrid":
            with timed("fusion") as stage:
                stage.scores = rule.fuse(candidates)
                if self.radius is not None:
                    dense = candidates["dense"].scored
                    stage.scores, within = _above(self.radius, dense, stage.scores)
                    complete = complete or within
            stages.append(stage)
        if rerank or mode == "multi":
            chunks = [chunk for chunk, _ in stages[-1].scores]
            complete = complete and len(chunks) <= RERANKED
            with timed("maxsim") as stage:
                stage.scores = self._by_maxsim(chunks[:RERANKED])
            stages.append(stage)
        relevances = rule.judge.relevances(candidates) if rule.judge else None
        return Ranking(stages[-1].scores, stages, complete, relevances)

    def _first_stages(self, kinds: Sequence[Kind], wanted: int) -> list[tuple[Stage, bool]]:
        """Return the stage of each kind, and whether it is complete; all requests are under way at the same time."""
        if len(kinds) > 1:
            # Connect before two threads need the connection: on Python 3.12 and later each would make its own.
            _ = self.milvus.client
        others = [self.executor.submit(self._first_stage, kind, wanted) for kind in kinds[1:]]
        try:
            stages = [self._first_stage(kinds[0], wanted)]
            for kind, other in zip(kinds[1:], others, strict=True):
                # A request that still waits for a thread is made here: a full executor costs no more than no executor.
                stages.append(self._first_stage(kind, wanted) if other.cancel() else other.result())
            return stages
        finally:
            for other in others:
                other.cancel()

    def _first_stage(self, kind: Kind, wanted: int) -> tuple[Stage, bool]:
        with timed(kind) as stage:
            stage.scores, complete = (
                self._near_any_token(wanted) if kind == "multi" else self._nearest(kind, wanted)
            )
        return stage, complete

    def _nearest(self, kind: Kind, limit: int) -> tuple[Scored, bool]:
        params: Mapping[str, object] = {}
        if kind == "dense":
            assert self.query.dense is not None
            (query,) = _bytes_of(self.query.dense)
            params = wide_enough(self.dense_params, limit)
        else:
            assert self.query.sparse is not None
            (query,) = sparse_bytes(self.query.sparse)
        if self.radius is not None:
            params = {**params, "radius": self.radius}
        limits = self.scope.restrict(self.filters)
        if limits is None:
            return (), True
        expression = limits.expression()

        def send(queries: list[bytes]) -> list[Nearest]:
            return self._search(kind, queries, limit, params, expression)

        # The expression contains the scope: searches of other accounts never share a request.
        key = (self.names[kind], expression, limit, tuple(sorted(params.items())))
        rows = self.batches.call(key, query, send)
        scores = {row_id.rsplit("_", 1)[0]: score for row_id, score in rows}
        return _ranked(scores), len(rows) < limit

    def _near_any_token(self, limit: int) -> tuple[Scored, bool]:
        """Return chunks near the query's first tokens, scored by the sum of each token's best match."""
        assert self.query.multi is not None
        limits = self.scope.restrict(self.filters)
        if limits is None:
            return (), True
        queries = _bytes_of(self.query.multi.vectors[:SEARCHED_TOKENS])
        params = wide_enough(self.dense_params, limit)
        rows_by_token = self._search("multi", queries, limit, params, limits.expression())
        sums: dict[str, float] = {}
        for rows in rows_by_token:
            best: dict[str, float] = {}
            for row_id, score in rows:
                chunk = row_id.rsplit("_", 2)[0]
                best[chunk] = max(best.get(chunk, 0.0), score)
            for chunk, score in best.items():
                sums[chunk] = sums.get(chunk, 0.0) + score
        return _ranked(sums), all(len(rows) < limit for rows in rows_by_token)

    def _search(
        self,
        kind: Kind,
        queries: Sequence[bytes],
        limit: int,
        params: Mapping[str, object],
        expression: str,
    ) -> list[Nearest]:
        return self.milvus.nearest(
            self.names[kind], kind, queries, limit=limit, params=params, filter=expression
        )

    def _by_maxsim(self, chunks: Sequence[str]) -> Scored:
        assert self.query.multi is not None
        rows = self.milvus.token_vectors(self.names["multi"], chunks) if chunks else {}
        documents = {chunk: rows[chunk] for chunk in chunks if chunk in rows}
        return rank_by_maxsim(np.asarray(self.query.multi.vectors), documents)


def _bytes_of(vectors: NDArray[np.float32]) -> list[bytes]:
    return [vector.tobytes() for vector in np.asarray(vectors, "<f4")]


def _above(radius: float, dense: Scored, fused: Scored) -> tuple[Scored, bool]:
    """Return the fused chunks whose dense score is above the radius, and whether `dense` contains all such chunks."""
    scores = dict(dense)
    kept = [(chunk, score) for chunk, score in fused if scores.get(chunk, radius) > radius]
    return kept, any(score <= radius for score in scores.values())


def _ranked(scores: Mapping[str, float]) -> Scored:
    """Return the chunks, best first, without those that have nothing in common with the query (score 0).

    Milvus returns equal scores in any order, and pages must follow one another.
    """
    ranked = sorted([(-score, chunk) for chunk, score in scores.items() if score != 0])
    return [(chunk, -score) for score, chunk in ranked if _is_chunk(chunk)]


def _is_chunk(row_id: str) -> bool:
    """Return whether the id is a chunk's: rows that others wrote to Milvus may have any id."""
    return _CHUNK_ID.fullmatch(row_id) is not None
