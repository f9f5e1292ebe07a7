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
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Literal, get_args

from rag_assets.pipeline.vectors import Embeddings, Kind
from resources.embedders.batches import Vectors, batches, unusable
from resources.embedders.bge_m3_model import DIMENSION, MODEL_FILES, BgeM3Model, load
from resources.embedders.devices import Devices
from resources.errors import ConfigError

Precision = Literal["fp32", "bf16", "fp16", "auto"]

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
#: A batch ends where its padding would pass this part of `batch_tokens`: on a CPU 64 tokens, what
#: reading all weights once more costs (2 layers in fp32: 45 ms a batch and 0.9 ms a token).
PADDING = 16

#: One model a process, one batch at a time: a second thread would share the same cores, and the
#: tokenizer raises "Already borrowed" when two threads set its truncation.
_LOCK = threading.Lock()


class BgeM3Embedder:
    """Implements `rag_assets.pipeline.vectors.Embedder` with BGE-M3 or a model of its shape.

    `model` is a folder or a hub name; a hub name other than the default needs `revision`.
    `max_length` in tokens: what is longer is cut and counted as truncated. `batch_tokens` bounds
    memory and changes no vector.

    `precision="auto"` is fp16 on CUDA, bf16 on a CPU with instructions for it (on 2 cores 4.6 times
    the tokens/s of fp32 with AMX, 2.1 times with AVX512-BF16), else fp32. It is part of the
    identity, as it changes vectors: where machines of several kinds write or search the same
    collections, name the precision. `device` is one, or several with commas between, each with a
    process of its own; None is every CUDA device that is visible to a torch built for it, else the
    CPU. Neither needs torch to be imported.

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
        self._device, *others = [each.strip() for each in (device or _default_device()).split(",")]
        self._batch_tokens = batch_tokens or (
            CPU_BATCH_TOKENS if self._device == "cpu" else ACCELERATOR_BATCH_TOKENS
        )
        self._precision = _default_precision(self._device) if precision == "auto" else precision
        self._devices = self._processes([self._device, *others]) if others else None

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
        if self._devices is not None:
            return self._devices.embed(texts, kinds)
        failures = {i: reason for i, text in enumerate(texts) if (reason := unusable(text))}
        if len(failures) == len(texts):
            return _vectors([0] * len(texts), kinds).embeddings(failures)
        with _LOCK:
            model = load(self._model, self.identity["revision"], self._device, self._precision)
            # A text that is out already is tokenized as an empty one and has no tokens.
            ids, truncated = model.tokenize(
                ["" if i in failures else text for i, text in enumerate(texts)], self._max_length
            )
            failures = {i: "blank: no tokens" for i, row in enumerate(ids) if not row} | failures
            lengths = [len(row) for row in ids]
            vectors = _vectors([max(0, length - 1) for length in lengths], kinds)
            padded = 0
            for batch in batches(lengths, self._batch_tokens, self._batch_tokens // PADDING):
                failures |= _embed_batch(model, batch, ids, vectors)
                padded += len(batch) * lengths[batch[0]]
        tokens = sum(lengths)
        return vectors.embeddings(
            failures, truncated=truncated, tokens=tokens, padding=padded - tokens
        )

    def embed_queries(self, texts: Sequence[str], kinds: Collection[Kind]) -> Embeddings:
        """As `embed`: BGE-M3 was trained without an instruction for queries."""
        return self.embed(texts, kinds)

    def _processes(self, devices: Sequence[str]) -> Devices:
        options = {
            "model": self._model,
            "revision": None if self._folder else self._revision,
            "max_length": self._max_length,
            "batch_tokens": self._batch_tokens,
            "precision": self._precision,
        }
        return Devices(
            "bge-m3",
            [options | {"device": device} for device in devices],
            piece_bytes=4 * self._batch_tokens,
            dimension=DIMENSION,
            token_dimension=DIMENSION,
        )


def _vectors(token_vectors: Sequence[int], kinds: Collection[Kind]) -> Vectors:
    return Vectors(token_vectors, kinds, DIMENSION, DIMENSION)


def _embed_batch(
    model: BgeM3Model, batch: list[int], ids: Sequence[list[int]], vectors: Vectors
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
    """Every visible CUDA device where torch is built for them, else the CPU; torch is not imported."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible in ("", "-1") or "+cpu" in importlib.metadata.version("torch"):
        return "cpu"
    count = sum(1 for _ in Path("/dev").glob("nvidia[0-9]*"))
    if visible is not None:
        count = min(count, len(visible.split(",")))
    return ",".join(f"cuda:{i}" for i in range(count)) or "cpu"


def _default_precision(device: str) -> str:
    if device.startswith("cuda"):
        return "fp16"
    cpu = Path("/proc/cpuinfo")
    if device == "cpu" and cpu.is_file() and re.search(r"\b(amx|avx512)_bf16\b", cpu.read_text()):
        return "bf16"
    return "fp32"
