"""What rows say and how they are named, and conditions that find them. No server is asked here."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rag_assets.pipeline.vectors import NORM_TOLERANCE, Kind
from resources.errors import VectorError

HEX = "0123456789abcdef"


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

    def as_row(self, row_id: str) -> dict[str, Any]:
        return {
            "id": row_id,
            "document_id": str(self.document_id),
            "source_type": self.source_type,
            "source": self.source,
            "language": self.language or "",
            "chunk_position": self.position,
            "created_timestamp": self.created_timestamp,
            "row_fingerprint": self.row_fingerprint,
        }


def row_ids(chunk: uuid.UUID, kind: Kind, count: int | None) -> list[str]:
    """The ids of a chunk's rows: one, or for multi one a token (none where their number is not known)."""
    if kind != "multi":
        return [f"{chunk}_{kind}"]
    return [f"{chunk}_multi_{token:05d}" for token in range(count or 0)]


def any_of(field: str, values: Iterable[object]) -> str:
    """An expression; foreign values may hold quotes and backslashes, which JSON escapes as Milvus does."""
    quoted = ", ".join(json.dumps(str(value), ensure_ascii=False) for value in values)
    return f"{field} in [{quoted}]"


def is_plain(row_id: str) -> bool:
    return row_id.isprintable() and not set(row_id) & set("'\"\\")


def bucket_filter(prefix: str) -> str:
    """The buckets of all prefixes of one length cover every possible id once: the outer two are open.

    A key range rather than `like`: it prunes segments, and every server has it. Zeros at the end of a bound are left
    off: a bucket begins where the one that it was split from did, also for foreign ids ("f!" is less than "f0").
    """
    conditions = []
    if lower := prefix.rstrip("0"):
        conditions.append(f'id >= "{lower}"')
    if prefix.strip("f"):
        following = f"{int(prefix, 16) + 1:0{len(prefix)}x}".rstrip("0")
        conditions.append(f'id < "{following}"')
    return " and ".join(conditions)


def of_source(source: str) -> str:
    """A condition for the rows of a source. Names hold no quotes and no backslashes (see partitions)."""
    return f'source == "{source}"'


def of_no_source(sources: Sequence[str]) -> str:
    """A condition for rows that say a source that there is not."""
    return "not (" + any_of("source", sources) + ")"


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
