"""Several processes with one model each, such as one for each device; an idle process takes the next texts.

Texts are sent longest first and in batches of equal size, so that all processes finish at about the same time. If a
process dies, a new one embeds its texts, once. `device_worker` is the code of a process.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from typing import Any

from rag_assets.pipeline.vectors import Embeddings, Kind
from resources.child_process import ChildProcess
from resources.embedders.batches import batches, join
from resources.errors import ConfigError, EmbedderDied

#: Batches of a call for each device, unless they become too small. With more, the processes finish closer together;
#: with fewer, each batch has more texts to sort by length.
BATCHES_PER_DEVICE = 4


class Devices:
    """The embedder `spec` in one process for each of `options`.

    `batch_bytes` of UTF-8 is the smallest amount of work for one process; a smaller call, such as a query, goes to one
    process alone. (A token of XLM-RoBERTa is three to five bytes in every script.) `largest_batch_bytes` limits the
    work that a dead process loses. `threads`: of each process. `spare`: a call of one batch does not wait for a larger
    one, but goes to an idle process, or to one more that is started for it. `advice` ends the error for a process that
    died twice. Processes start when they have work and end with this object or with this process.
    """

    def __init__(
        self,
        spec: str,
        options: Sequence[Mapping[str, Any]],
        *,
        batch_bytes: int,
        dimension: int,
        token_dimension: int,
        largest_batch_bytes: int | None = None,
        threads: int | None = None,
        spare: bool = False,
        advice: str = "",
    ) -> None:
        if threads is None:
            # By default, each process would start one thread per core.
            threads = int(
                os.environ.get("OMP_NUM_THREADS") or max(1, (os.cpu_count() or 1) // len(options))
            )
        environment = {"OMP_NUM_THREADS": str(threads)}
        self._devices = [_Device(spec, of_one, environment, advice) for of_one in options]
        self._spare = _Device(spec, options[0], environment, advice) if spare else None
        self._batch_bytes = batch_bytes
        self._largest_batch_bytes = largest_batch_bytes
        self._dimensions = (dimension, token_dimension)
        self._lock = threading.Lock()

    def embed(
        self, texts: Sequence[str], kinds: Collection[Kind], *, queries: bool = False
    ) -> Embeddings:
        """Embed texts like a single embedder. Raises its errors, EmbedderDied, and ConfigError for a process that ended
        with an illegal instruction."""
        sizes = [len(text.encode("utf-8", "surrogatepass")) + 1 for text in texts]
        bound = max(self._batch_bytes, sum(sizes) // (BATCHES_PER_DEVICE * len(self._devices)))
        bound = min(bound, self._largest_batch_bytes or bound)
        waiting = deque(batches(sizes, bound, padding=bound))
        if len(waiting) == 1 and self._spare is not None:
            with self._idle(self._spare) as device:
                return device.embed(list(texts), tuple(kinds), queries)
        results: list[tuple[Sequence[int], Embeddings]] = []

        def work(device: _Device) -> None:
            while waiting:
                try:
                    rows = waiting.popleft()
                # Another thread took the last batch.
                except IndexError:
                    return
                with device.lock:
                    answer = device.embed([texts[i] for i in rows], tuple(kinds), queries)
                results.append((rows, answer))

        with self._lock, ThreadPoolExecutor(len(self._devices)) as threads:
            futures = [threads.submit(work, device) for device in self._devices[: len(waiting)]]
            try:
                for future in as_completed(futures):
                    future.result()
            finally:
                # If one failed, the others stop after their current batch.
                waiting.clear()
        return join(len(texts), results, kinds, self._dimensions, {})

    @contextmanager
    def _idle(self, spare: _Device) -> Iterator[_Device]:
        """Lend a device that nothing uses; the first ones first, so that few processes start."""
        device = next((d for d in self._devices if d.lock.acquire(blocking=False)), spare)
        if device is spare:
            spare.lock.acquire()
        try:
            yield device
        finally:
            device.lock.release()


class _Device:
    """One process, started with its first texts. `lock`: of the thread that uses it."""

    def __init__(
        self, spec: str, options: Mapping[str, Any], environment: Mapping[str, str], advice: str
    ) -> None:
        self.lock = threading.Lock()
        self._start = (spec, dict(options))
        self._environment = environment
        self._advice = advice
        self._child: ChildProcess | None = None

    def embed(self, texts: list[str], kinds: tuple[Kind, ...], queries: bool) -> Embeddings:
        request = (texts, kinds, queries)
        # The first death may have an outside cause, such as a kill: try again once.
        answer = self._ask(request)
        if isinstance(answer, str):
            answer = self._ask(request)
        if isinstance(answer, str):
            raise self._death(answer, len(texts))
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _ask(
        self, request: tuple[list[str], tuple[Kind, ...], bool]
    ) -> Embeddings | Exception | str:
        """Return the answer, an error of the embedder, or how the process died."""
        # Detach the process during the exchange: after an interrupted one, its next answer would be the wrong one.
        child, self._child = self._child, None
        try:
            if child is None:
                child = ChildProcess(
                    "resources.embedders.device_worker", self._environment, errors=True
                )
                child.connection.send(self._start)
            child.connection.send(request)
            answer = child.connection.recv()
        except (EOFError, ConnectionError):
            return child.kill() if child else "before its start"
        self._child = child
        return answer

    def _death(self, death: str, texts: int) -> Exception:
        spec, options = self._start
        place = f" on {options['device']}" if "device" in options else ""
        message = (
            f"The process of {spec}{place} died twice ({death}) over {texts} texts; the run's log contains its last "
            f"output.\n{self._advice}"
        )
        # An illegal instruction: no retry helps on this processor.
        return ConfigError(message) if death == "signal 4" else EmbedderDied(message)
