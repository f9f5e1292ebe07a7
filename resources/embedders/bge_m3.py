"""BGE-M3: the dense, sparse and multi-vectors of a text from one forward pass of one model.

FlagEmbedding loads the model. The loop over batches is our own, because FlagEmbedding's `encode` runs the first batch
twice, keeps every padded batch in memory until it returns, fails on an empty list, and loses a whole call to one bad
text. The vectors are FlagEmbedding's: a test compares each kind with its output. The model and its forward pass are in
`bge_m3_model`.
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
from resources.extras import install_command

Precision = Literal["fp32", "bf16", "fp16", "auto"]

MODEL = "BAAI/bge-m3"
#: A commit, because the hub's branches move. FlagEmbedding's users have this one.
REVISION = "5617a9f61b028005a4858fdac845db406aefb181"
MAX_LENGTH = 8192

#: Default of rows × longest row in a batch. On 2 cores, 4 layers of the real width embed 1,000 tokens/s in batches of
#: 512 or 1,024, 400 at 2,048 and 300 at 8,192: larger batches exceed the caches and are paged in again each time. An
#: accelerator needs its cores filled: its batch is one text of maximum length, which must fit anyway.
CPU_BATCH_TOKENS = 1024
ACCELERATOR_BATCH_TOKENS = 8192
#: A batch ends before its padding exceeds `batch_tokens` divided by this: 64 tokens on a CPU, which cost as much as
#: reading all weights again (2 layers in fp32: 45 ms a batch and 0.9 ms a token).
PADDING = 16

#: One model per process and one batch at a time: a second thread would use the same cores, and the tokenizer raises
#: "Already borrowed" when two threads set its truncation.
_LOCK = threading.Lock()


class BgeM3Embedder:
    """Implements `rag_assets.pipeline.vectors.Embedder` with BGE-M3 or a model of its shape.

    `model` is a folder or a hub name; a hub name other than the default needs `revision`. `max_length` is in tokens:
    longer texts are cut and counted as truncated. `batch_tokens` limits memory and does not change vectors.

    `precision="auto"` is fp16 on CUDA, bf16 on a CPU with instructions for it (on 2 cores 4.6 times the tokens/s of
    fp32 with AMX, 2.1 times with AVX512-BF16), else fp32. Precision changes vectors and is part of the identity: set it
    explicitly if different machines write or search the same collections. `device` is one device, or several with
    commas between them and a process for each; None is every CUDA device that is visible to a torch built for CUDA,
    else the CPU. Neither default imports torch.

    Raises ConfigError here for invalid arguments, and at first use for a model that cannot be loaded.
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
            problems.append(f"FlagEmbedding is not installed: {install_command('bge-m3')}")
        if folder.is_dir():
            if revision is not None:
                problems.append(
                    f"revision={revision!r}: expected none for the folder {model}, its files are hashed"
                )
        elif not re.fullmatch(r"[\w.-]+/[\w.-]+", model):
            problems.append(f"model={model!r}: expected a folder or a hub name such as {MODEL}")
        elif revision is None and model != MODEL:
            problems.append(
                f"revision: expected a commit of {model}, because the hub's branches move"
            )
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
        self._device, *others = map(str.strip, (device or _default_device()).split(","))
        self._batch_tokens = batch_tokens or (
            CPU_BATCH_TOKENS if self._device == "cpu" else ACCELERATOR_BATCH_TOKENS
        )
        self._precision = _default_precision(self._device) if precision == "auto" else precision
        self._devices = self._create_devices([self._device, *others]) if others else None

    @cached_property
    def identity(self) -> Mapping[str, str]:
        """Everything that changes a vector; a folder is identified by its content, not by its path.

        Hashing a folder with the 2.3 GB of the real weights takes seconds, once per process.
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
        """Return the vectors of the texts, in their order.

        Sparse rows contain tokenizer ids and their greatest weights, without special tokens; a row is empty, but not a
        failure, if no term has a positive weight. Multi has a vector for each token except the first, `<s>`. `failures`
        contains blank texts and texts on which the model fails even alone. Raises an error that would repeat for every
        text.
        """
        if self._devices is not None:
            return self._devices.embed(texts, kinds)
        failures = {i: reason for i, text in enumerate(texts) if (reason := unusable(text))}
        if len(failures) == len(texts):
            return _allocate([0] * len(texts), kinds).embeddings(failures)
        with _LOCK:
            model = load(self._model, self.identity["revision"], self._device, self._precision)
            # A failed text is tokenized as an empty one and has no tokens.
            ids, truncated = model.tokenize(
                ["" if i in failures else text for i, text in enumerate(texts)], self._max_length
            )
            failures = {i: "blank: no tokens" for i, row in enumerate(ids) if not row} | failures
            lengths = [len(row) for row in ids]
            vectors = _allocate([max(0, length - 1) for length in lengths], kinds)
            padded = 0
            for batch in batches(lengths, self._batch_tokens, self._batch_tokens // PADDING):
                failures |= _embed_batch(model, batch, ids, vectors)
                padded += len(batch) * lengths[batch[0]]
        tokens = sum(lengths)
        return vectors.embeddings(
            failures, truncated=truncated, tokens=tokens, padding=padded - tokens
        )

    def embed_queries(self, texts: Sequence[str], kinds: Collection[Kind]) -> Embeddings:
        """Embed queries like texts: BGE-M3 was trained without a query instruction."""
        return self.embed(texts, kinds)

    def _create_devices(self, devices: Sequence[str]) -> Devices:
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
            batch_bytes=4 * self._batch_tokens,
            dimension=DIMENSION,
            token_dimension=DIMENSION,
            advice="If memory ran out (signal 9), set a smaller RAG_BGE_M3_BATCH_TOKENS.",
        )


def _allocate(token_vectors: Sequence[int], kinds: Collection[Kind]) -> Vectors:
    return Vectors(token_vectors, kinds, DIMENSION, DIMENSION)


def _embed_batch(
    model: BgeM3Model, batch: list[int], ids: Sequence[list[int]], vectors: Vectors
) -> dict[int, str]:
    """Add the vectors of a batch to `vectors`; return the failures by text index.

    Halves a failed batch down to the one bad text, so its neighbours succeed. Before a text counts as bad, the model
    must embed a harmless one. If that fails too, the fault is the model's or the device's and would repeat: it is
    raised.
    """
    failures: dict[int, str] = {}
    pending = [batch]
    while pending:
        rows = pending.pop()
        try:
            vectors.put(rows, model.forward([ids[i] for i in rows], vectors.kinds))
            continue
        # The errors of kernels and allocators share no base class.
        except Exception as error:
            if len(rows) == 1:
                model.forward([model.harmless], vectors.kinds)
                failures[rows[0]] = f"{type(error).__name__}: {error}"
                continue
        # Outside the handler, whose traceback keeps the failed batch's tensors in memory.
        half = len(rows) // 2
        pending += [rows[half:], rows[:half]]
    return failures


def _folder_hash(folder: Path) -> str:
    """Return the SHA-256 of the names and contents of a folder's model files."""
    digest = hashlib.sha256()
    for path in sorted({path for pattern in MODEL_FILES for path in folder.glob(pattern)}):
        stat = path.stat()
        digest.update(f"{path.name} {_file_hash(path, stat.st_size, stat.st_mtime_ns)}\n".encode())
    return f"sha256:{digest.hexdigest()}"


@lru_cache(maxsize=64)
def _file_hash(path: Path, size: int, mtime_ns: int) -> str:
    """Return the SHA-256 of a file. Size and time are cache keys: a changed file is read again."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _default_device() -> str:
    """Return every visible CUDA device if torch is built for CUDA, else the CPU. Does not import torch."""
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
