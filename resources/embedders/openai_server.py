"""One request to a server with OpenAI's `POST {base}/embeddings`, and its response as arrays.

Retries requests and validates responses. `openai` divides texts into requests and handles rejected texts.
"""

from __future__ import annotations

import base64
import binascii
import json
import random
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import numpy as np
import urllib3
from numpy.typing import NDArray
from urllib3.exceptions import HTTPError, LocationParseError, SSLError

from resources.errors import ConfigError, EmbedderUnavailable
from resources.http_answers import reason, retry_after
from resources.urls import without_secrets

#: Seconds before the second attempt of a request; doubled before each further attempt.
FIRST_PAUSE = 0.5
#: Limit in bytes for each text of a response, plus this once: 8,192 numbers are 0.2 MB in JSON.
RESPONSE_BYTES = 1 << 20

#: The server rejects the texts or a field of the request; the status does not distinguish these two.
REJECTED = frozenset({400, 413, 422})
#: The cause may be the texts or the server: Ollama returns 500 if the model's vector is NaN, others if a batch does not
#: fit into memory.
SERVER_ERROR = frozenset({424, 500})
#: A later attempt may succeed, as for every status from 500 on.
RETRIED = frozenset({408, 409, 424, 425, 429})


class Rejected(Exception):
    """The server does not embed these texts. `server_error`: its status claims an error of the server."""

    def __init__(self, message: str, *, server_error: bool = False) -> None:
        super().__init__(message)
        self.server_error = server_error


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
    """The server's `vectors`, float32 [texts, dimension] in the order of the texts, and its count of `tokens`."""

    vectors: NDArray[np.float32]
    tokens: int


