"""BGE-M3: dense, sparse and multi vectors of a text from one pass of one model.

FlagEmbedding loads the model; the loop over batches is ours, because its `encode` runs the first
batch twice, pins every padded batch until it returns, fails on an empty list, and loses a whole
call to one bad text. What a vector means is its own: a test holds every kind to its output. The
model and its forward pass are in `bge_m3_model`.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import os
import re
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from rag_assets.pipeline.vectors import Embeddings, Kind, Multi, Sparse
from resources.embedders.bge_m3_model import DIMENSION, MODEL_FILES, BgeM3Model, load, offsets
from resources.errors import ConfigError

Precision = Literal["fp32", "bf16", "fp16", "auto"]
Terms = tuple[NDArray[np.uint32], NDArray[np.float32]]

MODEL = "BAAI/bge-m3"
#: The hub's branches move; a commit does not. This is the one that FlagEmbedding's users have.
REVISION = "5617a9f61b028005a4858fdac845db406aefb181"
MAX_LENGTH = 8192

#: Rows × longest row of a batch, where none is given. On 2 cores, 4 layers of the real width did
#: 1,000 tokens/s in batches of 512 or 1,024, 400 at 2,048 and 300 at 8,192: larger ones leave the
#: caches and are paged in anew each time. An accelerator wants its cores filled: one text of the
#: greatest length, which must fit anyway.
CPU_BATCH_TOKENS = 1024
ACCELERATOR_BATCH_TOKENS = 8192

#: One model a process, one batch at a time: a second thread would share the same cores, and the
#: tokenizer raises "Already borrowed" when two threads set its truncation.
_LOCK = threading.Lock()

_NO_TERMS: Terms = (np.empty(0, np.uint32), np.empty(0, np.float32))


class BgeM3Embedder:
    """Implements `rag_assets.pipeline.vectors.Embedder` with BGE-M3 or a model of its shape.

    `model` is a folder or a hub name; a hub name other than the default needs `revision`.
    `max_length` in tokens: what is longer is cut and counted as truncated. `batch_tokens` bounds
    memory and changes no vector.

    `precision="auto"` is fp16 on CUDA, bf16 on a CPU with AMX tiles, else fp32 (measured on 2 cores
    with AMX: 377 tokens/s in fp32, 1,722 in bf16). It is part of the identity, as it changes
    vectors: where machines of several kinds write or search the same collections, name the
    precision. `device=None` is the first CUDA device that is visible to a torch built for it, else
    the CPU. Neither needs torch to be imported.

    Raises `ConfigError` here for impossible arguments, at first use for a model that cannot be
    loaded.
    """

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
        folder = Path(model).expanduser().resolve()
        problems = []
        if importlib.util.find_spec("FlagEmbedding") is None:
            problems.append("FlagEmbedding is not installed: pip install 'rag-assets[bge-m3]'")
        if folder.is_dir():
            if revision is not None:
                problems.append(
                    f"revision={revision!r}: the folder {model} has none, its files are hashed"
                )
        elif not re.fullmatch(r"[\w.-]+/[\w.-]+", model):
            problems.append(f"model={model!r}: neither a folder nor a hub name such as {MODEL}")
        elif revision is None and model != MODEL:
            problems.append(f"revision: expected a commit of {model}, as the hub's branches move")
        if not 3 <= max_length <= MAX_LENGTH:
            problems.append(f"max_length={max_length}: expected 3 to {MAX_LENGTH} tokens")
        if batch_tokens is not None and batch_tokens < 1:
            problems.append(f"batch_tokens={batch_tokens}: expected at least 1")
        if precision not in get_args(Precision):
            problems.append(
                f"precision={precision!r}: expected one of {', '.join(get_args(Precision))}"
            )
        if problems:
            raise ConfigError("bge-m3 cannot be used:\n" + "\n".join(f"- {p}" for p in problems))
        self._folder = folder if folder.is_dir() else None
        self._model = str(self._folder or model)
        self._revision = revision or REVISION
        self._max_length = max_length
        self._device = device or _default_device()
        self._batch_tokens = batch_tokens or (
            CPU_BATCH_TOKENS if self._device == "cpu" else ACCELERATOR_BATCH_TOKENS
        )
        self._precision = _default_precision(self._device) if precision == "auto" else precision

    @cached_property
    def identity(self) -> Mapping[str, str]:
        """Everything that changes a vector; a folder is known by its content, not by its path.

        Hashing a folder with the 2.3 GB of the real weights takes seconds, once a process.
        """
        return {
            "backend": "bge-m3",
            "model": "folder" if self._folder else self._model,
            "revision": _folder_hash(self._folder) if self._folder else self._revision,
            "max_length": str(self._max_length),
            "precision": self._precision,
            "pooling": "cls",
            "normalisation": "l2",
        }

    def embed(self, texts: Sequence[str], kinds: Collection[Kind]) -> Embeddings:
        """The vectors of n texts, in their order.

        Sparse has a term's id in the tokenizer and its greatest weight, special tokens left out; a
        row is empty, and no failure, where no term has a positive weight. Multi has a vector for
        each token but the first, `<s>`. A text that is blank, or on which the model fails even
        alone, is in `failures`; a fault that would repeat for every text is raised.
        """
        failures = {i: reason for i, text in enumerate(texts) if (reason := _unusable(text))}
        if len(failures) == len(texts):
            return _Vectors([0] * len(texts), kinds).embeddings(failures)
        with _LOCK:
            model = load(self._model, self.identity["revision"], self._device, self._precision)
            # A text that is out already is tokenized as an empty one and has no tokens.
            ids, truncated = model.tokenize(
                ["" if i in failures else text for i, text in enumerate(texts)], self._max_length
            )
            failures = {i: "blank: no tokens" for i, row in enumerate(ids) if not row} | failures
            vectors = _Vectors([max(0, len(row) - 1) for row in ids], kinds)
            for batch in batches([len(row) for row in ids], self._batch_tokens):
                failures |= _embed_batch(model, batch, ids, vectors)
        return vectors.embeddings(failures, truncated, sum(map(len, ids)))

    def embed_queries(self, texts: Sequence[str], kinds: Collection[Kind]) -> Embeddings:
        """As `embed`: BGE-M3 was trained without an instruction for queries."""
        return self.embed(texts, kinds)


def batches(lengths: Sequence[int], batch_tokens: int) -> Iterator[list[int]]:
    """Groups texts that have tokens: rows × longest row ≤ `batch_tokens`, or one longer text alone.

    Sorted batches hold hardly any padding: twice as fast on mixed lengths. Longest first, so that
    memory runs out at once or not at all.
    """
    batch: list[int] = []
    for i in sorted(np.flatnonzero(lengths).tolist(), key=lambda i: -lengths[i]):
        if batch and (len(batch) + 1) * lengths[batch[0]] > batch_tokens:
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch


def _unusable(text: str) -> str | None:
    """Why the tokenizer cannot take a text: one such text would fail the whole call."""
    if not text.strip():
        return "blank"
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return f"not valid Unicode: {error.reason} at character {error.start}"
    return None


def _embed_batch(
    model: BgeM3Model, batch: list[int], ids: Sequence[list[int]], vectors: _Vectors
) -> dict[int, str]:
    """Fills in the vectors of a batch and returns its failures, by the texts' indices.

    A batch that fails is halved, down to the one bad text: its neighbours lose nothing. Before a
    text is blamed, the model has to embed a harmless one; where that fails too, the fault is the
    model's or the device's and would repeat for every text: it is raised.
    """
    failures: dict[int, str] = {}
    pending = [batch]
    while pending:
        rows = pending.pop()
        try:
            vectors.put(rows, model.forward([ids[i] for i in rows], vectors.kinds))
            continue
        except Exception as error:  # kernels and allocators share no base class
            if len(rows) == 1:
                model.forward([model.harmless], vectors.kinds)
                failures[rows[0]] = f"{type(error).__name__}: {error}"
                continue
        # Outside of the handler: its traceback holds the failed batch's tensors.
        half = len(rows) // 2
        pending += [rows[half:], rows[:half]]
    return failures


class _Vectors:
    """The arrays of one call, in the order of its texts: allocated once, filled batch by batch."""

    def __init__(self, token_vectors: Sequence[int], kinds: Collection[Kind]) -> None:
        """`token_vectors` holds how many rows of multi each text has."""
        n = len(token_vectors)
        self.kinds = frozenset(kinds)
        self._offsets = offsets(token_vectors)
        self._dense = np.zeros((n, DIMENSION), np.float32) if "dense" in kinds else None
        self._terms = [_NO_TERMS] * n if "sparse" in kinds else None
        self._multi = (
            np.empty((self._offsets[-1], DIMENSION), np.float32) if "multi" in kinds else None
        )

    def put(self, rows: Sequence[int], batch: Embeddings) -> None:
        for row, i in enumerate(rows):
            if self._dense is not None and batch.dense is not None:
                self._dense[i] = batch.dense[row]
            if self._terms is not None and batch.sparse is not None:
                part = slice(*batch.sparse.indptr[row : row + 2])
                self._terms[i] = (batch.sparse.indices[part], batch.sparse.values[part])
            if self._multi is not None and batch.multi is not None:
                part = slice(*batch.multi.offsets[row : row + 2])
                self._multi[slice(*self._offsets[i : i + 2])] = batch.multi.vectors[part]

    def embeddings(
        self, failures: Mapping[int, str], truncated: int = 0, tokens: int = 0
    ) -> Embeddings:
        sparse = multi = None
        if self._terms is not None:
            # One empty row more, as nothing cannot be concatenated.
            indices, values = zip(*self._terms, _NO_TERMS, strict=True)
            indptr = offsets([len(row) for row in indices[:-1]])
            sparse = Sparse(indptr, np.concatenate(indices), np.concatenate(values))
        if self._multi is not None:
            lengths = np.diff(self._offsets)
            embedded = ~np.isin(np.arange(len(lengths)), list(failures))
            vectors = self._multi[np.repeat(embedded, lengths)] if failures else self._multi
            multi = Multi(offsets(lengths * embedded), vectors)
        return Embeddings(
            self._dense, sparse, multi, dict(sorted(failures.items())), truncated, tokens
        )


def _folder_hash(folder: Path) -> str:
    """SHA-256 over the names and contents of a folder's model files."""
    digest = hashlib.sha256()
    for path in sorted({path for pattern in MODEL_FILES for path in folder.glob(pattern)}):
        stat = path.stat()
        digest.update(f"{path.name} {_file_hash(path, stat.st_size, stat.st_mtime_ns)}\n".encode())
    return f"sha256:{digest.hexdigest()}"


@lru_cache(maxsize=64)
def _file_hash(path: Path, size: int, mtime_ns: int) -> str:
    """SHA-256 of a file. Size and time are the cache's: a file that changed is read again."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _default_device() -> str:
    """`cuda:0` where a CUDA device is visible and torch is built for it; torch is not imported."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return "cpu"
    if not any(Path("/dev").glob("nvidia[0-9]*")):
        return "cpu"
    return "cpu" if "+cpu" in importlib.metadata.version("torch") else "cuda:0"


def _default_precision(device: str) -> str:
    if device.startswith("cuda"):
        return "fp16"
    cpu = Path("/proc/cpuinfo")
    has_amx = device == "cpu" and cpu.is_file() and "amx_bf16" in cpu.read_text()
    return "bf16" if has_amx else "fp32"
