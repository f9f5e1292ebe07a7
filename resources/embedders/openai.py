"""Dense vectors from a server with OpenAI's embeddings API: TEI, vLLM, Infinity, Ollama, OpenAI itself.

Divides a call into concurrent requests, and halves a rejected request down to the rejected text. A text fails alone,
and only if the server still embeds a harmless one. One request, its retries and its response are in `openai_server`.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rag_assets.pipeline.vectors import Embeddings, Kind
from resources.embedders.batches import divided, unusable
from resources.embedders.openai_server import EmbeddingServer, Rejected, RetryPolicy
from resources.errors import ConfigError, EmbedderUnavailable

#: Increase this when a change here changes the vector of any text.
VERSION = "1"

#: A text that every model accepts: if it is rejected, the other texts are not the cause.
HARMLESS = "test"

#: A vector of 1,024 numbers has 5.5 KB in base64; as JSON numbers it has 22.7 KB, and reading takes 11 times as long.
BASE64 = {"encoding_format": "base64"}


@dataclass
class _Call:
    """The texts of one call, as sent, and the results that the threads add; each row belongs to one thread.

    `probed`: the server embedded a harmless text during this call. `unconfirmed`: a text failed since then.
    """

    inputs: Sequence[str]
    retry_policy: RetryPolicy
    dense: NDArray[np.float32]
    failures: dict[int, str]
    tokens: int = 0
    probed: bool = False
    unconfirmed: bool = False
    stopped: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)


class OpenAIEmbedder:
    """Implements `rag_assets.pipeline.vectors.Embedder`, dense vectors only. Threads may share one.

    `base_url` is the URL without `/embeddings`. `dimensions` is sent to the server; a server that rejects this field
    must return vectors of that dimension. If None, the first use of the dimension or the identity sends a request to
    learn it. `revision` is a part of the identity that is not sent: another one means another model behind the same
    name. `batch_texts` and `batch_chars` limit one request, `requests` the concurrent ones. `timeout` is in seconds
    per request, `query_timeout` per request of queries, which are tried twice.
    """

    kinds: tuple[Kind, ...] = ("dense",)
    #: No multi-vectors.
    token_dimension = 0

    def __init__(
        self,
        *,
        base_url: str,
        model: str,
        api_key: str = "",
        dimensions: int | None = None,
        revision: str = "",
        document_prefix: str = "",
        query_prefix: str = "",
        batch_texts: int = 32,
        batch_chars: int = 100_000,
        requests: int = 4,
        timeout: float = 60.0,
        query_timeout: float = 10.0,
    ) -> None:
        self._server = EmbeddingServer(base_url, model, api_key, requests)
        self._model = model
        self._revision = revision
        self._dimension = dimensions
        self._prefixes = {"document": document_prefix, "query": query_prefix}
        self._batch_texts, self._batch_chars, self._requests = batch_texts, batch_chars, requests
        self._documents = RetryPolicy(timeout, attempts=6, max_pause=60.0)
        self._queries = RetryPolicy(query_timeout, attempts=2, max_pause=2.0)
        # Not `query_timeout`: the first request may wait for a server that loads its model.
        self._probes = RetryPolicy(timeout, attempts=2, max_pause=2.0)
        sized = {} if dimensions is None else {"dimensions": dimensions}
        #: Optional fields that a server may reject: all of them first, none last.
        self._variants: list[dict[str, Any]] = [BASE64 | sized, sized, BASE64, {}]
        self._extra_fields = self._variants[0]

    @property
    def dimension(self) -> int:
        if self._dimension is None:
            self._probe()
        assert self._dimension is not None
        return self._dimension

    @property
    def identity(self) -> Mapping[str, str]:
        """Everything that changes a stored vector: not the URL, and not the prefix of queries."""
        return {
            "backend": "openai",
            "version": VERSION,
            "model": self._model,
            # Without the setting the identity is the one of earlier versions.
            **({"revision": self._revision} if self._revision else {}),
            "dimensions": str(self.dimension),
            "document_prefix": self._prefixes["document"],
            "normalisation": "l2",
        }

    def embed(self, texts: Sequence[str], kinds: Collection[Kind]) -> Embeddings:
        """Return the vectors of the texts. `failures`: blank texts, and texts for which the server returns no usable
        vector, although it embeds a harmless text.

        Raises EmbedderUnavailable if the server does not answer, ConfigError if it cannot serve this configuration.
        """
        return self._embed(texts, kinds, self._prefixes["document"], self._documents)

    def embed_queries(self, texts: Sequence[str], kinds: Collection[Kind]) -> Embeddings:
        """Embed queries: with their own prefix, and with a shorter timeout and fewer retries, because a user waits."""
        return self._embed(texts, kinds, self._prefixes["query"], self._queries)

    def _embed(
        self, texts: Sequence[str], kinds: Collection[Kind], prefix: str, retry_policy: RetryPolicy
    ) -> Embeddings:
        if unsupported := sorted(set(kinds) - {"dense"}):
            raise ConfigError(
                f"RAG_EMBEDDER=openai returns dense vectors, no {' and no '.join(unsupported)} ones: "
                "set RAG_VECTORS=dense"
            )
        failures = {i: reason for i, text in enumerate(texts) if (reason := unusable(text))}
        if not kinds:
            return Embeddings(failures=failures)
        # Without texts, the dimension does not justify a request.
        dimension = self.dimension if texts else self._dimension or 0
        dense = np.zeros((len(texts), dimension), np.float32)
        call = _Call([prefix + text for text in texts], retry_policy, dense, failures)
        batches = list(self._batches(call))
        # One batch, such as a query, needs no thread.
        if len(batches) == 1:
            self._embed_batch(call, batches[0])
        elif batches:
            self._embed_batches(call, batches)
        if call.unconfirmed:
            # The server may have broken down on the way: a failure is recorded, and its text is not tried again.
            self._probe()
        return Embeddings(dense, failures=dict(sorted(failures.items())), tokens=call.tokens)

    def _batches(self, call: _Call) -> Iterator[list[int]]:
        """Yield the rows of each request, longest text first: servers pad, so lengths in a request should be close."""
        usable = [i for i in range(len(call.inputs)) if i not in call.failures]
        batch, chars = [], 0
        for i in sorted(usable, key=lambda i: -len(call.inputs[i])):
            if batch and (
                len(batch) == self._batch_texts or chars + len(call.inputs[i]) > self._batch_chars
            ):
                yield batch
                batch, chars = [], 0
            batch.append(i)
            chars += len(call.inputs[i])
        if batch:
            yield batch

    def _embed_batches(self, call: _Call, batches: Sequence[list[int]]) -> None:
        with ThreadPoolExecutor(min(self._requests, len(batches))) as threads:
            futures = [threads.submit(self._embed_batch, call, batch) for batch in batches]
            try:
                for future in as_completed(futures):
                    future.result()
            finally:
                # If one failed, the others stop after their current request.
                call.stopped.set()
                for future in futures:
                    future.cancel()

    def _embed_batch(self, call: _Call, rows: Sequence[int]) -> None:
        """Add the vectors of a batch to the call. A rejected batch is halved down to the rejected text.

        A text without a usable vector in a response is asked for again, alone.
        """
        if call.stopped.is_set():
            return
        extra_fields = self._extra_fields
        texts = [call.inputs[i] for i in rows]
        try:
            response = self._server.embed(texts, extra_fields, call.retry_policy, call.stopped)
        except Rejected as rejection:
            self._require_working_server(call)
            if self._extra_fields != extra_fields:
                self._embed_batch(call, rows)
            elif len(rows) == 1:
                self._fail(call, rows[0], str(rejection))
            else:
                for part in divided(rows):
                    self._embed_batch(call, part)
            return
        with call.lock:
            call.tokens += response.tokens
        faults: dict[int, str] = {}
        for row, vector in zip(rows, response.vectors, strict=True):
            unit = self._unit(vector)
            if isinstance(unit, str):
                faults[row] = unit
            else:
                call.dense[row] = unit
        if faults:
            self._require_working_server(call)
        for row, fault in faults.items():
            if len(rows) == 1:
                self._fail(call, row, fault)
            else:
                self._embed_batch(call, [row])

    def _fail(self, call: _Call, row: int, reason: str) -> None:
        call.failures[row] = reason
        # A call of one text was probed after its only request.
        call.unconfirmed = len(call.inputs) > 1

    def _require_working_server(self, call: _Call) -> None:
        """Probe the server, once per call, before a text counts as failed. Raises the errors of `_probe`."""
        with call.lock:
            if call.probed or call.stopped.is_set():
                return
            try:
                self._probe()
            except Exception:
                # The threads that wait for the lock must not probe again.
                call.stopped.set()
                raise
            call.probed = True

    def _probe(self) -> None:
        """Find the fields that the server accepts, and the dimension.

        Raises EmbedderUnavailable or ConfigError if the server cannot embed a harmless text.
        """
        rejection: Rejected | None = None
        current = self._extra_fields
        for extra_fields in [current, *(fields for fields in self._variants if fields != current)]:
            try:
                response = self._server.embed(
                    [HARMLESS], extra_fields, self._probes, threading.Event()
                )
            except Rejected as error:
                rejection = rejection or error
                if error.fields or error.server_error:
                    continue
                break
            (vector,) = response.vectors
            if self._dimension is None and not isinstance(vector, str) and len(vector):
                self._dimension = len(vector)
            fault = self._unit(vector)
            if isinstance(fault, str):
                raise self._misconfigured(vector, fault, rejection)
            self._extra_fields = extra_fields
            return
        assert rejection is not None
        message = f"{self._server.shown_url} rejects even {HARMLESS!r}: {rejection}"
        if rejection.server_error:
            raise EmbedderUnavailable(message)
        raise ConfigError(f"{message}. {rejection.remedy}.")

    def _misconfigured(
        self, vector: NDArray[np.float32] | str, fault: str, rejection: Rejected | None
    ) -> ConfigError:
        """Return the error for a harmless text without a usable vector. `rejection`: of the field `dimensions`."""
        if isinstance(vector, str) or len(vector) in (0, self._dimension):
            return ConfigError(f"{self._server.shown_url}, even for {HARMLESS!r}: {fault}.")
        reason = f" (it rejected the field `dimensions`: {rejection})" if rejection else ""
        return ConfigError(
            f"{self._server.shown_url}, model {self._model!r}: {fault}{reason}. "
            f"Set RAG_OPENAI_DIMENSIONS={len(vector)} to embed again with these."
        )

    def _unit(self, vector: NDArray[np.float32] | str) -> NDArray[np.float32] | str:
        """Return the vector with norm 1, or the reason why it cannot be used."""
        if isinstance(vector, str):
            return vector
        if len(vector) != self._dimension:
            return f"expected a vector of dimension {self._dimension}, found {len(vector)}"
        # In float64, because squares of large float32 numbers are infinite.
        numbers = vector.astype(np.float64)
        norm = float(np.sqrt(numbers @ numbers))
        if not np.isfinite(norm) or norm == 0:
            return (
                "expected finite numbers that are not all zero, found NaN, infinity or only zeros"
            )
        return (numbers / norm).astype(np.float32)
