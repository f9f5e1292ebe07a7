"""A server on loopback that reranks in one of the common forms and prefers long texts; misbehaves on demand."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, Literal

#: Status, body and headers.
Reply = tuple[int, Any] | tuple[int, Any, dict[str, str]]


def relevance(text: str) -> float:
    return 1 - 1 / (1 + len(text))


@dataclass
class RerankingServer:
    """State and behaviour of the server. `form`: which requests it accepts, and how it answers.

    `reply`, if set, gets the body of each request, and returns a reply or None for a valid one.
    """

    port: int
    form: Literal["cohere", "tei"] = "cohere"
    requests: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    reply: Callable[[dict[str, Any]], Reply | None] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

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


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state: RerankingServer

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.state.requests.append(request)
        self.state.headers.append({name.lower(): value for name, value in self.headers.items()})
        reply = self.state.reply(request) if self.state.reply else None
        status, body, *rest = reply or self.state.answer(request)
        if self.path != "/v1/rerank":
            status, body = 404, {"detail": "Not Found"}
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in (rest[0] if rest else {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None: ...


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    # Clients that do not wait cause errors here.
    def handle_error(self, *_: Any) -> None: ...


@contextmanager
def reranking_server() -> Iterator[RerankingServer]:
    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {}))
    state = RerankingServer(server.server_address[1])
    server.RequestHandlerClass.state = state  # pyright: ignore[reportAttributeAccessIssue]
    thread = Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
