"""An embedder that costs nothing, for measuring everything around it: vectors cut from one table by the text's hash."""

from __future__ import annotations

import zlib
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from rag_assets.pipeline.vectors import Embeddings, Kind

_TABLE = np.random.default_rng(0).standard_normal(1 << 20).astype(np.float32)


def vector(text: str) -> np.ndarray:
    """float32 [1024] of norm 1."""
    start = zlib.crc32(text.encode()) % (len(_TABLE) - 1024)
    part = _TABLE[start : start + 1024]
    return part / np.linalg.norm(part)


class FreeEmbedder:
    """Dense only."""

    dimension = 1024
    token_dimension = 128

    @property
    def identity(self) -> Mapping[str, str]:
        return {"backend": "free", "version": "1"}

    def embed(self, texts: Sequence[str], kinds: Collection[Kind]) -> Embeddings:
        rows = np.array([vector(text) for text in texts], np.float32).reshape(
            len(texts), self.dimension
        )
        return Embeddings(dense=rows, tokens=len(texts))

    def embed_queries(self, texts: Sequence[str], kinds: Collection[Kind]) -> Embeddings:
        return self.embed(texts, kinds)