class EmbeddingServer:
    """An embeddings endpoint. Thread-safe; keeps up to `connections` connections open, one for each thread."""

    def __init__(self, base_url: str, model: str, api_key: str, connections: int) -> None:
        parts = urlsplit(base_url)
        self._url = urlunsplit(parts._replace(path=parts.path.rstrip("/") + "/embeddings"))
        self.shown_url = without_secrets(self._url)
        self._model = model
        self._key = api_key
        self._headers = {"Content-Type": "application/json", "User-Agent": "rag-assets"}
        if api_key:
            self._headers["Authorization"] = f"Bearer {api_key}"
        self._pool = urllib3.PoolManager(num_pools=1, maxsize=connections)

    def embed(
        self,
        texts: Sequence[str],
        extra_fields: Mapping[str, Any],
        retry_policy: RetryPolicy,
        stopped: threading.Event,
    ) -> Response:
        """Return the vectors of the texts. `extra_fields` extend the request; `stopped` ends the retries.

        Raises Rejected; EmbedderUnavailable after the last attempt; ConfigError if no retry can succeed.
        """
        request = {"model": self._model, "input": texts, **extra_fields}
        body = json.dumps(request, ensure_ascii=False).encode()
        pause = FIRST_PAUSE
        for attempts_left in reversed(range(retry_policy.attempts)):
            try:
                return self._read(self._post(body, len(texts), retry_policy.timeout), len(texts))
            except _Retry as error:
                # Randomised, so that requests that failed together are not repeated together.
                seconds = max(error.wait, pause * random.uniform(0.75, 1.25))
                if attempts_left and not stopped.wait(min(seconds, retry_policy.max_pause)):
                    pause *= 2
                    continue
                if error.status in SERVER_ERROR:
                    raise Rejected(str(error), server_error=True) from None
                raise EmbedderUnavailable(f"{self.shown_url}: {error}") from None
        raise AssertionError("unreachable")

    def _post(self, body: bytes, texts: int, timeout: float) -> bytes:
        deadline, data = time.monotonic() + timeout, bytearray()
        try:
            response = self._pool.request(
                "POST",
                self._url,
                body=body,
                headers=self._headers,
                redirect=False,
                retries=False,
                preload_content=False,
                timeout=urllib3.Timeout(connect=min(10.0, timeout), read=timeout),
            )
            # After a complete read, the connection is back in the pool; else `closing` closes it.
            with closing(response):
                for block in response.stream(1 << 16):
                    data += block
                    if len(data) > (texts + 1) * RESPONSE_BYTES:
                        raise self._invalid(f"at most {RESPONSE_BYTES:,} bytes a text", "more")
                    if time.monotonic() > deadline:
                        raise _Retry(f"the response took longer than {timeout:g} s")
        except (LocationParseError, SSLError) as error:
            raise ConfigError(
                f"{self.shown_url} cannot be reached: {reason(error)}. Fix RAG_OPENAI_BASE_URL."
            ) from None
        except HTTPError as error:
            raise _Retry(f"no response: {reason(error)}") from None
        if response.status != 200:
            headers = {name.lower(): value for name, value in response.headers.items()}
            raise self._error(response.status, headers, bytes(data))
        return bytes(data)

    def _error(self, status: int, headers: Mapping[str, str], data: bytes) -> Exception:
        """Return Rejected, _Retry or ConfigError for a status other than 200."""
        reason_text, code = _error_reason(data)
        if self._key:
            reason_text = reason_text.replace(self._key, "***")
        message = f"HTTP {status}: {reason_text[:300]}" if reason_text else f"HTTP {status}"
        if status in REJECTED:
            return Rejected(message)
        if (status in RETRIED or status >= 500) and code != "insufficient_quota":
            return _Retry(message, retry_after(headers, 0.0), status)
        if status in (301, 302, 303, 307, 308):
            message += f", to {without_secrets(headers.get('location', 'nowhere'))}"
        remedy = {
            401: "Fix RAG_OPENAI_API_KEY",
            402: "Raise the account's quota",
            403: "Fix RAG_OPENAI_API_KEY or its permissions",
            404: "Fix RAG_OPENAI_MODEL or RAG_OPENAI_BASE_URL (the part before /embeddings, it often ends in /v1)",
            429: "Raise the account's quota",
        }.get(status, "Fix RAG_OPENAI_BASE_URL")
        return ConfigError(f"{self.shown_url}, model {self._model!r}: {message}. {remedy}.")

    def _read(self, data: bytes, texts: int) -> Response:
        try:
            content = json.loads(data)
            items = sorted(content["data"], key=lambda item: item["index"])
            rows = [_numbers(item["embedding"]) for item in items]
            indices = [item["index"] for item in items]
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            raise self._invalid(
                'JSON with "data", a list of items with "index" and "embedding"',
                f"{type(error).__name__}: {error}"[:200],
            ) from None
        if indices != list(range(texts)):
            raise self._invalid(
                f"{texts} vectors with the indices 0 to {texts - 1}", f"{indices}"[:200]
            )
        if len(lengths := {len(row) for row in rows}) != 1:
            raise self._invalid("vectors of one dimension", f"{sorted(lengths)}")
        usage = content.get("usage")
        tokens = usage.get("prompt_tokens") if isinstance(usage, dict) else None
        return Response(np.stack(rows), tokens if isinstance(tokens, int) else 0)

    def _invalid(self, expected: str, found: str) -> ConfigError:
        return ConfigError(
            f"{self.shown_url} does not return OpenAI's embeddings response: expected {expected}, found {found}. "
            "Fix RAG_OPENAI_BASE_URL or the server."
        )


def _numbers(embedding: str | list[float]) -> NDArray[np.float32]:
    """Return float32 numbers from base64 (little-endian) or a list, whichever the server returns; null is NaN."""
    if isinstance(embedding, str):
        try:
            return np.frombuffer(base64.b64decode(embedding, validate=True), "<f4")
        except binascii.Error as error:
            raise ValueError(f"embedding: {error}") from None
    row = np.array(embedding, np.float32)
    if row.ndim != 1:
        raise ValueError(f"embedding: expected a list of numbers, found shape {row.shape}")
    return row


def _error_reason(data: bytes) -> tuple[str, str]:
    """Return (message, code) of an error response in the forms of OpenAI, TEI, vLLM, Ollama and FastAPI."""
    text, code = data.decode(errors="replace"), ""
    try:
        error = json.loads(data)
        if isinstance(error, dict):
            inner = error.get("error")
            if isinstance(inner, dict):
                error = inner
            code = str(error.get("code", ""))
            text = str(error.get("message") or error.get("error") or error.get("detail") or text)
    except ValueError:
        pass
    return " ".join(text.split()), code
