"""Several devices: one process and one model for each; an idle process takes the next texts.

Texts are sent longest first and in batches of equal size, so that all processes finish at about the same time. If a
process dies, a new one embeds its texts, once. `device_worker` is the code of a process.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any

from rag_assets.pipeline.vectors import Embeddings, Kind
from resources.child_process import ChildProcess
from resources.embedders.batches import batches, join
from resources.errors import EmbedderDied

#: Batches of a call for each device, unless they become too small. With more, the processes finish closer together;
#: with fewer, each batch has more texts to sort by length.
BATCHES_PER_DEVICE = 4


class Devices:
    """The embedder `spec` in one process for each of `options`, which differ in their device.

    `batch_bytes` of UTF-8 is the smallest amount of work for one process; a smaller call, such as a query, goes to the
    first process. (A token of XLM-RoBERTa is three to five bytes in every script.) Processes start when they have work
    and end with this object or with this process.
    """

    def __init__(
        self,
        spec: str,
        options: Sequence[Mapping[str, Any]],
        *,
        batch_bytes: int,
        dimension: int,
        token_dimension: int,
    ) -> None:
        # By default, each process would start one thread per core.
        threads = os.environ.get("OMP_NUM_THREADS") or max(1, (os.cpu_count() or 1) // len(options))
        environment = {"OMP_NUM_THREADS": str(threads)}
        self._devices = [_Device(spec, of_device, environment) for of_device in options]
        self._batch_bytes = batch_bytes
        self._dimensions = (dimension, token_dimension)
        self._lock = threading.Lock()

    def embed(self, texts: Sequence[str], kinds: Collection[Kind]) -> Embeddings:
        """Embed texts like a single embedder. Raises its errors, and EmbedderDied."""
        sizes = [len(text.encode("utf-8", "surrogatepass")) + 1 for text in texts]
        bound = max(self._batch_bytes, sum(sizes) // (BATCHES_PER_DEVICE * len(self._devices)))
        waiting = deque(batches(sizes, bound, padding=bound))
        results: list[tuple[Sequence[int], Embeddings]] = []

        def work(device: _Device) -> None:
            while waiting:
                try:
                    rows = waiting.popleft()
                # Another thread took the last batch.
                except IndexError:
                    return
                results.append((rows, device.embed([texts[i] for i in rows], tuple(kinds))))

        with self._lock, ThreadPoolExecutor(len(self._devices)) as threads:
            futures = [threads.submit(work, device) for device in self._devices[: len(waiting)]]
            try:
                for future in as_completed(futures):
                    future.result()
            finally:
                # If one failed, the others stop after their current batch.
                waiting.clear()
        return join(len(texts), results, kinds, self._dimensions, {})


class _Device:
    """One process, started with its first texts."""

    def __init__(self, spec: str, options: Mapping[str, Any], environment: Mapping[str, str]):
        self._start = (spec, dict(options))
        self._environment = environment
        self._child: ChildProcess | None = None

    def embed(self, texts: list[str], kinds: tuple[Kind, ...]) -> Embeddings:
        # The first death may have an outside cause, such as a kill: try again once.
        answer = self._ask(texts, kinds) or self._ask(texts, kinds, attempt=2)
        if isinstance(answer, Embeddings):
            return answer
        assert answer is not None
        raise answer

    def _ask(
        self, texts: list[str], kinds: tuple[Kind, ...], attempt: int = 1
    ) -> Embeddings | Exception | None:
        # Detach the process during the exchange: after an interrupted one, its next answer would be the wrong one.
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
            "the run's log contains its last output.\n"
            "If memory ran out (signal 9), set a smaller RAG_BGE_M3_BATCH_TOKENS."
        )
