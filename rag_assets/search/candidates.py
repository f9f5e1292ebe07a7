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

from rag_assets.pipeline.access import AccessScope
from rag_assets.pipeline.filters import Filters
from rag_assets.pipeline.index_kinds import wide_enough
from rag_assets.pipeline.ranking import rank_by_maxsim, reciprocal_rank_fusion, weighted_fusion
from rag_assets.pipeline.vectors import Embeddings, Kind
from rag_assets.search.batches import Batches
from rag_assets.search.request import Mode, needed_kinds
from resources.milvus.store import MilvusStore

#: (chunk id, score), best first.
Scored = Sequence[tuple[str, float]]

#: Rows of a Milvus search: dicts of id, distance, entity.
Hits = list[dict[str, Any]]
#: Searches of several threads that share requests.
SearchBatches = Batches[object, Hits]

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
    """`complete`: no stage left out an eligible row."""

    scored: Scored
    stages: list[Stage]
    complete: bool


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

    def rank(
        self, mode: Mode, wanted: int, *, weights: Mapping[Kind, float] | None, rerank: bool
    ) -> Ranking:
        """Return at least `wanted` candidates of each first stage, ranked.

        `weights`: of the scores of a hybrid; None ranks by reciprocal ranks.
        """
        kinds = needed_kinds(mode)
        # The radius of a hybrid must not change the scores that are fused: it is applied to the result.
        unlimited = replace(self, radius=None) if mode == "hybrid" else self
        firsts = unlimited._first_stages(kinds, wanted)
        stages = [stage for stage, _ in firsts]
        complete = all(whole for _, whole in firsts)
        if mode == "hybrid":
            with timed("fusion") as stage:
                scores = [first.scores for first in stages]
                stage.scores = (
                    reciprocal_rank_fusion([[chunk for chunk, _ in scored] for scored in scores])
                    if weights is None
                    else weighted_fusion(scores, [weights[kind] for kind in kinds])
                )
                if self.radius is not None:
                    stage.scores, within = _above(self.radius, scores[0], stage.scores)
                    complete = complete or within
            stages.append(stage)
        if rerank or mode == "multi":
            chunks = [chunk for chunk, _ in stages[-1].scores]
            complete = complete and len(chunks) <= RERANKED
            with timed("maxsim") as stage:
                stage.scores = self._by_maxsim(chunks[:RERANKED])
            stages.append(stage)
        return Ranking(stages[-1].scores, stages, complete)

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
            vector: object = self.query.dense[0]
            params = wide_enough(self.dense_params, limit)
        else:
            assert self.query.sparse is not None
            sparse = self.query.sparse
            vector = dict(zip(sparse.indices.tolist(), sparse.values.tolist(), strict=True))
        if self.radius is not None:
            params = {**params, "radius": self.radius}
        hits = self._search(kind, vector, limit, params)
        scores = {hit["id"].rsplit("_", 1)[0]: float(hit["distance"]) for hit in hits}
        return _ranked(scores), len(hits) < limit

    def _near_any_token(self, limit: int) -> tuple[Scored, bool]:
        """Return chunks near the query's first tokens, scored by the sum of each token's best match."""
        assert self.query.multi is not None
        params, complete = wide_enough(self.dense_params, limit), True
        sums: dict[str, float] = {}
        for vector in self.query.multi.vectors[:SEARCHED_TOKENS]:
            best: dict[str, float] = {}
            hits = self._search("multi", vector, limit, params, ("id", "chunk_id"))
            complete = complete and len(hits) < limit
            for hit in hits:
                chunk = hit["entity"]["chunk_id"]
                best[chunk] = max(best.get(chunk, 0.0), float(hit["distance"]))
            for chunk, score in best.items():
                sums[chunk] = sums.get(chunk, 0.0) + score
        return _ranked(sums), complete

    def _search(
        self,
        kind: Kind,
        vector: object,
        limit: int,
        params: Mapping[str, object],
        output_fields: Sequence[str] = ("id",),
    ) -> Hits:
        limits = self.scope.restrict(self.filters)
        if limits is None:
            return []
        name, expression = self.names[kind], limits.expression()

        def send(vectors: list[object]) -> list[Hits]:
            return self.milvus.search_together(
                name,
                vectors,
                limit=limit,
                params=params,
                filter=expression,
                output_fields=output_fields,
            )

        # The expression contains the scope: searches of other accounts never share a request.
        key = (name, expression, limit, tuple(sorted(params.items())), tuple(output_fields))
        return self.batches.call(key, vector, send)

    def _by_maxsim(self, chunks: Sequence[str]) -> Scored:
        assert self.query.multi is not None
        rows = self.milvus.token_vectors(self.names["multi"], chunks) if chunks else {}
        documents = {chunk: rows[chunk] for chunk in chunks if chunk in rows}
        return rank_by_maxsim(np.asarray(self.query.multi.vectors), documents)


def _above(radius: float, dense: Scored, fused: Scored) -> tuple[Scored, bool]:
    """Return the fused chunks whose dense score is above the radius, and whether `dense` contains all such chunks."""
    scores = dict(dense)
    kept = [(chunk, score) for chunk, score in fused if scores.get(chunk, radius) > radius]
    return kept, any(score <= radius for score in scores.values())


def _ranked(scores: Mapping[str, float]) -> Scored:
    """Return the chunks, best first, without those that have nothing in common with the query (score 0).

    Milvus returns equal scores in any order, and pages must follow one another.
    """
    ranked = sorted(scores.items(), key=lambda item: (-item[1], item[0]))
    return [(chunk, score) for chunk, score in ranked if score != 0 and _is_chunk(chunk)]


def _is_chunk(row_id: str) -> bool:
    """Return whether the id is a chunk's: rows that others wrote to Milvus may have any id."""
    return _CHUNK_ID.fullmatch(row_id) is not None
