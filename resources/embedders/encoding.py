"""The loop of every model that runs on this machine: batches by length, and the search for the text that fails.

Each library has a loop of its own, and none has all of these: it fills batches by a budget of tokens and not of texts,
loses one bad text and not a whole call, returns arrays without padding, and counts tokens, padding and truncated texts.
A model's tokenizer and forward pass are in modules of their own, and so is what identifies it (`local_models`).
"""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar, Protocol, get_args

from rag_assets.pipeline.vectors import KINDS, Embeddings, Kind
from resources.embedders.batches import Vectors, batches, unusable
from resources.embedders.devices import Devices
from resources.embedders.local_models import (
    ModelSource,
    Precision,
    default_device,
    default_precision,
)
from resources.errors import ConfigError
from resources.extras import install_command

#: Default of rows × longest row in a batch. On 2 cores, 4 layers of BGE-M3's width embed 1,000 tokens/s in batches of
#: 512 or 1,024, 400 at 2,048 and 300 at 8,192: larger batches exceed the caches and are paged in again each time. An
#: accelerator needs its cores filled: its batch is one text of maximum length, which must fit anyway.
CPU_BATCH_TOKENS = 1024
ACCELERATOR_BATCH_TOKENS = 8192
#: A batch ends before its padding exceeds `batch_tokens` divided by this: 64 tokens on a CPU, which cost as much as
#: reading all weights again (2 layers in fp32: 45 ms a batch and 0.9 ms a token).
PADDING = 16

#: One batch at a time in a process: a second thread would use the same cores, and the tokenizer raises "Already
#: borrowed" when two threads set its truncation.
_LOCK = threading.Lock()


class LoadedModel(Protocol):
    """A model in memory. A row is a text as its tokenizer prepared it; only the model looks into it."""

    def tokenize(self, texts: Sequence[str]) -> tuple[Sequence[Any], Sequence[int], int]:
        """Return a row for each text, its tokens (0 for a text of special tokens only), and the number of truncated
        texts.
        """
        ...

    def forward(self, rows: Sequence[Any], kinds: Collection[Kind]) -> Embeddings:
        """Return the vectors of one batch, without padding and in main memory.

        Raises ValueError for vectors that must not be stored, or an error of its library.
        """
        ...

    @property
    def harmless(self) -> Any:
        """The row of a text that every working model embeds."""
        ...


