"""One request to a server with OpenAI's `POST {base}/embeddings`, and its response as one vector for each text.

Retries requests and reads responses. A response that cannot be read counts as a rejection: one of the texts may be the
cause. `openai` divides texts into requests, and finds out whether a text or the server is at fault.
"""

from __future__ import annotations

import base64
import binascii
import json
import random
import threading
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resources.errors import ConfigError, EmbedderUnavailable
from resources.http_answers import retry_after
from resources.model_server import ModelServer, NoReply, Reply, ReplyTooLong
from resources.waiting import waiting

#: Seconds before the second attempt of a request; doubled before each further attempt.
FIRST_PAUSE = 0.5
#: Attempts of a request without a whole response: a server that is away, or that breaks off, is asked again by the
#: next attempt of the step, seconds later. One that answers "busy" gets all attempts of the policy.
SILENT_ATTEMPTS = 3
#: Limit in bytes for each text of a response, plus this once: 8,192 numbers are 0.2 MB in JSON.
RESPONSE_BYTES = 1 << 20

#: The server rejects the texts or a field of the request; the status does not distinguish these two.
FIELDS_REJECTED = frozenset({400, 413, 422})
#: The cause may be the texts or the server: Ollama returns 500 if the model's vector is NaN, others if a batch does not
#: fit into memory.
SERVER_ERROR = frozenset({424, 500})
#: A later attempt may succeed, as for every status from 500 on.
RETRIED = frozenset({408, 409, 424, 425, 429})


class Rejected(Exception):
    """The server does not embed these texts.

    `server_error`: its status claims an error of the server. `fields`: a field of the request may be the cause.
    `remedy`: what to fix if the server rejects every text.
    """

    def __init__(
        self, message: str, *, server_error: bool = False, fields: bool = False, remedy: str = ""
    ) -> None:
        super().__init__(message)
        self.server_error, self.fields, self.remedy = server_error, fields, remedy


class _Retry(Exception):
    """The request failed and may succeed later; `wait` is the pause in seconds that the server requests."""

    def __init__(self, message: str, wait: float = 0.0, status: int = 0) -> None:
        super().__init__(message)
        self.wait, self.status = wait, status


@dataclass(frozen=True)
class RetryPolicy:
    """The timeout of a request in seconds, its number of attempts, and the longest pause between two in seconds."""

    timeout: float
    attempts: int
    max_pause: float


@dataclass(frozen=True)
class Response:
    """For each text, in order, its vector or the reason why there is none; and the server's count of `tokens`."""

    vectors: Sequence[NDArray[np.float32] | str]
    tokens: int


