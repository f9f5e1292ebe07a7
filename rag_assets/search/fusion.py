"""Fusion of a hybrid's dense and sparse candidates into one ranking. Pure numbers; `pipeline.ranking` has the sums."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from rag_assets.pipeline.ranking import reciprocal_rank_fusion, scaled, weighted_fusion
from rag_assets.pipeline.vectors import Kind
from rag_assets.search.calibration import FirstStage, Judge, QueryTerms, Scored

#: How a hybrid joins its lists: by their scores, or by reciprocal ranks.
Fusion = Literal["weighted", "rrf"]

#: Weight of the cosine, scaled to 0…1 in its list, beside the coverage of lexical sparse vectors, for models that were
#: not measured: with it e5, USE and all-MiniLM-L6-v2 are within .008 of the nDCG@10 of their best weights, and .017
#: across languages.
DENSE_WEIGHT = 0.12


@dataclass(frozen=True)
class FusionRule:
    """How the candidates of one query are fused: by relevance if a judge estimates it.

    Without a judge, the sparse scores are scaled to the greatest that `terms` allow, and the dense ones to 0…1 among
    the candidates; and without `terms`, both, with equal weights.
    """

    fusion: Fusion = "weighted"
    judge: Judge | None = None
    terms: QueryTerms | None = None

    def fuse(self, stages: Mapping[Kind, FirstStage]) -> Scored:
        dense, sparse = stages["dense"], stages["sparse"]
        if self.fusion == "rrf":
            return reciprocal_rank_fusion(
                [[chunk for chunk, _ in stage.scored] for stage in (dense, sparse)]
            )
        if self.judge is not None:
            return sorted(self.judge.relevances(stages).items(), key=lambda item: -item[1])
        if self.terms is None:
            return weighted_fusion([dense.scored, sparse.scored], [0.5, 0.5])
        of_dense, of_sparse = scaled(dense.scored), dict(sparse.scored)
        scores = {
            chunk: DENSE_WEIGHT * of_dense.get(chunk, 0.0)
            + (1 - DENSE_WEIGHT)
            * self.terms.coverage(of_sparse.get(chunk, sparse.greatest_of_others))
            for chunk in of_dense | of_sparse
        }
        return sorted(scores.items(), key=lambda item: -item[1])
