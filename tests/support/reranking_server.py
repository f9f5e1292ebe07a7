"""A server on loopback that reranks in one of the common forms and prefers long texts; misbehaves on demand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from tests.support.model_server import ModelServer, Reply, model_server


def relevance(text: str) -> float:
    return 1 - 1 / (1 + len(text))


@dataclass
class RerankingServer(ModelServer):
    """`form`: which requests it accepts, and how it answers."""

    path: ClassVar[str] = "/v1/rerank"
    form: Literal["cohere", "tei"] = "cohere"

    def respond(self, request: dict[str, Any]) -> Reply:
        return self.answer(request)

    def answer(self, request: dict[str, Any]) -> Reply:
        """Return a valid reply, best first, or the rejection of another form."""
        texts: Sequence[str] | None = request.get("texts" if self.form == "tei" else "documents")
        if texts is None:
            return 422, {"detail": f"missing field of {self.form}"}
        best = sorted(range(len(texts)), key=lambda i: -relevance(texts[i]))
        if self.form == "tei":
            return 200, [{"index": i, "score": relevance(texts[i])} for i in best]
        results = [{"index": i, "relevance_score": relevance(texts[i])} for i in best]
        return 200, {"id": "1", "results": results[: request["top_n"]]}


@contextmanager
def reranking_server() -> Iterator[RerankingServer]:
    with model_server(RerankingServer) as server:
        yield server
