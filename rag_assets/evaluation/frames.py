"""Evaluations as data frames: their measures, and the results of their single queries."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, overload

from resources.frames import Records
from resources.postgres.evaluation.evaluations import Evaluation

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa


@dataclass(frozen=True, slots=True)
class MeasureRow:
    """A measure of one mode in one evaluation. `lower`, `upper`: the 95 % confidence interval of a mean."""

    evaluation: int
    set_name: str
    source: str
    model: str
    measured_at: datetime
    accepted_at: datetime | None
    queries: int
    outdated: int
    mode: str
    measure: str
    value: float
    lower: float | None
    upper: float | None


@dataclass(frozen=True, slots=True)
class QueryRow:
    """The result of one query in one mode. `rank`: of the first relevant hit (0: none)."""

    evaluation: int
    set_name: str
    mode: str
    query_id: str
    rank: int
    ndcg: float


class Evaluations(Sequence[Evaluation]):
    """Evaluations in order. As a frame: one row for each evaluation, mode and measure."""

    def __init__(self, evaluations: Iterable[Evaluation]) -> None:
        self._evaluations = tuple(evaluations)

    def __len__(self) -> int:
        return len(self._evaluations)

    @overload
    def __getitem__(self, index: int) -> Evaluation: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Evaluation, ...]: ...
    def __getitem__(self, index: int | slice) -> Evaluation | tuple[Evaluation, ...]:
        return self._evaluations[index]

    @property
    def measures(self) -> Records[MeasureRow]:
        """The measures: one record for each evaluation, mode and measure."""
        return Records(MeasureRow, self._measure_rows())

    @property
    def query_results(self) -> Records[QueryRow]:
        """The results of single queries: one record for each evaluation, mode and query. Empty if not read."""
        return Records(QueryRow, self._query_rows())

    def to_pandas(self) -> pd.DataFrame:
        """Return the measures as a pandas DataFrame."""
        return self.measures.to_pandas()

    def to_arrow(self) -> pa.Table:
        """Return the measures as a pyarrow Table."""
        return self.measures.to_arrow()

    def _measure_rows(self) -> Iterator[MeasureRow]:
        for item in self._evaluations:
            for mode, result in item.modes.items():
                for name, measure in result.measures.items():
                    yield MeasureRow(
                        item.id,
                        item.set_name,
                        item.source,
                        item.model,
                        item.measured_at,
                        item.accepted_at,
                        item.queries,
                        item.outdated,
                        mode,
                        name,
                        measure.value,
                        measure.lower,
                        measure.upper,
                    )

    def _query_rows(self) -> Iterator[QueryRow]:
        for item in self._evaluations:
            for mode, result in item.modes.items():
                for query, rank, ndcg in zip(
                    result.query_ids, result.ranks.tolist(), result.ndcg.tolist()
                ):
                    yield QueryRow(item.id, item.set_name, mode, query, rank, ndcg)
