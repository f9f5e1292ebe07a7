"""Real servers on loopback for the source types: a web server with faults on demand, and an S3-compatible one."""

from __future__ import annotations

import hashlib
import logging
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from s3fs import S3FileSystem


@dataclass
class Page:
    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    etag: bool = True


@dataclass
class Web:
    """`pages`: path -> Page. `fault`, if set, returns the fault of each request: None, a status, `reset` or `hang`."""

    port: int
    pages: dict[str, Page] = field(default_factory=dict)
    #: (method, path, status) of each request.
    requests: list[tuple[str, str, int]] = field(default_factory=list)
    #: The headers of each request.
    headers: list[dict[str, str]] = field(default_factory=list)
    fault: Callable[[str, str], int | str | None] | None = None

    def url(self, path: str = "/", host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"

    def put(self, path: str, body: str | bytes, **headers: str) -> None:
        data = body if isinstance(body, bytes) else body.encode()
        self.pages[path] = Page(data, headers={"Content-Type": "text/html", **headers})

    def statuses(self, path: str) -> list[int]:
        return [status for _, requested, status in self.requests if requested == path]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    web: Web

    def do_GET(self) -> None:
        web = self.web
        fault = web.fault(self.command, self.path) if web.fault else None
        if fault in ("reset", "hang"):
            web.requests.append((self.command, self.path, 0))
            if fault == "hang":
                time.sleep(3)
            # Close with a reset instead of an orderly end.
            linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.close_connection = True
            self.connection.close()
            return
        page = web.pages.get(self.path) or Page(b"not here", 404)
        status, body, headers = page.status, page.body, dict(page.headers)
        etag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
        if isinstance(fault, int):
            status, body = fault, b"out of order"
        elif status == 200 and page.etag:
            headers["ETag"] = etag
            if self.headers.get("If-None-Match") == etag:
                status, body = 304, b""
        web.requests.append((self.command, self.path, status))
        web.headers.append({name.lower(): value for name, value in self.headers.items()})
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if "Transfer-Encoding" not in headers:
            self.send_header("Content-Length", headers.pop("Content-Length", str(len(body))))
        self.end_headers()
        if self.command == "GET" and status != 304:
            self.wfile.write(body)

    do_HEAD = do_GET  # noqa: N815

    def log_message(self, *_: Any) -> None: ...


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, *_: Any) -> None: ...


@contextmanager
def web_server() -> Iterator[Web]:
    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {}))
    web = Web(server.server_address[1])
    server.RequestHandlerClass.web = web  # pyright: ignore[reportAttributeAccessIssue]
    thread = Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield web
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@dataclass
class S3:
    endpoint: str
    files: S3FileSystem
    options: dict[str, Any] = field(default_factory=dict)
    credentials: dict[str, str] = field(default_factory=dict)

    def put(self, path: str, body: str | bytes) -> None:
        self.files.pipe_file(path, body if isinstance(body, bytes) else body.encode())


@contextmanager
def s3_server() -> Iterator[S3]:
    import s3fs
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        endpoint = "http://{}:{}".format(*server.get_host_and_port())
        credentials: dict[str, Any] = {"key": "AKIAEXAMPLE", "secret": "s3-secret-value"}
        files = s3fs.S3FileSystem(
            **credentials,
            endpoint_url=endpoint,
            use_listings_cache=False,
            skip_instance_cache=True,
        )
        # moto's servers of one process have the same buckets.
        files.makedirs("bucket", exist_ok=True)
        yield S3(endpoint, files, {"endpoint_url": endpoint}, credentials)
    finally:
        server.stop()
