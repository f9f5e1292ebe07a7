"""A reranking server: `POST {base}/rerank`, in the forms of Cohere, Jina, vLLM, and of Text Embeddings Inference.

The form is found by asking: a server rejects one that it does not know. A wrong setup is an error; anything else, such
as a server that is away or a wrong answer, means that there are no scores this time.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from resources.errors import ConfigError, RerankerFailed
from resources.http_answers import retry_after
from resources.model_server import ModelServer, NoReply, Reply, ReplyTooLong
from resources.waiting import waiting

#: Attempts of a request, because a user waits, and the pause in seconds between two.
ATTEMPTS = 2
PAUSE = 0.5
#: Limit in bytes of a response, plus four times the request: some servers return the texts, escaped.
RESPONSE_BYTES = 1 << 20
#: A text that every model accepts.
HARMLESS = "test"

#: The server rejects the form of the request, a field or a text; the status does not distinguish these.
REJECTED = frozenset({400, 413, 422})
#: A later attempt may succeed, as for every status from 500 on.
RETRIED = frozenset({408, 409, 424, 425, 429})
#: The setup is wrong, whatever the texts are: setting that fixes it.
REMEDIES = {
    401: "RAG_RERANKER_API_KEY",
    403: "RAG_RERANKER_API_KEY or its permissions",
    404: "RAG_RERANKER_URL (the part before /rerank) or RAG_RERANKER_MODEL",
    405: "RAG_RERANKER_URL (the part before /rerank)",
}

Fields = dict[str, Any]


def _documents(texts: Sequence[str]) -> Fields:
    return {"documents": texts, "top_n": len(texts)}


def _truncated_documents(texts: Sequence[str]) -> Fields:
    """vLLM rejects a text that is too long, unless it is told to cut it."""
    return {**_documents(texts), "truncate_prompt_tokens": -1}


def _texts(texts: Sequence[str]) -> Fields:
    """Text Embeddings Inference. It rejects a text that is too long, unless it is told to cut it."""
    return {"texts": texts, "truncate": True}


#: The forms of a request.
Form = Callable[[Sequence[str]], Fields]
FORMS: tuple[Form, ...] = (_documents, _truncated_documents, _texts)


class _Rejected(Exception):
    """The server rejects every form of the request. `reasons`: the reason for each."""

    def __init__(self, reasons: Mapping[Form, str]) -> None:
        super().__init__("; ".join(dict.fromkeys(reasons.values())))
        self.reasons = reasons


class _FormRejected(Exception):
    """The server rejects one form."""


class EndpointReranker:
    """Implements `rag_assets.pipeline.reranker.Reranker`. `timeout` is in seconds for all attempts together."""

    def __init__(
        self, *, url: str, model: str = "", api_key: str = "", timeout: float = 10.0
    ) -> None:
        self._server = ModelServer(
            url,
            "/rerank",
            api_key,
            key_setting="RAG_RERANKER_API_KEY",
            url_setting="RAG_RERANKER_URL",
            connections=4,
        )
        self._model = model
        self._timeout = timeout
        # Text Embeddings Inference serves one model and takes no name.
        self._form = FORMS[0] if model else FORMS[-1]

    @property
    def identity(self) -> Mapping[str, str]:
        return {"backend": "endpoint", **({"model": self._model} if self._model else {})}

    def scores(self, query: str, texts: Sequence[str]) -> list[float]:
        """Return the server's scores.

        Raises RerankerFailed for a request that the server rejects although it accepts a harmless one, and ConfigError
        if it rejects that one, too.
        """
        deadline = time.monotonic() + self._timeout
        with waiting(f"the reranking server, {self._server.shown_url}", self._timeout):
            try:
                return self._ask(query, texts, deadline)
            except _Rejected as rejection:
                try:
                    self._ask(HARMLESS, [HARMLESS], deadline)
                except _Rejected as error:
                    raise ConfigError(
                        f"{self._server.shown_url} rejects even {HARMLESS!r}: {error}. "
                        f"Fix RAG_RERANKER_MODEL ({self._model or 'not set'}) or RAG_RERANKER_URL."
                    ) from None
                raise self._failed(rejection.reasons[self._form]) from None

    def _ask(self, query: str, texts: Sequence[str], deadline: float) -> list[float]:
        """Return the scores, asked for in the form that the server accepted last, else in the others."""
        reasons: dict[Form, str] = {}
        for form in (self._form, *(form for form in FORMS if form != self._form)):
            fields = {"query": query, **form(texts)}
            if self._model:
                fields["model"] = self._model
            try:
                reply = self._post(json.dumps(fields, ensure_ascii=False), deadline)
            except _FormRejected as error:
                reasons[form] = str(error)
                continue
            self._form = form
            return self._read(reply, len(texts))
        raise _Rejected(reasons)

    def _post(self, request: str, deadline: float) -> bytes:
        body, failure = request.encode(errors="replace"), ""
        for attempt in range(1, ATTEMPTS + 1):
            wait = PAUSE
            try:
                reply = self._server.post(
                    body,
                    timeout=max(0.001, deadline - time.monotonic()),
                    limit=RESPONSE_BYTES + 4 * len(body),
                )
            except ReplyTooLong as error:
                raise self._failed(f"the response is wrong: {error}") from None
            except NoReply as error:
                failure = str(error)
            else:
                if reply.status == 200:
                    return reply.data
                failure = self._failure(reply)
                wait = max(PAUSE, retry_after(reply.headers, 0.0))
            if time.monotonic() >= deadline:
                raise self._failed(f"no answer within {self._timeout:g} s (RAG_RERANKER_TIMEOUT)")
            if attempt == ATTEMPTS or time.monotonic() + wait >= deadline:
                break
            time.sleep(wait)
        raise self._failed(failure)

    def _failure(self, reply: Reply) -> str:
        """Return why a later attempt may succeed. Raises _FormRejected, RerankerFailed or ConfigError if none will."""
        reason, code = self._server.error_of(reply.data)
        message = f"HTTP {reply.status}: {reason[:300]}" if reason else f"HTTP {reply.status}"
        if reply.status in REJECTED:
            raise _FormRejected(message)
        if reply.status == 402 or code == "insufficient_quota":
            raise self._failed(message)
        if reply.status in RETRIED or reply.status >= 500:
            return message
        if location := reply.location():
            message += f", to {location}"
        remedy = REMEDIES.get(reply.status, "RAG_RERANKER_URL")
        raise ConfigError(f"{self._server.shown_url}: {message}. Fix {remedy}.")

    def _read(self, data: bytes, texts: int) -> list[float]:
        """Return the scores in the order of the texts. Raises RerankerFailed if they cannot be assigned to them."""
        try:
            content = json.loads(data)
        # Deeply nested JSON raises RecursionError.
        except (ValueError, RecursionError) as error:
            raise self._wrong(_EXPECTED, type(error).__name__) from None
        items = content.get("results") if isinstance(content, dict) else content
        if not isinstance(items, list):
            reason, _ = self._server.error_of(data)
            raise self._wrong(_EXPECTED, reason or "an empty response")
        scores: dict[int, float] = {}
        for item in items:
            if not isinstance(item, dict):
                raise self._wrong(_EXPECTED, f"an item {item!r}")
            index: Any = item.get("index")
            score: Any = item.get("relevance_score", item.get("score"))
            if not _is_number(index, int) or not 0 <= index < texts or index in scores:
                raise self._wrong(f"each index from 0 to {texts - 1} once", f"{index!r}")
            if not _is_number(score, (int, float)):
                raise self._wrong("a finite number as the score", f"{score!r}")
            scores[index] = float(score)
        if len(scores) < texts:
            raise self._wrong(f"{texts} scores", f"{len(scores)}")
        return [scores[index] for index in range(texts)]

    def _wrong(self, expected: str, found: str) -> RerankerFailed:
        return self._failed(f"the response is wrong: expected {expected}, found {found[:200]}")

    def _failed(self, reason: str) -> RerankerFailed:
        return RerankerFailed(f"{self._server.shown_url}: {reason}")


_EXPECTED = 'JSON with "results", a list of items with "index" and "relevance_score"'


def _is_number(value: Any, types: type | tuple[type, ...]) -> bool:
    """Return whether the value is a finite number of the types. Integers beyond floats are none."""
    try:
        return isinstance(value, types) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:
        return False
