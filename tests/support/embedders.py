"""Users' own embedders for `module:Class` names. Deterministic and tiny; one of them fails some texts."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from rag_assets.pipeline.model_probe import PROBE_TEXTS
from rag_assets.pipeline.vectors import Embeddings, Kind, Multi, Sparse


class CountingEmbedder:
    """64-dimensional random vectors seeded by the text; counts the embedded texts, except those of model probes."""

    dimension = 64
    token_dimension = 16
    texts = 0

    @property
    def identity(self) -> Mapping[str, str]:
        return {"backend": type(self).__name__, "version": "1"}

    def embed(self, texts: Sequence[str], kinds: Collection[Kind]) -> Embeddings:
        type(self).texts += sum(text not in PROBE_TEXTS for text in texts)
        rows = [self._vector(text, self.dimension) for text in texts]
        tokens = [self._vector(text, self.token_dimension) for text in texts]
        count = len(texts)
        return Embeddings(
            dense=np.array(rows, np.float32).reshape(count, self.dimension)
            if "dense" in kinds
            else None,
            sparse=Sparse(
                np.arange(count + 1, dtype=np.int64),
                np.array([len(text) for text in texts], np.uint32),
                np.ones(count, np.float32),
            )
            if "sparse" in kinds
            else None,
            multi=Multi(
                np.arange(count + 1, dtype=np.int64),
                np.array(tokens, np.float32).reshape(count, self.token_dimension),
            )
            if "multi" in kinds
            else None,
            tokens=count,
        )

    def embed_queries(self, texts: Sequence[str], kinds: Collection[Kind]) -> Embeddings:
        return self.embed(texts, kinds)

    @staticmethod
    def _vector(text: str, dimension: int) -> np.ndarray:
        seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
        vector = np.random.default_rng(seed).standard_normal(dimension)
        return (vector / np.linalg.norm(vector)).astype(np.float32)


class OtherEmbedder(CountingEmbedder):
    """Another model: another identity, so another fingerprint and other collections. Counts its own texts."""

    texts = 0


class RefusingEmbedder(CountingEmbedder):
    """Fails the texts that contain the word REFUSE."""

    def embed(self, texts: Sequence[str], kinds: Collection[Kind]) -> Embeddings:
        result = super().embed(texts, kinds)
        failures = {
            index: "refused by the model" for index, text in enumerate(texts) if "REFUSE" in text
        }
        if result.dense is not None:
            result.dense[list(failures)] = 0
        return Embeddings(result.dense, result.sparse, result.multi, failures, tokens=result.tokens)