class EmbeddingServer:
    """An embeddings endpoint. Thread-safe; keeps up to `connections` connections open, one for each thread."""

    def __init__(self, base_url: str, model: str, api_key: str, connections: int) -> None:
        self._server = ModelServer(
            base_url,
            "/embeddings",
            api_key,
            key_setting="RAG_OPENAI_API_KEY",
            url_setting="RAG_OPENAI_BASE_URL",
            connections=connections,
        )
        self.shown_url = self._server.shown_url
        self._model = model
        #: Of the thread that reports the wait: one line for all requests that wait.
        self._reports = threading.Lock()

    def embed(
        self,
        texts: Sequence[str],
        extra_fields: Mapping[str, Any],
        retry_policy: RetryPolicy,
        stopped: threading.Event,
    ) -> Response:
        """Return the vectors of the texts. `extra_fields` extend the request; `stopped` ends the retries.

        Raises Rejected; EmbedderUnavailable after the last attempt; ConfigError if no request can succeed.
        """
        request = {"model": self._model, "input": texts, **extra_fields}
        body = json.dumps(request, ensure_ascii=False).encode()
        pause, silent = FIRST_PAUSE, 0
        with ExitStack() as report:
            for attempt in range(1, retry_policy.attempts + 1):
                try:
                    answer = self._post(body, len(texts), retry_policy.timeout)
                    return self._read(answer, len(texts))
                except _Retry as error:
                    silent += not error.status
                    if attempt < retry_policy.attempts and silent < SILENT_ATTEMPTS:
                        self._report(error, retry_policy, attempt, report)
                        # Randomised, so that requests that failed together are not repeated together.
                        seconds = max(error.wait, pause * random.uniform(0.75, 1.25))
                        if not stopped.wait(min(seconds, retry_policy.max_pause)):
                            pause *= 2
                            continue
                    if error.status in SERVER_ERROR:
                        raise Rejected(str(error), server_error=True) from None
                    raise EmbedderUnavailable(f"{self.shown_url}: {error}") from None
        raise AssertionError("unreachable")

    def _report(self, error: _Retry, policy: RetryPolicy, attempt: int, report: ExitStack) -> None:
        """Report, until `report` closes, that a request waits, unless another one does."""
        if not self._reports.acquire(blocking=False):
            return
        report.callback(self._reports.release)
        pauses = (min(FIRST_PAUSE * 2**n, policy.max_pause) for n in range(policy.attempts - 1))
        longest = (policy.attempts - attempt) * policy.timeout + sum(pauses)
        report.enter_context(waiting(f"the embedding server, {self.shown_url}: {error}", longest))

    def _post(self, body: bytes, texts: int, timeout: float) -> bytes:
        try:
            reply = self._server.post(body, timeout=timeout, limit=(texts + 1) * RESPONSE_BYTES)
        except ReplyTooLong:
            raise _invalid(f"at most {RESPONSE_BYTES:,} bytes a text", "more") from None
        except NoReply as error:
            raise _Retry(str(error)) from None
        if reply.status != 200:
            raise self._error(reply)
        return reply.data

    def _error(self, reply: Reply) -> Exception:
        """Return Rejected, _Retry or ConfigError for a status other than 200."""
        status = reply.status
        reason_text, code = self._server.error_of(reply.data)
        message = f"HTTP {status}: {reason_text[:300]}" if reason_text else f"HTTP {status}"
        if code == "insufficient_quota":
            return ConfigError(
                f"{self.shown_url}, model {self._model!r}: {message}. Raise the account's quota."
            )
        if status in RETRIED or status >= 500:
            return _Retry(message, retry_after(reply.headers, 0.0), status)
        if location := reply.location():
            message += f", to {location}"
        return Rejected(
            message,
            fields=status in FIELDS_REJECTED,
            remedy={
                400: f"Fix RAG_OPENAI_MODEL ({self._model}) or RAG_OPENAI_DIMENSIONS",
                401: "Fix RAG_OPENAI_API_KEY",
                402: "Raise the account's quota",
                403: "Fix RAG_OPENAI_API_KEY or its permissions",
                404: f"Fix RAG_OPENAI_MODEL ({self._model}) or RAG_OPENAI_BASE_URL (the part before /embeddings, "
                "it often ends in /v1)",
                413: f"Fix RAG_OPENAI_MODEL ({self._model}) or RAG_OPENAI_DIMENSIONS",
                422: f"Fix RAG_OPENAI_MODEL ({self._model}) or RAG_OPENAI_DIMENSIONS",
            }.get(status, "Fix RAG_OPENAI_BASE_URL"),
        )

    def _read(self, data: bytes, texts: int) -> Response:
        """Return the vectors of a response with status 200. Raises Rejected if they cannot be assigned to the texts.

        One item is missing, and the others may have moved up: then no vector of the response can be trusted.
        """
        try:
            content = json.loads(data)
        # Deeply nested JSON raises RecursionError.
        except (ValueError, RecursionError) as error:
            raise _invalid(_EXPECTED, f"{type(error).__name__}: {error}") from None
        items = content.get("data") if isinstance(content, dict) else None
        if not isinstance(items, list) or content.get("error"):
            reason_text, _ = self._server.error_of(data)
            raise _invalid(_EXPECTED, reason_text or "an empty response")
        by_index: dict[int, list[dict[str, Any]]] = {}
        for item in items:
            index = item.get("index") if isinstance(item, dict) else None
            if not isinstance(index, int) or isinstance(index, bool):
                raise _invalid(_EXPECTED, "an item without a number as its index")
            by_index.setdefault(index, []).append(item)
        if by_index.keys() != set(range(texts)):
            wanted = (
                f"{texts} vectors with the indices 0 to {texts - 1}" if texts > 1 else "index 0"
            )
            found = sorted(item["index"] for item in items)
            raise _invalid(wanted, f"{found}" if found else "none")
        usage = content.get("usage")
        tokens = usage.get("prompt_tokens") if isinstance(usage, dict) else None
        vectors = [_vector(by_index[index]) for index in range(texts)]
        return Response(vectors, tokens if isinstance(tokens, int) else 0)


_EXPECTED = 'JSON with "data", a list of items with "index" and "embedding"'


def _invalid(expected: str, found: str) -> Rejected:
    return Rejected(
        f"the response is wrong: expected {expected}, found {found[:200]}",
        remedy="Fix RAG_OPENAI_BASE_URL or the server",
    )


def _vector(items: Sequence[Mapping[str, Any]]) -> NDArray[np.float32] | str:
    """Return the vector of one text, or the reason why its items contain none. The same item twice is no fault."""
    embeddings = [item.get("embedding") for item in items]
    if any(embedding != embeddings[0] for embedding in embeddings[1:]):
        return f"expected one vector, found {len(embeddings)} different ones"
    if embeddings[0] is None:
        error = items[0].get("error")
        return "expected a vector, found none" + (f": {error}"[:300] if error else "")
    try:
        vector = _numbers(embeddings[0])
    except (ValueError, TypeError, OverflowError) as error:
        return f"expected a list of numbers, found {type(error).__name__}: {error}"[:300]
    return vector if len(vector) else "expected a vector, found an empty one"


def _numbers(embedding: str | list[float]) -> NDArray[np.float32]:
    """Return float32 numbers from base64 (little-endian) or a list, whichever the server returns; null is NaN."""
    if isinstance(embedding, str):
        try:
            return np.frombuffer(base64.b64decode(embedding, validate=True), "<f4")
        except binascii.Error as error:
            raise ValueError(f"text that is not base64: {error}") from None
    # Numbers beyond float32 become infinite, which `openai` reports.
    with np.errstate(over="ignore"):
        row = np.array(embedding, np.float32)
    if row.ndim != 1:
        raise ValueError(f"an array of shape {row.shape}")
    return row
