"""BGE-M3: the dense, sparse and multi-vectors of a text from one forward pass of one model.

FlagEmbedding loads the model. The loop over batches is our own (`encoding`), because FlagEmbedding's `encode` runs the
first batch twice, keeps every padded batch in memory until it returns, fails on an empty list, and loses a whole call
to one bad text. The vectors are FlagEmbedding's: a test compares each kind with its output. The model and its forward
pass are in `bge_m3_model`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from resources.embedders.bge_m3_model import DIMENSION, MODEL_FILES, BgeM3Model, load
from resources.embedders.encoding import LocalEmbedder
from resources.embedders.local_models import ModelSource, Precision

MODEL = "BAAI/bge-m3"
#: A commit, because the hub's branches move. FlagEmbedding's users have this one.
REVISION = "5617a9f61b028005a4858fdac845db406aefb181"
MAX_LENGTH = 8192


class BgeM3Embedder(LocalEmbedder):
    """Embeds with BGE-M3 or a model of its shape.

    `model` is a folder or a hub name; a hub name other than the default needs `revision`. `max_length` is in tokens:
    longer texts are cut and counted as truncated. It embeds queries like texts: BGE-M3 was trained without a query
    instruction.

    Sparse rows contain tokenizer ids and their greatest weights, without special tokens; a row is empty, but not a
    failure, if no term has a positive weight. Multi has a vector for each token except the first, `<s>`.

    Raises ConfigError here for invalid arguments, and at first use for a model that cannot be loaded.
    """

    name = "bge-m3"
    library = "FlagEmbedding"
    extra = "bge-m3"
    settings: ClassVar = {"batch_tokens": "RAG_BGE_M3_BATCH_TOKENS"}
    dimension = DIMENSION
    token_dimension = DIMENSION

    def __init__(
        self,
        model: str = MODEL,
        *,
        revision: str | None = None,
        max_length: int = MAX_LENGTH,
        batch_tokens: int | None = None,
        device: str | None = None,
        precision: Precision = "auto",
    ) -> None:
        source = ModelSource(model, revision or "", MODEL_FILES)
        if model == MODEL and not source.folder and revision is None:
            source = ModelSource(MODEL, REVISION, MODEL_FILES)
        problems = []
        if not 3 <= max_length <= MAX_LENGTH:
            problems.append(f"max_length={max_length}: expected 3 to {MAX_LENGTH} tokens")
        super().__init__(
            source,
            example=MODEL,
            max_length=max_length,
            batch_tokens=batch_tokens,
            device=device,
            precision=precision,
            problems=problems,
        )

    @property
    def _own_identity(self) -> Mapping[str, str]:
        return {"pooling": "cls", "normalisation": "l2"}

    def _load(self, queries: bool) -> BgeM3Model:
        revision = self.identity["revision"]
        model = load(self._source.model, revision, self._device, self._precision)
        return model.limited(self._max_length or MAX_LENGTH)
