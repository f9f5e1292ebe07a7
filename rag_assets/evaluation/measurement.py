"""One measured retrieval set: its results, recorded in PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rag_assets.evaluation.evaluator import Evaluator
from resources.errors import ConfigError
from resources.postgres.evaluation.evaluations import ModeResult, record_evaluation
from resources.postgres.evaluation.retrieval_sets import RetrievalSet


@dataclass(frozen=True)
class Measurement:
    """`number`: of the recorded evaluation. `outdated`: queries whose answer the source no longer has."""

    retrieval_set: RetrievalSet
    number: int
    results: Sequence[ModeResult]
    outdated: int

    @property
    def queries(self) -> int:
        return self.retrieval_set.queries - self.outdated


def measure_set(evaluator: Evaluator, retrieval_set: RetrievalSet, run_id: str) -> Measurement:
    """Evaluate a retrieval set and record the result. Raises ConfigError if all of its queries are outdated."""
    results, outdated = evaluator.evaluate(retrieval_set)
    name, source = retrieval_set.name, retrieval_set.source
    if not results:
        raise ConfigError(
            f"Set {name}: source {source} has none of the answers that its {retrieval_set.queries} queries expect. "
            f"Update the source: rag ingest {source}; or remove the set: rag eval remove {name}"
        )
    number = record_evaluation(
        evaluator.connection,
        retrieval_set.id,
        run_id,
        evaluator.searcher.model,
        results,
        retrieval_set.queries - outdated,
        outdated,
    )
    return Measurement(retrieval_set, number, results, outdated)
