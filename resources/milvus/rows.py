"""What rows say and how they are named, and conditions that find them. No server is asked here."""

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

#: A range of keys: the first number of ids in it and the first after it, as numbers of eight hexadecimal digits. Ids
#: begin with uniform ones, so equal spans hold about as many rows each. The outer two are open: foreign ids are in one.
Span = tuple[int, int]
EVERYTHING: Span = (0, 16**8)


@dataclass(frozen=True, slots=True)
class RowFields:
    """What a row says besides its vector."""

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
    """The ids of a chunk's rows: one, or for multi one a token (none where their number is not known)."""
    if kind != "multi":
        return [f"{chunk}_{kind}"]
    return [f"{chunk}_multi_{token:05d}" for token in range(count or 0)]


def is_plain(row_id: str) -> bool:
    return row_id.isprintable() and not set(row_id) & set("'\"\\")


def spans(count: int, whole: Span = EVERYTHING) -> list[Span]:
    """As many ranges of equal size, or fewer where there are not so many numbers; each id is in one of them."""
    lower, upper = whole
    count = max(1, min(count, upper - lower))
    bounds = [lower + (upper - lower) * part // count for part in range(count + 1)]
    return list(pairwise(bounds))


def span_filter(span: Span) -> str:
    """A condition for the ids of a range; none for everything. Every server prunes segments by it (not by `like`)."""
    lower, upper = span
    conditions = [f'id >= "{lower:08x}"'] if lower > EVERYTHING[0] else []
    if upper < EVERYTHING[1]:
        conditions.append(f'id < "{upper:08x}"')
    return " and ".join(conditions)


def of_source(source: str) -> str:
    """A condition for the rows of a source. Names hold no quotes and no backslashes (see partitions)."""
    return f'source == "{source}"'


def of_no_source(sources: Sequence[str]) -> str:
    """A condition for rows that say a source that there is not."""
    return "not (" + one_of("source", sources) + ")"


def checked(
    vectors: NDArray[np.float32], chunks: Sequence[str], counts: NDArray[np.int64] | None = None
) -> NDArray[np.float32]:
    """The vectors, L2-normalised where float16 files or a user's embedder left them slightly off.

    Raises VectorError naming the chunk whose vector is not finite or has no direction. `counts`: rows a chunk.
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
