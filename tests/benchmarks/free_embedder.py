"""An embedder that costs almost nothing, for measuring everything else: vectors from a table, by the text's hash."""

from __future__ import annotations

import zlib
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from rag_assets.pipeline.vectors import Embeddings, Kind, Sparse

_TABLE = np.random.default_rng(0).standard_normal(1 << 20).astype(np.float32)

#: Terms of a sparse vector.
TERMS = 16


def vector(text: str) -> np.ndarray:
    """float32 [1024] of norm 1."""
    start = zlib.crc32(text.encode()) % (len(_TABLE) - 1024)
    part = _TABLE[start : start + 1024]
    return part / np.linalg.norm(part)


def sparse_vectors(texts: Sequence[str]) -> Sparse:
    """TERMS terms for each text, from a vocabulary of 30,000."""
    count = len(texts)
    starts = np.array([zlib.crc32(text.encode()) % 30_000 for text in texts], np.uint32)
    return Sparse(
        np.arange(count + 1, dtype=np.int64) * TERMS,
        (starts[:, None] + np.arange(TERMS, dtype=np.uint32)).reshape(-1),
        np.full(count * TERMS, 0.25, np.float32),
    )


class FreeEmbedder:
    """Dense and sparse vectors."""

    dimension = 1024
    token_dimension = 128

    @property
    def identity(self) -> Mapping[str, str]:
        return {"backend": "free", "version": "1"}

    def embed(self, texts: Sequence[str], kinds: Collection[Kind]) -> Embeddings:
        rows = np.array([vector(text) for text in texts], np.float32).reshape(
            len(texts), self.dimension
        )
        return Embeddings(
            dense=rows if "dense" in kinds else None,
            sparse=sparse_vectors(texts) if "sparse" in kinds else None,
            tokens=len(texts),
        )

    def embed_queries(self, texts: Sequence[str], kinds: Collection[Kind]) -> Embeddings:
        return self.embed(texts, kinds)
