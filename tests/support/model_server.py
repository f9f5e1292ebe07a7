"""A server on loopback for requests in JSON, as models are served; misbehaves on demand. Subclasses answer."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any, ClassVar, TypeVar

#: Status, body and headers.
Reply = tuple[int, Any] | tuple[int, Any, dict[str, str]]


@dataclass
class ModelServer:
    """State and behaviour of the server. `path`: the only one that it knows.

    `reply`, if set, gets the body of each request. It returns status, body and headers, or None for a valid response.
    """

    path: ClassVar[str]
    port: int
    requests: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    reply: Callable[[dict[str, Any]], Reply | None] | None = None
    lock: Lock = field(default_factory=Lock)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def respond(self, request: dict[str, Any]) -> Reply:
        """Return the valid response."""
        raise NotImplementedError


Server = TypeVar("Server", bound=ModelServer)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state: ModelServer

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.state.lock:
            self.state.requests.append(request)
            self.state.headers.append({name.lower(): value for name, value in self.headers.items()})
        reply = self.state.reply(request) if self.state.reply else None
        status, body, *rest = reply or self.state.respond(request)
        if self.path != self.state.path:
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
def model_server(kind: type[Server]) -> Iterator[Server]:
    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {}))
    state = kind(server.server_address[1])
    server.RequestHandlerClass.state = state  # pyright: ignore[reportAttributeAccessIssue]
    thread = Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
