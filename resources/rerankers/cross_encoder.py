"""A cross-encoder in this process, loaded by sentence-transformers: query and text go through the model together."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from resources.embedders.sentence_model import positions_of
from resources.errors import ConfigError, RerankerFailed
from resources.extras import require_extra

#: Pairs in a batch. Between two batches the time is checked, and shorter texts are not padded to the longest of all.
BATCH = 8

#: One batch at a time: a second thread would use the same cores, and the tokenizer raises "Already borrowed" when two
#: threads set its truncation.
_LOCK = threading.Lock()


class CrossEncoderReranker:
    """Implements `rag_assets.pipeline.reranker.Reranker`.

    `model` is a folder or a hub name; its only label is the score, to which the model's own activation is applied (the
    sigmoid, if it names none). `max_length` is in tokens of query and text together: longer texts are cut. `timeout`
    does not include the time in which the model is loaded.
    """

    def __init__(
        self,
        *,
        model: str,
        revision: str = "",
        device: str = "",
        max_length: int | None = None,
        timeout: float = 10.0,
    ) -> None:
        self._model, self._revision = model, revision
        self._device, self._max_length = device, max_length
        self._timeout = timeout

    @property
    def identity(self) -> Mapping[str, str]:
        return {
            "backend": "cross-encoder",
            "model": self._model,
            **({"revision": self._revision} if self._revision else {}),
        }

    def scores(self, query: str, texts: Sequence[str]) -> list[float]:
        """Return the scores of the library's `predict`. Raises RerankerFailed after the timeout or for NaN."""
        deadline = time.monotonic() + self._timeout
        if not _LOCK.acquire(timeout=self._timeout):
            raise RerankerFailed(
                f"{self._model}: other searches used the model for {self._timeout:g} s"
            )
        try:
            started = time.monotonic()
            model = _load(self._model, self._revision, self._device, self._max_length)
            deadline += time.monotonic() - started
            scores = self._predict(model, query, texts, deadline)
        finally:
            _LOCK.release()
        if not all(map(math.isfinite, scores)):
            raise RerankerFailed(f"{self._model}: expected finite scores, found NaN or infinity")
        return scores

    def _predict(
        self, model: Any, query: str, texts: Sequence[str], deadline: float
    ) -> list[float]:
        order = sorted(range(len(texts)), key=lambda i: -len(texts[i]))
        scores = [math.nan] * len(texts)
        for start in range(0, len(order), BATCH):
            if time.monotonic() > deadline:
                raise RerankerFailed(
                    f"{self._model}: scored {start} of {len(texts)} texts in {self._timeout:g} s"
                )
            batch = order[start : start + BATCH]
            try:
                values = model.predict(
                    [(query, texts[i]) for i in batch], batch_size=BATCH, show_progress_bar=False
                )
            # The errors of kernels and allocators share no base class.
            except Exception as error:
                raise RerankerFailed(f"{self._model}: {_short(error)}") from error
            for i, value in zip(batch, values.tolist(), strict=True):
                scores[i] = value
        return scores


@lru_cache(maxsize=1)
def _load(model: str, revision: str, device: str, max_length: int | None) -> Any:
    """Return the library's CrossEncoder. Raises ConfigError if it cannot be loaded, or has more than one label."""
    require_extra(
        "sentence-transformers",
        "RAG_RERANKER=cross-encoder",
        "Or set RAG_RERANKER=endpoint to ask a server.",
    )
    # Import cost: 12 s of processor time (torch, scipy, transformers), so not before the first search with it.
    from sentence_transformers import CrossEncoder
    from transformers.utils import logging

    # Else a bar is drawn between the lines of a search.
    logging.disable_progress_bar()
    folder = Path(model).expanduser()
    name = str(folder) if folder.is_dir() else model
    at = f" at {revision}" if revision else ""
    try:
        encoder = CrossEncoder(
            name, revision=revision or None, device=device or None, trust_remote_code=False
        )
    except Exception as error:
        # Offline, unknown, gated, no such device, damaged files: they share no base class.
        raise ConfigError(
            f"The reranker {model}{at} cannot be loaded: {_short(error)}\nFix RAG_RERANKER_MODEL (a folder, or a name "
            f"on the hub), RAG_RERANKER_REVISION or RAG_RERANKER_DEVICE."
        ) from error
    if encoder.num_labels != 1:
        raise ConfigError(
            f"The reranker {model} has {encoder.num_labels} labels: expected one, the relevance.\n"
            "Set RAG_RERANKER_MODEL to a model that was trained to rank, such as cross-encoder/ms-marco-MiniLM-L6-v2."
        )
    modalities = getattr(encoder, "modalities", ["text"])
    if any(other in each for each in modalities for other in ("image", "audio", "video")):
        # It would take a text that is the address of an image for one, and fetch it.
        raise ConfigError(
            f"The reranker {model} reads more than texts: set RAG_RERANKER_MODEL to a model of texts."
        )
    tokenizer: Any = encoder.tokenizer
    limits = [max_length, positions_of(encoder.model), tokenizer.model_max_length]
    tokenizer.model_max_length = min(limit for limit in limits if limit is not None)
    return encoder


def _short(error: Exception) -> str:
    first = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {first[:300]}" if first else type(error).__name__
