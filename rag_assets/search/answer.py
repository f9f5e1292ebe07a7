"""The answer of a search and its hits: assembled from a ranking, without those that are not relevant enough."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from rag_assets.pipeline.access import AccessScope
from rag_assets.pipeline.hits import ChunkText, Hit, assemble
from rag_assets.search.candidates import Ranking, Scored, Stage
from rag_assets.search.request import SearchRequest
from resources.frames import Records

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa


@dataclass(frozen=True)
class Answer:
    """The hits, best first, and the stages that made them, in `milliseconds` altogether.

    `exhausted`: no further hits follow these. In a scope of some sources, the stages list only the candidates that
    PostgreSQL confirmed to be in it. `hidden`: the hits that would fill this page, but are less relevant than
    `min_score`; `best_hidden`: the relevance of the best of them. `min_score` is None if no relevance is estimated.
    `reranked`: the request asks for it, and the reranker gave scores; else the hits are in their first order, and
    `not_reranked` is the reason.
    """

    hits: Sequence[Hit]
    stages: Sequence[Stage]
    exhausted: bool
    milliseconds: float
    reranked: bool = False
    not_reranked: str | None = None
    min_score: float | None = None
    hidden: int = 0
    best_hidden: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the answer as data for JSON."""
        return {
            "hits": [hit.as_dict() for hit in self.hits],
            "stages": [stage.as_dict() for stage in self.stages],
            "exhausted": self.exhausted,
            "milliseconds": round(self.milliseconds, 3),
            "reranked": self.reranked,
            "not_reranked": self.not_reranked,
            "min_score": self.min_score,
            "hidden": self.hidden,
            "best_hidden": self.best_hidden,
        }

    def to_pandas(self) -> pd.DataFrame:
        """Return the hits as a pandas DataFrame: one row per hit, one column per field of Hit."""
        return Records(Hit, self.hits).to_pandas()

    def to_arrow(self) -> pa.Table:
        """Return the hits as a pyarrow Table: one row per hit, one column per field of Hit."""
        return Records(Hit, self.hits).to_arrow()


def assembled(
    request: SearchRequest,
    ranking: Ranking,
    ranked: Scored,
    texts: Mapping[str, ChunkText],
    reranking: Stage | None,
) -> list[Hit]:
    """Return the hits in the order of `ranked`, with their scores in the stages of the ranking and the reranking."""
    scores = {stage.name: dict(stage.scores) for stage in ranking.stages}
    return assemble(
        ranked,
        texts,
        dense_scores=scores.get("dense", {}),
        sparse_scores=scores.get("sparse", {}),
        rerank_scores=dict(reranking.scores) if reranking else {},
        relevances=ranking.relevances or {},
        by_document=request.by_document,
    )


def shown(hits: Sequence[Hit], least: float) -> list[Hit]:
    """Return the hits that are relevant enough, ranked from 1."""
    fitting = [hit for hit in hits if hit.relevance is None or hit.relevance >= least]
    return [
        hit if hit.rank == rank else replace(hit, rank=rank) for rank, hit in enumerate(fitting, 1)
    ]


def best_below(hits: Sequence[Hit], least: float) -> float | None:
    """Return the greatest relevance below `least`; None if no hit has one."""
    return max((r for hit in hits if (r := hit.relevance) is not None and r < least), default=None)


def within(
    scope: AccessScope, stages: Sequence[Stage], texts: Mapping[str, ChunkText]
) -> list[Stage]:
    """Return the stages with the scores of confirmed chunks only: a row in Milvus may claim another source than its
    document has. The owner's explanation keeps all candidates."""
    if scope.sources is None:
        return list(stages)
    return [
        replace(stage, scores=[row for row in stage.scores if row[0] in texts]) for stage in stages
    ]
