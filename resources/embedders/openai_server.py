"""One request to a server that speaks OpenAI's `POST {base}/embeddings`, and its answer as arrays.

Here a request is tried again, and an answer is held to what was asked for. What becomes of texts that the server
refuses, and which requests are made, is in `openai`.
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

#: Seconds before the second try of a request; before each further one twice as long.
FIRST_PAUSE = 0.5
#: Bytes of an answer, at most, for each text in it and once more: 8,192 numbers are 0.2 MB in JSON.
ANSWER_BYTES = 1 << 20

#: What a server says of the texts, or of a field of the request that it does not know: one answer for both.
REFUSALS = frozenset({400, 413, 422})
#: What may be the texts' fault as well as the server's: Ollama answers 500 where the model's vector is NaN, others
#: where a batch does not fit into memory.
BROKEN = frozenset({424, 500})
#: What may be another answer a little later, as is everything from 500 on.
BUSY = frozenset({408, 409, 424, 425, 429})


class Refused(Exception):
    """The server does not embed these texts; the message has its reason. `broken`: it said that it is its own fault."""

    def __init__(self, message: str, *, broken: bool = False) -> None:
        super().__init__(message)
        self.broken = broken


class _Busy(Exception):
    """No answer now; `wait` is what the server asks for, in seconds."""

    def __init__(self, message: str, wait: float = 0.0, status: int = 0) -> None:
        super().__init__(message)
        self.wait, self.status = wait, status


@dataclass(frozen=True)
class Patience:
    """Seconds that a request may take, how often it is tried, and the longest pause between two tries in seconds."""

    timeout: float
    tries: int
    longest_pause: float


@dataclass(frozen=True)
class Answer:
    """`vectors` float32 [texts, dimension] in the order of the texts, as the server made them; `tokens` it counted."""

    vectors: NDArray[np.float32]
    tokens: int


class EmbeddingServer:
    """Threads may share one; each has a connection of its own, up to `connections` that are kept open."""

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

    def ask(
        self,
        texts: Sequence[str],
        extras: Mapping[str, Any],
        patience: Patience,
        stopped: threading.Event,
    ) -> Answer:
        """The texts' vectors. `extras`: fields of the request beside model and input; `stopped` ends the pauses.

        Raises Refused; EmbedderUnavailable after the last try; ConfigError where no further try can help.
        """
        body = json.dumps(
            {"model": self._model, "input": texts, **extras}, ensure_ascii=False
        ).encode()
        pause = FIRST_PAUSE
        for tries_left in reversed(range(patience.tries)):
            try:
                return self._read(self._post(body, len(texts), patience.timeout), len(texts))
            except _Busy as busy:
                # Not all at the same moment, when several requests were turned away together.
                seconds = max(busy.wait, pause * random.uniform(0.75, 1.25))
                if tries_left and not stopped.wait(min(seconds, patience.longest_pause)):
                    pause *= 2
                    continue
                if busy.status in BROKEN:
                    raise Refused(str(busy), broken=True) from None
                raise EmbedderUnavailable(f"{self.shown_url}: {busy}") from None
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
            # Read to its end, the connection is back in the pool by then; else it is closed.
            with closing(response):
                for block in response.stream(1 << 16):
                    data += block
                    if len(data) > (texts + 1) * ANSWER_BYTES:
                        raise self._unlike(f"at most {ANSWER_BYTES:,} bytes a text", "more")
                    if time.monotonic() > deadline:
                        raise _Busy(f"the answer took longer than {timeout:g} s")
        except (LocationParseError, SSLError) as error:
            raise ConfigError(
                f"{self.shown_url} cannot be asked: {reason(error)}. Mend RAG_OPENAI_BASE_URL."
            ) from None
        except HTTPError as error:
            raise _Busy(f"no answer: {reason(error)}") from None
        if response.status != 200:
            headers = {name.lower(): value for name, value in response.headers.items()}
            self._judge(response.status, headers, bytes(data))
        return bytes(data)

    def _judge(self, status: int, headers: Mapping[str, str], data: bytes) -> None:
        said, code = _error(data)
        if self._key:
            said = said.replace(self._key, "***")
        message = f"HTTP {status}: {said[:300]}" if said else f"HTTP {status}"
        if status in REFUSALS:
            raise Refused(message)
        if (status in BUSY or status >= 500) and code != "insufficient_quota":
            raise _Busy(message, retry_after(headers, 0.0), status)
        if status in (301, 302, 303, 307, 308):
            message += f", to {without_secrets(headers.get('location', 'nowhere'))}"
        mend = {
            401: "RAG_OPENAI_API_KEY",
            402: "the account's quota",
            403: "RAG_OPENAI_API_KEY, or what it is allowed",
            404: "RAG_OPENAI_MODEL, or RAG_OPENAI_BASE_URL (it ends where /embeddings begins, often in /v1)",
            429: "the account's quota",
        }.get(status, "RAG_OPENAI_BASE_URL")
        raise ConfigError(f"{self.shown_url}, model {self._model!r}: {message}. Mend {mend}.")

    def _read(self, data: bytes, texts: int) -> Answer:
        try:
            found = json.loads(data)
            items = sorted(found["data"], key=lambda item: item["index"])
            rows = [_numbers(item["embedding"]) for item in items]
            indices = [item["index"] for item in items]
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            raise self._unlike(
                'JSON with "data", of which each has "index" and "embedding"',
                f"{type(error).__name__}: {error}"[:200],
            ) from None
        if indices != list(range(texts)):
            raise self._unlike(
                f"{texts} vectors with the indices 0 to {texts - 1}", f"{indices}"[:200]
            )
        if len(lengths := {len(row) for row in rows}) != 1:
            raise self._unlike("vectors of one dimension", f"{sorted(lengths)}")
        usage = found.get("usage")
        counted = usage.get("prompt_tokens") if isinstance(usage, dict) else None
        return Answer(np.stack(rows), counted if isinstance(counted, int) else 0)

    def _unlike(self, expected: str, found: str) -> ConfigError:
        return ConfigError(
            f"{self.shown_url} does not answer as OpenAI's embeddings do: expected {expected}, found {found}. "
            "Mend RAG_OPENAI_BASE_URL, or the server."
        )


def _numbers(embedding: str | list[float]) -> NDArray[np.float32]:
    """Little-endian float32 in base64, or a list of numbers, from whatever was asked for; null is NaN."""
    if isinstance(embedding, str):
        try:
            return np.frombuffer(base64.b64decode(embedding, validate=True), "<f4")
        except binascii.Error as error:
            raise ValueError(f"embedding: {error}") from None
    row = np.array(embedding, np.float32)
    if row.ndim != 1:
        raise ValueError(f"embedding: expected a list of numbers, found shape {row.shape}")
    return row


def _error(data: bytes) -> tuple[str, str]:
    """(message, code) of an answer that is none, as OpenAI, TEI, vLLM, Ollama and FastAPI write them."""
    text, code = data.decode(errors="replace"), ""
    try:
        found = json.loads(data)
        if isinstance(found, dict):
            inner = found.get("error")
            if isinstance(inner, dict):
                found = inner
            code = str(found.get("code", ""))
            text = str(found.get("message") or found.get("error") or found.get("detail") or text)
    except ValueError:
        pass
    return " ".join(text.split()), code
