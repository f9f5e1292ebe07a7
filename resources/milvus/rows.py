"""Fields and ids of rows, filter expressions that find them, and validation of vectors. No server requests."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rag_assets.pipeline.filters import one_of
from rag_assets.pipeline.vectors import NORM_TOLERANCE, Kind
from resources.errors import VectorError

#: A half-open range of keys, as numbers of eight hexadecimal digits. Ids begin with eight uniformly distributed digits,
#: so equal spans contain about equally many rows. The outermost bounds are open, so that foreign ids are in a span too.
Span = tuple[int, int]
EVERYTHING: Span = (0, 16**8)


@dataclass(frozen=True, slots=True)
class RowFields:
    """The fields of a row besides its vector."""

    chunk_id: uuid.UUID
    row_fingerprint: str
    document_id: uuid.UUID
    source_type: str
    source: str
    language: str | None
    position: int
    created_timestamp: int
    chunk_type: str
    author: str | None
    category: str | None
    tags: Sequence[str]

    def as_row(self, row_id: str) -> dict[str, Any]:
        return {
            "id": row_id,
            "document_id": str(self.document_id),
            "source_type": self.source_type,
            "source": self.source,
            "language": self.language or "",
            "chunk_position": self.position,
            "created_timestamp": self.created_timestamp,
            "chunk_type": self.chunk_type,
            "author": self.author or "",
            "category": self.category or "",
            "tags": self.tags,
            "row_fingerprint": self.row_fingerprint,
        }


def row_ids(chunk: uuid.UUID | str, kind: Kind, count: int | None) -> list[str]:
    """The ids of a chunk's rows: one; for multi, one per token (none if `count` is unknown)."""
    if kind != "multi":
        return [f"{chunk}_{kind}"]
    return [f"{chunk}_multi_{token:05d}" for token in range(count or 0)]


def is_plain(row_id: str) -> bool:
    """Whether the id is printable and contains neither a quote nor a backslash."""
    return row_id.isprintable() and not set(row_id) & set("'\"\\")


def spans(count: int, whole: Span = EVERYTHING) -> list[Span]:
    """`count` ranges of equal size (fewer if the whole has fewer numbers); each id is in exactly one of them."""
    lower, upper = whole
    count = max(1, min(count, upper - lower))
    bounds = [lower + (upper - lower) * part // count for part in range(count + 1)]
    return list(pairwise(bounds))


def span_filter(span: Span) -> str:
    """The condition for ids of the range; empty for EVERYTHING. All servers prune segments by it, but not by `like`."""
    lower, upper = span
    conditions = [f'id >= "{lower:08x}"'] if lower > EVERYTHING[0] else []
    if upper < EVERYTHING[1]:
        conditions.append(f'id < "{upper:08x}"')
    return " and ".join(conditions)


def source_filter(source: str) -> str:
    """The condition for rows of a source. Names contain no quotes and no backslashes (see `partitions`)."""
    return f'source == "{source}"'


def unknown_source_filter(sources: Sequence[str]) -> str:
    """The condition for rows of other sources than the given ones."""
    return "not (" + one_of("source", sources) + ")"


def normalised(
    vectors: NDArray[np.float32], chunks: Sequence[str], counts: NDArray[np.int64] | None = None
) -> NDArray[np.float32]:
    """The vectors with norm 1; float16 files and users' embedders are slightly off.

    `counts`: rows per chunk. Raises VectorError, which names the chunk, if a vector is not finite or zero.
    """
    norms = np.linalg.norm(vectors, axis=1)
    bad = np.flatnonzero(~np.isfinite(norms) | (norms == 0))
    if len(bad):
        owner = (
            int(bad[0])
            if counts is None
            else int(np.searchsorted(np.cumsum(counts), bad[0], "right"))
        )
        raise VectorError(
            f"Vector of chunk {chunks[owner]}: expected finite numbers and a norm above 0, found norm {norms[bad[0]]}."
        )
    if np.all(np.abs(norms - 1) <= NORM_TOLERANCE / 100):
        return vectors
    return vectors / norms[:, None]
