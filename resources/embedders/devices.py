"""Several devices: a process for each, with a model of its own, and whoever is free takes the next texts.

Longest first and in pieces of equal size, so that all are done at about the same time. A process that dies is noticed:
its texts are given to a new one, once. What a process does is in `device_worker`.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any

import numpy as np

from rag_assets.pipeline.vectors import Embeddings, Kind
from resources.child_process import ChildProcess
from resources.embedders.batches import Vectors, batches
from resources.errors import EmbedderDied

#: Pieces of a call for each device, if they are not too small: with more they end closer together, with fewer there is
#: more to sort by length in each.
PIECES = 4


class Devices:
    """The embedder `spec` in a process for each of `options`, which differ in their device.

    `piece_bytes` of UTF-8 are enough work to be worth sending, and a call of no more, a query, goes to the first
    process. (A token of XLM-RoBERTa is three to five bytes in every script.) Processes start when there is work for
    them and end with this object, or with this process.
    """

    def __init__(
        self,
        spec: str,
        options: Sequence[Mapping[str, Any]],
        *,
        piece_bytes: int,
        dimension: int,
        token_dimension: int,
    ) -> None:
        # Else the threads of each process were as many as there are cores.
        threads = os.environ.get("OMP_NUM_THREADS") or max(1, (os.cpu_count() or 1) // len(options))
        self._devices = [_Device(spec, each, {"OMP_NUM_THREADS": str(threads)}) for each in options]
        self._piece_bytes = piece_bytes
        self._dimensions = (dimension, token_dimension)
        self._lock = threading.Lock()

    def embed(self, texts: Sequence[str], kinds: Collection[Kind]) -> Embeddings:
        """As one embedder would; raises what one raises, and EmbedderDied."""
        sizes = [len(text.encode("utf-8", "surrogatepass")) + 1 for text in texts]
        bound = max(self._piece_bytes, sum(sizes) // (PIECES * len(self._devices)))
        waiting = deque(batches(sizes, bound, padding=bound))
        parts: list[tuple[list[int], Embeddings]] = []

        def work(device: _Device) -> None:
            while waiting:
                try:
                    rows = waiting.popleft()
                except IndexError:  # another one took the last
                    return
                parts.append((rows, device.embed([texts[i] for i in rows], tuple(kinds))))

        with self._lock, ThreadPoolExecutor(len(self._devices)) as threads:
            working = [threads.submit(work, device) for device in self._devices[: len(waiting)]]
            try:
                for done in as_completed(working):
                    done.result()
            finally:
                waiting.clear()  # where one failed, the others stop after what they are at
        return self._joined(len(texts), parts, kinds)

    def _joined(
        self, n: int, parts: list[tuple[list[int], Embeddings]], kinds: Collection[Kind]
    ) -> Embeddings:
        """Empties `parts` as it goes: of multi-vectors there would be two copies."""
        token_vectors = np.zeros(n, np.int64)
        failures: dict[int, str] = {}
        for rows, part in parts:
            failures |= {rows[i]: reason for i, reason in part.failures.items()}
            if part.multi is not None:
                token_vectors[rows] = np.diff(part.multi.offsets)
        counts = {
            name: sum(getattr(part, name) for _, part in parts)
            for name in ("truncated", "tokens", "padding")
        }
        vectors = Vectors(token_vectors, kinds, *self._dimensions)
        while parts:
            vectors.put(*parts.pop())
        return vectors.embeddings(failures, **counts)


class _Device:
    """One process, started at its first texts."""

    def __init__(self, spec: str, options: Mapping[str, Any], environment: Mapping[str, str]):
        self._start = (spec, dict(options))
        self._environment = environment
        self._child: ChildProcess | None = None

    def embed(self, texts: list[str], kinds: tuple[Kind, ...]) -> Embeddings:
        # An innocent process may be killed from outside: only a second death is told of.
        answer = self._ask(texts, kinds) or self._ask(texts, kinds, attempt=2)
        if isinstance(answer, Embeddings):
            return answer
        assert answer is not None
        raise answer

    def _ask(
        self, texts: list[str], kinds: tuple[Kind, ...], attempt: int = 1
    ) -> Embeddings | Exception | None:
        # Taken out meanwhile: after an exchange that broke off halfway, its next answer would be a wrong one.
        child, self._child = self._child, None
        try:
            if child is None:
                child = ChildProcess(
                    "resources.embedders.device_worker", self._environment, errors=True
                )
                child.connection.send(self._start)
            child.connection.send((texts, kinds))
            answer = child.connection.recv()
        except (EOFError, ConnectionError):
            death = child.kill() if child else ""
        else:
            self._child = child
            return answer
        if attempt == 1:
            return None
        spec, options = self._start
        return EmbedderDied(
            f"The process of {spec} on {options.get('device')} died twice ({death}) over {len(texts)} texts; "
            "its last words are in the run's log.\n"
            "Where memory ran out (signal 9), fewer tokens at a time need less: set RAG_BGE_M3_BATCH_TOKENS."
        )
