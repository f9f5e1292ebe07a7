"""Dense vectors from a server that speaks OpenAI's embeddings: TEI, vLLM, Infinity, Ollama, OpenAI itself.

Here a call becomes requests, a few at a time, and what a server refuses is halved down to the text that it does not
take. One request, its tries and its answer are in `openai_server`.
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
from resources.embedders.batches import unusable
from resources.embedders.openai_server import Answer, EmbeddingServer, Patience, Refused
from resources.errors import ConfigError, EmbedderUnavailable

VERSION = "1"  # raise it when code here gives any text another vector

#: A text that every model takes: where it is refused, no other text is to blame.
HARMLESS = "test"

#: A vector of 1,024 numbers is 5.5 KB, as JSON's numbers 22.7 KB, which take eleven times as long to read.
BASE64 = {"encoding_format": "base64"}


@dataclass
class _Call:
    """The texts of one call, as they are sent, and what the threads have of them: each row is one thread's."""

    inputs: Sequence[str]
    patience: Patience
    dense: NDArray[np.float32]
    failures: dict[int, str]
    tokens: int = 0
    tried_out: bool = False
    stopped: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)


class OpenAIEmbedder:
    """Implements `rag_assets.pipeline.vectors.Embedder`, dense vectors only. Threads may share one.

    `base_url` is what stands before `/embeddings`. `dimensions` is sent; where the server takes no such field, it is
    what its vectors must have. None: learned by a request when it, or the identity, is first asked for. `batch_texts`
    and `batch_chars` bound a request, `requests` are on their way at a time. `timeout` in seconds is a request's, and
    `query_timeout` of one with queries, which are tried twice.
    """

    token_dimension = 0  # no multi-vectors

    def __init__(
        self,
        *,
        base_url: str,
        model: str,
        api_key: str = "",
        dimensions: int | None = None,
        document_prefix: str = "",
        query_prefix: str = "",
        batch_texts: int = 32,
        batch_chars: int = 100_000,
        requests: int = 4,
        timeout: float = 60.0,
        query_timeout: float = 10.0,
    ) -> None:
        api_key = api_key.strip()
        if not (api_key.isascii() and api_key.isprintable()):
            # What a header cannot hold, the library would quote.
            raise ConfigError("RAG_OPENAI_API_KEY: expected printable ASCII characters")
        self._server = EmbeddingServer(base_url, model, api_key, requests)
        self._model = model
        self._dimension = dimensions
        self._prefixes = {"document": document_prefix, "query": query_prefix}
        self._batch_texts, self._batch_chars, self._requests = batch_texts, batch_chars, requests
        self._documents = Patience(timeout, tries=6, longest_pause=60.0)
        self._queries = Patience(query_timeout, tries=2, longest_pause=2.0)
        # The first request may have to wait for a server that loads its model.
        self._trial = Patience(timeout, tries=2, longest_pause=2.0)
        named = {} if dimensions is None else {"dimensions": dimensions}
        #: The fields that a server may not know, from the best to none.
        self._variants: list[dict[str, Any]] = [BASE64 | named, named, BASE64, {}]
        self._extras = self._variants[0]

    @property
    def dimension(self) -> int:
        if self._dimension is None:
            self._try_out()
        assert self._dimension is not None
        return self._dimension

    @property
    def identity(self) -> Mapping[str, str]:
        """Not where the model is served, nor the queries' prefix, which is in no stored vector."""
        return {
            "backend": "openai",
            "version": VERSION,
            "model": self._model,
            "dimensions": str(self.dimension),
            "document_prefix": self._prefixes["document"],
            "normalisation": "l2",
        }

    def embed(self, texts: Sequence[str], kinds: Collection[Kind]) -> Embeddings:
        """The vectors of n texts; what is blank, or refused where a harmless text is not, is in `failures`.

        Raises EmbedderUnavailable when the server does not answer, ConfigError when it cannot.
        """
        return self._embed(texts, kinds, self._prefixes["document"], self._documents)

    def embed_queries(self, texts: Sequence[str], kinds: Collection[Kind]) -> Embeddings:
        """As `embed`, with the queries' prefix, and for someone who waits."""
        return self._embed(texts, kinds, self._prefixes["query"], self._queries)

    def _embed(
        self, texts: Sequence[str], kinds: Collection[Kind], prefix: str, patience: Patience
    ) -> Embeddings:
        if unmade := sorted(set(kinds) - {"dense"}):
            raise ConfigError(
                f"RAG_EMBEDDER=openai makes dense vectors, no {' and no '.join(unmade)} ones: set RAG_VECTORS=dense"
            )
        failures = {i: reason for i, text in enumerate(texts) if (reason := unusable(text))}
        if not kinds:
            return Embeddings(failures=failures)
        # Of nothing, the dimension is not worth a request.
        dimension = self.dimension if texts else self._dimension or 0
        dense = np.zeros((len(texts), dimension), np.float32)
        call = _Call([prefix + text for text in texts], patience, dense, failures)
        batches = list(self._batches(call))
        if len(batches) == 1:  # a query needs no thread
            self._deliver(call, batches[0])
        elif batches:
            self._deliver_all(call, batches)
        return Embeddings(dense, failures=dict(sorted(failures.items())), tokens=call.tokens)

    def _batches(self, call: _Call) -> Iterator[list[int]]:
        """Requests' texts, longest first: what a server pads to equal length is of nearly equal length."""
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

    def _deliver_all(self, call: _Call, batches: Sequence[list[int]]) -> None:
        with ThreadPoolExecutor(min(self._requests, len(batches))) as threads:
            pending = [threads.submit(self._deliver, call, batch) for batch in batches]
            try:
                for done in as_completed(pending):
                    done.result()
            finally:
                call.stopped.set()  # where one failed, the others end after the request they are at
                for each in pending:
                    each.cancel()

    def _deliver(self, call: _Call, rows: list[int]) -> None:
        """Fills in the vectors of a batch. One that is refused is halved, down to the text that is to blame."""
        if call.stopped.is_set():
            return
        extras = self._extras
        try:
            answer = self._server.ask(
                [call.inputs[i] for i in rows], extras, call.patience, call.stopped
            )
        except Refused as refusal:
            self._exonerate_server(call)
            if self._extras != extras:
                self._deliver(call, rows)
            elif len(rows) == 1:
                call.failures[rows[0]] = str(refusal)
            else:
                half = len(rows) // 2
                self._deliver(call, rows[:half])
                self._deliver(call, rows[half:])
            return
        vectors, sound = self._unit(answer)
        call.dense[rows] = vectors
        if not sound.all():
            self._exonerate_server(call)
            for row in np.flatnonzero(~sound):
                call.failures[rows[row]] = _UNSOUND
        with call.lock:
            call.tokens += answer.tokens

    def _exonerate_server(self, call: _Call) -> None:
        """Once a call, before a text is blamed for what would happen to every other one, too."""
        with call.lock:
            if call.tried_out or call.stopped.is_set():
                return
            try:
                self._try_out()
            except Exception:
                call.stopped.set()  # those who wait for the lock need not find out, too
                raise
            call.tried_out = True

    def _try_out(self) -> None:
        """Finds what the server takes, and learns the dimension. Raises where it takes not even a harmless text."""
        refusal: Refused | None = None
        current = self._extras
        for extras in [current, *(each for each in self._variants if each != current)]:
            try:
                answer = self._server.ask([HARMLESS], extras, self._trial, threading.Event())
            except Refused as refused:
                refusal = refusal or refused
                continue
            if self._dimension is None:
                self._dimension = answer.vectors.shape[1]
            _, sound = self._unit(answer, refusal)
            if not sound.all():
                raise ConfigError(f"{self._server.shown_url}, even for {HARMLESS!r}: {_UNSOUND}.")
            self._extras = extras
            return
        assert refusal is not None
        message = f"{self._server.shown_url} does not take even {HARMLESS!r}: {refusal}"
        if refusal.broken:
            raise EmbedderUnavailable(message)
        raise ConfigError(
            f"{message}. Mend RAG_OPENAI_MODEL ({self._model}) or RAG_OPENAI_DIMENSIONS."
        )

    def _unit(
        self, answer: Answer, refusal: Refused | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Vectors of norm 1, zero where they are not sound, and which ones are."""
        if (found := answer.vectors.shape[1]) != self._dimension:
            without = f" (it refused the field `dimensions`: {refusal})" if refusal else ""
            raise ConfigError(
                f"{self._server.shown_url}, model {self._model!r}: expected vectors of dimension {self._dimension}, "
                f"found {found}{without}. Set RAG_OPENAI_DIMENSIONS={found} to embed anew with these."
            )
        vectors = answer.vectors.astype(np.float64)  # squares of large float32 are infinite
        norms = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
        sound = np.isfinite(norms) & (norms > 0)
        vectors[~sound], norms[~sound] = 0, 1
        return (vectors / norms[:, None]).astype(np.float32), sound


_UNSOUND = "expected a vector of finite numbers other than zero, found one without a direction"
