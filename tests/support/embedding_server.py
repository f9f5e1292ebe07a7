"""A server on loopback that speaks OpenAI's embeddings, with `lexical`'s dense vectors, and misbehaves on demand."""

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
    """`reply`, where set, is asked for each request (its body): None, or status, body and headers to answer with."""

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
        """What a server in order answers; the vectors are of norm 3."""
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
    told: EmbeddingServer

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.told.lock:
            self.told.requests.append(request)
            self.told.headers.append({name.lower(): value for name, value in self.headers.items()})
        reply = self.told.reply(request) if self.told.reply else None
        status, body, *rest = reply or (200, self.told.answer(request))
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

    def handle_error(self, *_: Any) -> None: ...  # clients that do not wait


@contextmanager
def embedding_server() -> Iterator[EmbeddingServer]:
    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {}))
    told = EmbeddingServer(server.server_address[1])
    server.RequestHandlerClass.told = told  # pyright: ignore[reportAttributeAccessIssue]
    thread = Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield told
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
