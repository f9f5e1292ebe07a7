"""BGE-M3 in memory: downloaded, checked, loaded by FlagEmbedding; its tokenizer and its forward pass.

Batches, failures of texts and the identity of the model are in `bge_m3`.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Collection, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rag_assets.pipeline.vectors import Embeddings, Kind, Multi, Sparse
from resources.embedders.batches import offsets
from resources.embedders.local_models import download, require_device, unit_vectors
from resources.errors import ConfigError

DIMENSION = 1024
HEADS = ("colbert_linear.pt", "sparse_linear.pt")
#: The files that determine the vectors; a new README in the folder does not.
MODEL_FILES = (
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "sentencepiece.bpe.model",
    "*.safetensors",
    "*.safetensors.index.json",
    "pytorch_model*.bin",
    "pytorch_model*.bin.index.json",
    *HEADS,
)


class BgeM3Model:
    """The loaded model with its tokenizer."""

    def __init__(self, flag: Any, device: str) -> None:
        # Keep FlagEmbedding's object: when it is garbage-collected, it moves its model to the CPU.
        self._flag = flag
        self._tokenizer = flag.tokenizer
        self._module = flag.model.to(device).eval()
        self._device = device
        # The list of FlagEmbedding, which does not contain <mask>.
        names = ("cls_token", "eos_token", "pad_token", "unk_token")
        self._weightless = [getattr(self._tokenizer, f"{name}_id") for name in names]
        # XLM-RoBERTa reserves two positions: it counts from the padding id + 1.
        self.max_length: int = self._module.config.max_position_embeddings - 2
        self.harmless = self.tokenize(["a"])[0][0]

    def limited(self, max_length: int) -> BgeM3Model:
        """Return this model with another maximum length. Raises ConfigError if it exceeds the position table."""
        if max_length > self.max_length:
            raise ConfigError(
                f"max_length={max_length}: this model takes at most {self.max_length} tokens.\n"
                f"Set max_length={self.max_length}."
            )
        model = copy.copy(self)
        model.max_length = max_length
        return model

    def tokenize(self, texts: Sequence[str]) -> tuple[list[list[int]], list[int], int]:
        """Return the token ids of each text, none if it has only special tokens, and the counts of `LoadedModel`."""
        encoded = self._tokenizer(list(texts), truncation=True, max_length=self.max_length)
        special = self._tokenizer.num_special_tokens_to_add()
        ids = [row if len(row) > special else [] for row in encoded["input_ids"]]
        # Check full rows only: each access to `overflowing` copies the removed tokens.
        full = (text for text in encoded.encodings if len(text) == self.max_length)
        return ids, [len(row) for row in ids], sum(bool(text.overflowing) for text in full)

    def forward(self, ids: Sequence[list[int]], kinds: Collection[Kind]) -> Embeddings:
        """Return the vectors of one batch, without padding and in main memory.

        Raises ValueError for vectors that must not be stored, or an error of torch.
        """
        import torch

        lengths = [len(row) for row in ids]
        mask = np.arange(max(lengths)) < np.array(lengths)[:, None]
        padded = np.full(mask.shape, self._tokenizer.pad_token_id, np.int64)
        padded[mask] = np.concatenate(ids)
        dense = sparse = multi = None
        with torch.inference_mode():
            real = torch.from_numpy(mask).to(self._device)
            output = self._module(
                {
                    "input_ids": torch.from_numpy(padded).to(self._device),
                    "attention_mask": real.long(),
                },
                return_dense="dense" in kinds,
                return_sparse="sparse" in kinds,
                return_colbert_vecs="multi" in kinds,
            )
            if "dense" in kinds:
                dense = unit_vectors("dense", output["dense_vecs"])
            if "sparse" in kinds:
                weights = output["sparse_vecs"].squeeze(-1).float().cpu().numpy()
                sparse = self._lexical_weights(padded, weights)
            if "multi" in kinds:
                tokens = output["colbert_vecs"][real[:, 1:]]
                multi = Multi(offsets([n - 1 for n in lengths]), unit_vectors("multi", tokens))
        return Embeddings(dense, sparse, multi)

    def _lexical_weights(self, ids: NDArray[np.int64], weights: NDArray[np.float32]) -> Sparse:
        """Return the greatest weight of each token in a row; both arguments have shape [rows, longest row]."""
        if not np.isfinite(weights).all():
            raise ValueError("sparse weights are not finite")
        kept = (weights > 0) & ~np.isin(ids, self._weightless)
        # Row and token form one number: one sort groups the equal tokens of a row.
        keys = (np.nonzero(kept)[0] << 32) | ids[kept]
        order = np.argsort(keys)
        keys, values = keys[order], weights[kept][order]
        starts = np.flatnonzero(np.diff(keys, prepend=-1))
        # reduceat rejects an empty array.
        if len(starts):
            keys, values = keys[starts], np.maximum.reduceat(values, starts)
        indptr = np.searchsorted(keys, np.arange(len(ids) + 1) << 32)
        return Sparse(indptr, (keys & 0xFFFFFFFF).astype(np.uint32), values)


@lru_cache(maxsize=1)
def load(model: str, revision: str, device: str, precision: str) -> BgeM3Model:
    """Return the model: 2.3 GB in fp32, else 1.1 GB. Cached per process, because Dagster rebuilds resources.

    For a folder, `revision` is its hash, so changed files are loaded again. Raises ConfigError for a model that cannot
    be downloaded or is not a BGE-M3.
    """
    # Import cost on 2 cores: 4.7 s and 460 MB resident, so not before the first text.
    from FlagEmbedding import BGEM3FlagModel

    require_device(device)
    folder = Path(model).expanduser()
    if not folder.is_dir():
        folder = download(model, revision, MODEL_FILES)
    problems = [f"{head} is missing" for head in HEADS if not (folder / head).is_file()]
    config = folder / "config.json"
    size = (
        json.loads(config.read_text()).get("hidden_size") if config.is_file() else "no config.json"
    )
    if size != DIMENSION:
        problems.append(f"hidden_size: expected {DIMENSION}, found {size}")
    if problems:
        # FlagEmbedding would replace missing heads with random ones.
        raise ConfigError(
            f"{folder} is not a BGE-M3 model:\n"
            + "\n".join(f"- {p}" for p in problems)
            + "\nSet model='BAAI/bge-m3'."
        )
    flag = BGEM3FlagModel(
        str(folder),
        normalize_embeddings=False,
        use_fp16=precision == "fp16",
        use_bf16=precision == "bf16",
        devices=device,
    )
    return BgeM3Model(flag, device)
