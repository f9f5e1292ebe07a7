"""A model of sentence-transformers in memory: loaded, with its tokenizer and its forward pass.

The library prepares each batch and runs all modules, so its pooling, prompts and normalisation apply. Batches, failures
of texts and the identity of the model are not here (`sentence_encoders`).
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from typing import Any, Literal

import numpy as np

from rag_assets.pipeline.vectors import Embeddings, Kind, Sparse
from resources.embedders.batches import offsets
from resources.embedders.local_models import require_device, unit_vectors
from resources.errors import ConfigError

Task = Literal["query", "document"]

#: The names of prompts for each task, in the order in which the library documents to try them. (Its version 6.2 never
#: reaches the second one.)
_PROMPTS: Mapping[Task, Sequence[str]] = {
    "query": ("query",),
    "document": ("document", "passage", "corpus"),
}


class SentenceModel:
    """The loaded model. `max_length`: of a text, in tokens; infinite if the model has no limit."""

    #: A row is the text itself: the library tokenizes a batch again, for 1 % of the time of its forward pass.
    harmless = "test"

    def __init__(self, model: Any) -> None:
        self._model = model.eval()
        self._tokenizer = model.tokenizer
        self._reads_images = bool(set(model.modalities) - {"text"})
        self.max_length: float = getattr(self._tokenizer, "model_max_length", np.inf)
        self._prompt = ""
        self._task: Task = "document"
        self._kept: int | None = None

    @property
    def dimension(self) -> int:
        known = self._model.get_embedding_dimension()
        if known is not None:
            return known
        vectors = self.forward([self.harmless], ["dense"]).dense
        assert vectors is not None
        return vectors.shape[1]

    def prompt_of(self, task: Task) -> str:
        """Return the prompt in the model's own configuration."""
        prompts = self._model.prompts
        return next((prompts[name] for name in _PROMPTS[task] if prompts.get(name)), "")

    def with_task(self, task: Task, prompt: str | None, kept: int | None) -> SentenceModel:
        """Return this model for queries or documents. `prompt` None: the model's own. `kept`: the first dimensions.

        Raises ConfigError if the prompt leaves no room for a text.
        """
        model = copy.copy(self)
        model._task, model._kept = task, kept
        model._prompt = self.prompt_of(task) if prompt is None else prompt
        if model._prompt and (tokens := len(model._ids([""])[0])) >= self.max_length:
            raise ConfigError(
                f"The prompt {model._prompt[:50]!r} has {tokens} tokens, and a text with its prompt is cut after "
                f"{self.max_length}: set RAG_ST_{task.upper()}_PROMPT to a shorter one, or a larger RAG_ST_MAX_LENGTH"
            )
        return model

    def tokenize(self, texts: Sequence[str]) -> tuple[Sequence[str], Sequence[int], int]:
        ids = self._ids(texts)
        empty = self._ids([""])[0]
        lengths = [0 if row == empty else int(min(len(row), self.max_length)) for row in ids]
        return texts, lengths, sum(len(row) > self.max_length for row in ids)

    def forward(self, rows: Sequence[str], kinds: Collection[Kind]) -> Embeddings:
        import torch

        with torch.inference_mode():
            vectors = self._model(self._features(rows), task=self._task)["sentence_embedding"]
            if "sparse" in kinds:
                return Embeddings(sparse=_sparse(vectors, self._model.max_active_dims))
            return Embeddings(dense=unit_vectors("dense", vectors[:, : self._kept]))

    def _features(self, texts: Sequence[str]) -> Any:
        from sentence_transformers.util import batch_to_device

        # A model of images and texts would take the address of an image for one, and fetch it.
        named = [{"text": text} for text in texts] if self._reads_images else list(texts)
        features = self._model.preprocess(named, prompt=self._prompt or None, task=self._task)
        return batch_to_device(features, self._model.device)

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids of each text with its prompt, not cut."""
        # Models without a transformer, such as static embeddings, have tokenizers of other libraries, and no limit.
        if not hasattr(self._tokenizer, "model_max_length"):
            return [self._features([text])["input_ids"].flatten().tolist() for text in texts]
        encoded = self._tokenizer(
            [self._prompt + text for text in texts],
            return_attention_mask=False,
            return_token_type_ids=False,
            # Without its warning that a text is longer than the model's limit.
            verbose=False,
        )
        return encoded["input_ids"]


def _sparse(weights: Any, kept: int | None) -> Sparse:
    """Return the weights above 0 of a tensor [rows, vocabulary], at most the `kept` largest ones of a row."""
    from sentence_transformers.util import select_max_active_dims

    if kept is not None:
        weights = select_max_active_dims(weights, max_active_dims=kept)
    if weights.is_sparse:
        weights = weights.to_dense()
    weights = weights.float()
    if not bool(weights.isfinite().all()):
        raise ValueError("sparse weights are not finite")
    rows, terms = (weights > 0).nonzero(as_tuple=True)
    return Sparse(
        offsets(rows.bincount(minlength=len(weights)).cpu().numpy()),
        terms.cpu().numpy().astype(np.uint32),
        weights[rows, terms].cpu().numpy(),
    )


# One for dense vectors and one for sparse ones.
@lru_cache(maxsize=2)
def load(
    kind: Kind, model: str, revision: str, max_length: int | None, device: str, precision: str
) -> SentenceModel:
    """Return the model, cached per process, because Dagster rebuilds resources.

    For a folder, `revision` is its hash, so changed files are loaded again. Raises ConfigError for a model that cannot
    be loaded.
    """
    # Import cost on 2 cores: 11 s and 500 MB resident, so not before the first text.
    import torch
    from sentence_transformers import SentenceTransformer, SparseEncoder
    from transformers.utils.logging import disable_progress_bar

    require_device(device, "RAG_ST_DEVICE")
    disable_progress_bar()
    encoder = SparseEncoder if kind == "sparse" else SentenceTransformer
    dtype = {"fp16": torch.float16, "bf16": torch.bfloat16}.get(precision, torch.float32)
    try:
        loaded = encoder(
            model,
            revision=None if revision.startswith("sha256:") else revision,
            device=device,
            trust_remote_code=False,
            model_kwargs={"dtype": dtype},
        )
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        # Damaged or missing files, other versions of the library: the errors share no base class.
        reason = f"{type(error).__name__}: {error}"
        if "trust_remote_code" in reason:
            reason = "it needs code from the hub, which is not supported: it would run with the rights of this process"
        raise ConfigError(f"The model {model} cannot be loaded: {reason}") from error
    _limit(loaded, max_length)
    return SentenceModel(loaded)


def _limit(model: Any, max_length: int | None) -> None:
    """Set the model's maximum length, which its tokenizers apply. Raises ConfigError if it has no positions for it."""
    parts = (getattr(module, "tokenizer", None) for module in model.modules())
    tokenizers: list[Any] = [part for part in parts if hasattr(part, "model_max_length")]
    positions = positions_of(model.transformers_model)
    if max_length is not None and not tokenizers:
        raise ConfigError(
            f"RAG_ST_MAX_LENGTH={max_length}: this model reads texts of every length. Leave it empty."
        )
    if max_length is not None and positions is not None and max_length > positions:
        raise ConfigError(
            f"RAG_ST_MAX_LENGTH={max_length}: this model takes at most {positions} tokens.\n"
            f"Set RAG_ST_MAX_LENGTH={positions}."
        )
    for tokenizer in tokenizers:
        own = tokenizer.model_max_length
        tokenizer.model_max_length = max_length or (min(own, positions) if positions else own)


def positions_of(transformer: Any) -> int | None:
    """Return how many tokens a transformer has positions for, or None without such a limit."""
    if transformer is None:
        return None
    for module in transformer.modules():
        table: Any = getattr(module, "position_embeddings", None)
        if hasattr(table, "num_embeddings"):
            # RoBERTa and its like count from the padding id + 1.
            padding = getattr(module, "padding_idx", None)
            return table.num_embeddings - (padding + 1 if isinstance(padding, int) else 0)
    return getattr(transformer.config, "max_position_embeddings", None)
