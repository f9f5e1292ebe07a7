"""What is kept of one segment of Milvus Lite: masks of filters, sparse postings, sketches. Segments never change."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

import numpy as np

from resources.embedded.kept import Kept
from resources.embedded.milvus_lite_internals import evaluate_segment_filter
from resources.embedded.sketches import Sketch, begin
from resources.embedded.sparse_postings import Postings

#: Filters kept of a segment: a bit for each of its rows and filter, at most 3 MB at 100,000 rows.
FILTERS = 256


class SegmentRows:
    """What is kept of one segment."""

    def __init__(self, segment: Any) -> None:
        self.segment = segment
        self._filters: Kept[int, tuple[Any, np.ndarray]] = Kept(FILTERS)
        self._postings: dict[str, Postings | None] = {}
        self._sketches: dict[str, Future[Sketch | None]] = {}

    def sketch(self, field_name: str) -> Sketch | None:
        """Return the sketch of a field; None until it is made, which the first call begins."""
        if (sketch := self._sketches.get(field_name)) is None:
            vectors, _ = self.segment.vector_data(field_name)
            sketch = self._sketches.setdefault(field_name, begin(vectors))
        return sketch.result() if sketch.done() else None

    def filter_mask(self, compiled: Any, plan: Any) -> np.ndarray:
        # Milvus Lite keeps compiled expressions. The value contains it, so that its id is not given to another one.
        _, bits = self._filters.get(
            id(compiled),
            lambda: (
                compiled,
                np.packbits(evaluate_segment_filter(self.segment, compiled, plan)),
            ),
        )
        return np.unpackbits(bits, count=self.segment.num_rows).view(bool)

    def postings(self, field_name: str) -> Postings | None:
        """Return the postings of a sparse field; None if only Milvus Lite can read its values."""
        if field_name not in self._postings:
            column = self.segment.table.column(field_name)
            self._postings[field_name] = Postings.of_column(column)
        return self._postings[field_name]
