"""A client's connection: what never ends, in size or in time, is closed; trailers are no headers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from rag_assets.serving.connection import ARRIVAL_SECONDS, HEAD_BYTES, ClientConnection


class Transport(asyncio.Transport):
    """Keeps what is written to the client."""

    def __init__(self) -> None:
        super().__init__({"peername": ("192.0.2.1", 4711), "sockname": ("192.0.2.2", 443)})
        self.sent, self.closed = b"", False

    def write(self, data: Any) -> None:
        self.sent += data

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


class Client:
    """A connection to an application that answers with the names of the headers, after the body."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop, self.transport, self.bodies = loop, Transport(), list[bytes]()
        self.skipped, clock = 0.0, loop.time
        vars(loop)["time"] = lambda: clock() + self.skipped
        config = uvicorn.Config(self._app, interface="asgi3", lifespan="off", log_config=None)
        config.load()
        self.connection = ClientConnection(config, ServerState(), {}, _loop=loop)
        self.connection.connection_made(self.transport)

    async def _app(self, scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        self.bodies.append(body)
        if scope["path"] == "/slow":
            await asyncio.sleep(1000)
        names = b" ".join(name for name, _ in scope["headers"])
        start = {"type": "http.response.start", "status": 200, "headers": []}
        await send(start)
        await send({"type": "http.response.body", "body": b"headers: " + names})

    def send(self, *parts: bytes) -> bytes:
        """Send the parts while the connection is open, and return everything that it answered."""
        for part in parts:
            if not self.transport.closed:
                self.connection.data_received(part)
        self._run()
        return self.transport.sent

    def skip(self, seconds: float) -> None:
        self.skipped += seconds
        self._run()

    def close(self) -> None:
        self.connection.connection_lost(None)
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        self._run()
        self.loop.close()

    def _run(self) -> None:
        """Let everything go on that waits for nothing."""

        async def turns() -> None:
            for _ in range(20):
                await asyncio.sleep(0)

        self.loop.run_until_complete(turns())


@pytest.fixture
def client() -> Iterator[Client]:
    client = Client(asyncio.new_event_loop())
    yield client
    client.close()


POST = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "parts",
    [
        [b"GET / HTTP/1.1\r\nX: ", *[b"a" * 4096] * 20],
        [b"GET / HTTP/1.1\r\nX: " + b"a" * HEAD_BYTES + b"\r\n\r\n"],
        [b"GET / HTTP/1.1\r\n", *[b"X: " + b"a" * 1000 + b"\r\n"] * 60],
        [b"GET /" + b"a" * HEAD_BYTES + b" HTTP/1.1\r\n\r\n"],
        [POST, b"1;", *[b"a" * 4096] * 20],
        [POST + b"0\r\nX: ", *[b"a" * 4096] * 20],
    ],
    ids=["endless header", "long header", "many headers", "long path", "chunk", "trailer"],
)
def test_a_head_that_is_too_long_ends_the_connection(client: Client, parts: list[bytes]) -> None:
    assert client.send(*parts).startswith(b"HTTP/1.1 400 ")
    assert client.transport.closed


def test_a_body_is_not_part_of_the_head(client: Client) -> None:
    chunk = b"4000\r\n" + b"a" * 0x4000 + b"\r\n"
    assert client.send(POST, *[chunk] * 4, b"0\r\n\r\n").startswith(b"HTTP/1.1 200 ")
    assert client.bodies == [b"a" * 0x10000]
    length = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 65536\r\n\r\n"
    client.send(length, *[b"b" * 0x4000] * 4)
    assert client.bodies[1:] == [b"b" * 0x10000]
    assert not client.transport.closed


def test_a_trailer_is_no_header(client: Client) -> None:
    trailer = b"1\r\na\r\n0\r\nAuthorization: Bearer a\r\n\r\n"
    assert b"\r\nheaders: host transfer-encoding\r\n" in client.send(POST + trailer)


@pytest.mark.parametrize(
    "arrived",
    [b"", b"GET / HTTP/1.1\r\nHost: a\r\n", b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\n{"],
    ids=["nothing", "half a head", "half a body"],
)
def test_a_request_must_arrive_in_time(client: Client, arrived: bytes) -> None:
    if arrived:
        client.send(arrived)
    client.skip(ARRIVAL_SECONDS - 5)
    assert not client.transport.closed
    client.skip(10)
    assert client.transport.closed


def test_an_answer_may_take_longer_than_a_request(client: Client) -> None:
    client.send(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
    client.skip(ARRIVAL_SECONDS * 3)
    assert not client.transport.closed


def test_the_time_begins_again_with_the_next_request(client: Client) -> None:
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    client.skip(3)
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\n")
    client.skip(ARRIVAL_SECONDS - 5)
    assert not client.transport.closed
    client.skip(10)
    assert client.transport.closed
