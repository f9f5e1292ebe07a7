"""The hits of a search in Milvus Lite: the nearest rows of all sources, with the fields asked for. No index here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from resources.embedded.memory_rows import Memory
from resources.embedded.segment_rows import SegmentRows


@dataclass(frozen=True)
class Source:
    """Rows that are searched together: of a segment, or those in memory."""

    rows: SegmentRows | Memory

    @property
    def pks(self) -> Sequence[Any]:
        return self.rows.pks if isinstance(self.rows, Memory) else self.rows.segment.pks

    def record(self, row: int, columns: Sequence[str] | None) -> dict[str, Any]:
        """Return these fields of a row; None: all."""
        if isinstance(self.rows, Memory):
            table, row = self.rows.table, int(self.rows.places[row])
            assert table is not None
        elif columns is None:
            return self.rows.segment.row_to_dict(row)
        else:
            table = self.rows.segment.table
        if columns is None:
            columns = [name for name in table.column_names if name not in ("_seq", "_partition")]
        return {name: table.column(name)[row].as_py() for name in columns}


def make_hits(
    sources: Sequence[Source],
    nearest: Sequence[tuple[np.ndarray, np.ndarray]],
    top_k: int,
    output_fields: Sequence[str] | None,
    project: Callable[[dict[str, Any]], dict[str, Any]],
    pk_field: str,
    *,
    ranked: bool = False,
) -> list[dict[str, Any]]:
    """Return the nearest rows of all sources, best first. `nearest`: (rows, distances) in each source.

    Equal distances are in the order of the sources, and of the rows in them; `ranked`: in the given order.
    """
    if not sources:
        return []
    lengths = [len(rows) if ranked else int((rows >= 0).sum()) for rows, _ in nearest]
    rows = np.concatenate(
        [rows[:length] for (rows, _), length in zip(nearest, lengths, strict=True)]
    )
    distances = np.concatenate(
        [values[:length] for (_, values), length in zip(nearest, lengths, strict=True)]
    )
    numbers = np.repeat(np.arange(len(sources)), lengths)
    second = np.arange(len(rows)) if ranked else rows
    order = np.lexsort((second, numbers, distances))
    if not ranked:
        order = order[:top_k]
    columns = [_columns(source, output_fields, pk_field) for source in sources]
    pks = [source.pks for source in sources]
    nothing = project({})
    hits: list[dict[str, Any]] = []
    taken: set[Any] = set()
    best = (values[order].tolist() for values in (numbers, rows, distances))
    for number, row, distance in zip(*best, strict=True):
        pk = pks[number][row]
        if ranked and pk in taken:
            continue
        taken.add(pk)
        entity = (
            dict(nothing)
            if columns[number] == ()
            else project(sources[number].record(row, columns[number]))
        )
        hits.append({"id": pk, "distance": distance, "entity": entity})
        if len(hits) == top_k:
            break
    return hits


def _columns(
    source: Source, output_fields: Sequence[str] | None, pk_field: str
) -> Sequence[str] | None:
    """Return the columns that the output fields need beside the id; None: all, for dynamic fields and for `*`."""
    rows = source.rows
    table = rows.table if isinstance(rows, Memory) else rows.segment.table
    assert table is not None
    if output_fields is None or not set(output_fields) <= set(table.column_names) - {"$meta"}:
        return None
    return tuple(name for name in output_fields if name != pk_field)