def encode(
    load: Callable[[], LoadedModel],
    texts: Sequence[str],
    kinds: Collection[Kind],
    batch_tokens: int,
    dimensions: tuple[int, int],
) -> Embeddings:
    """Return the vectors of the texts, in their order. `dimensions`: of dense vectors and of token vectors.

    `failures` contains blank texts and texts on which the model fails even alone. A model with multi-vectors has one
    for each token but the first. Loads the model unless every text is unusable. Raises an error that would repeat for
    every text.
    """
    failures = {i: reason for i, text in enumerate(texts) if (reason := unusable(text))}
    if len(failures) == len(texts):
        return Vectors([0] * len(texts), kinds, *dimensions).embeddings(failures)
    with _LOCK:
        model = load()
        # A failed text is tokenized as an empty one and has no tokens.
        rows, lengths, truncated = model.tokenize(
            ["" if i in failures else text for i, text in enumerate(texts)]
        )
        failures = {i: "blank: no tokens" for i, n in enumerate(lengths) if not n} | failures
        vectors = Vectors([max(0, length - 1) for length in lengths], kinds, *dimensions)
        padded = 0
        for batch in batches(lengths, batch_tokens, batch_tokens // PADDING):
            failures |= _encode_batch(model, batch, rows, vectors)
            padded += len(batch) * lengths[batch[0]]
    tokens = sum(lengths)
    return vectors.embeddings(failures, truncated=truncated, tokens=tokens, padding=padded - tokens)


def _encode_batch(
    model: LoadedModel, batch: list[int], rows: Sequence[Any], vectors: Vectors
) -> dict[int, str]:
    """Add the vectors of a batch to `vectors`; return the failures by text index.

    Halves a failed batch down to the one bad text, so its neighbours succeed. Before a text counts as bad, the model
    must embed a harmless one. If that fails too, the fault is the model's or the device's and would repeat: it is
    raised.
    """
    failures: dict[int, str] = {}
    pending = [batch]
    while pending:
        part = pending.pop()
        try:
            vectors.put(part, model.forward([rows[i] for i in part], vectors.kinds))
            continue
        # The errors of kernels and allocators share no base class.
        except Exception as error:
            if len(part) == 1:
                model.forward([model.harmless], vectors.kinds)
                failures[part[0]] = f"{type(error).__name__}: {error}"
                continue
        # Outside the handler, whose traceback keeps the failed batch's tensors in memory.
        half = len(part) // 2
        pending += [part[half:], part[:half]]
    return failures


class LocalEmbedder:
    """Implements `rag_assets.pipeline.vectors.Embedder`, except for the model: arguments, devices and batches.

    `device` is one device, or several with commas between them and a process for each; None is every CUDA device that
    is visible to a torch built for CUDA, else the CPU. `precision="auto"` is fp16 on CUDA, bf16 on a CPU with
    instructions for it (on 2 cores 4.6 times the tokens/s of fp32 with AMX, 2.1 times with AVX512-BF16), else fp32.
    Precision changes vectors and is part of the identity: set it explicitly if different machines write or search the
    same collections. Neither default imports torch. `batch_tokens` limits memory and does not change vectors.
    """

    #: In the registry.
    name: ClassVar[str]
    #: A module that must be installed, and the extra that has it.
    library: ClassVar[str]
    extra: ClassVar[str]
    #: Argument -> the setting by which a user chooses it, where the error should name that.
    settings: ClassVar[Mapping[str, str]] = {}
    kinds: tuple[Kind, ...] = KINDS
    #: Of dense vectors and of token vectors; 0 without these.
    dimension: int = 0
    token_dimension: int = 0

    def __init__(
        self,
        source: ModelSource,
        *,
        example: str,
        max_length: int | None,
        batch_tokens: int | None,
        device: str | None,
        precision: Precision,
        problems: Sequence[str] = (),
    ) -> None:
        """Raises ConfigError with all problems; `problems` are the subclass's. `example`: of a name at the hub."""
        found = []
        if importlib.util.find_spec(self.library) is None:
            found.append(f"{self.library} is not installed: {install_command(self.extra)}")
        found += source.problems(self.setting("model"), self.setting("revision"), example)
        found += problems
        if batch_tokens is not None and batch_tokens < 1:
            found.append(f"{self.setting('batch_tokens')}={batch_tokens}: expected at least 1")
        if precision not in get_args(Precision):
            found.append(
                f"{self.setting('precision')}={precision!r}: expected one of {', '.join(get_args(Precision))}"
            )
        if found:
            raise ConfigError(f"{self.name} cannot be used:\n" + "\n".join(f"- {p}" for p in found))
        self._source = source
        self._max_length = max_length
        self._device, *self._others = map(str.strip, (device or default_device()).split(","))
        self._batch_tokens = batch_tokens or (
            CPU_BATCH_TOKENS if self._device == "cpu" else ACCELERATOR_BATCH_TOKENS
        )
        self._precision = default_precision(self._device) if precision == "auto" else precision

    @classmethod
    def setting(cls, argument: str) -> str:
        return cls.settings.get(argument, argument)

    @cached_property
    def identity(self) -> Mapping[str, str]:
        """Everything that changes a stored vector. A maximum length of the model's own is in its files."""
        return {
            "backend": self.name,
            **self._source.identity,
            "max_length": str(self._max_length or "model"),
            "precision": self._precision,
            **self._own_identity,
        }

    @property
    def _own_identity(self) -> Mapping[str, str]:
        """The part of the identity that only this class of models has."""
        raise NotImplementedError

    @property
    def _options(self) -> Mapping[str, Any]:
        """The arguments of this class that the process of a device needs in addition to the common ones."""
        return {}

    def _load(self, queries: bool) -> LoadedModel:
        """Return the model that embeds queries, or documents, cached per process."""
        raise NotImplementedError

    def embed(self, texts: Sequence[str], kinds: Collection[Kind]) -> Embeddings:
        """Return the vectors of the texts, in their order.

        `failures` contains blank texts and texts on which the model fails even alone. Raises an error that would
        repeat for every text, and ConfigError for a model that cannot be loaded or makes no vectors of these kinds.
        """
        return self._embed(texts, kinds, queries=False)

    def embed_queries(self, texts: Sequence[str], kinds: Collection[Kind]) -> Embeddings:
        """Embed queries, in the same way as other texts unless the model was trained otherwise."""
        return self._embed(texts, kinds, queries=True)

    def _embed(self, texts: Sequence[str], kinds: Collection[Kind], *, queries: bool) -> Embeddings:
        if others := [kind for kind in KINDS if kind in kinds and kind not in self.kinds]:
            raise ConfigError(
                f"{self.name} makes {', '.join(self.kinds)} vectors, no {' and no '.join(others)} ones: "
                f"set RAG_VECTORS={','.join(self.kinds)}"
            )
        if self._devices is not None:
            return self._devices.embed(texts, kinds, queries=queries)
        return encode(
            lambda: self._load(queries),
            texts,
            kinds,
            self._batch_tokens,
            (self.dimension if "dense" in kinds else 0, self.token_dimension),
        )

    @cached_property
    def _devices(self) -> Devices | None:
        """The processes of several devices; None for one, which this process uses itself."""
        if not self._others:
            return None
        options = {
            "model": self._source.model,
            "revision": self._source.commit or None,
            "max_length": self._max_length,
            "batch_tokens": self._batch_tokens,
            "precision": self._precision,
            **self._options,
        }
        return Devices(
            self.name,
            [options | {"device": device} for device in (self._device, *self._others)],
            batch_bytes=4 * self._batch_tokens,
            dimension=self.dimension,
            token_dimension=self.token_dimension,
            advice=f"If memory ran out (signal 9), set a smaller {self.setting('batch_tokens')}.",
        )
