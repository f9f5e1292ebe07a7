"""A server on loopback with OpenAI's embeddings API and the dense vectors of `lexical`; misbehaves on demand."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any

import numpy as np

from resources.embedders.lexical import LexicalEmbedder

Reply = tuple[int, Any] | tuple[int, Any, dict[str, str]]


@dataclass
class EmbeddingServer:
    """State and behaviour of the server.

    `reply`, if set, gets the body of each request. It returns status, body and headers, or None for a valid response.
    """

    port: int
    requests: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    reply: Callable[[dict[str, Any]], Reply | None] | None = None
    lexical: LexicalEmbedder = field(default_factory=LexicalEmbedder)
    lock: Lock = field(default_factory=Lock)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return a valid response, with vectors of norm 3."""
        dense = self.lexical.embed(request["input"], ["dense"]).dense
        assert dense is not None
        rows: list[Any] = []
        for row in 3 * dense[:, : request.get("dimensions", 1024)]:
            encoded = request.get("encoding_format") == "base64"
            rows.append(
                base64.b64encode(row.tobytes()).decode()
                if encoded
                else [None if np.isnan(value) else float(value) for value in row]
            )
        data = [{"index": i, "embedding": row} for i, row in enumerate(rows)]
        return {"data": data, "usage": {"prompt_tokens": len(data)}}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state: EmbeddingServer

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.state.lock:
            self.state.requests.append(request)
            self.state.headers.append({name.lower(): value for name, value in self.headers.items()})
        reply = self.state.reply(request) if self.state.reply else None
        status, body, *rest = reply or (200, self.state.answer(request))
        if self.path != "/v1/embeddings":
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
def embedding_server() -> Iterator[EmbeddingServer]:
    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {}))
    state = EmbeddingServer(server.server_address[1])
    server.RequestHandlerClass.state = state  # pyright: ignore[reportAttributeAccessIssue]
    thread = Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
