"""A client's connection: a request must arrive in time, with a head of limited size. uvicorn limits neither."""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

#: Bytes of a request's line and headers, at most.
HEAD_BYTES = 32 << 10
#: Seconds that a request may take to arrive, with its body.
ARRIVAL_SECONDS = 30.0
#: Seconds in which a connection that is closed must end.
CLOSING_SECONDS = 2.0


class ClientConnection(HttpToolsProtocol):
    """Refuses heads that are too long, closes connections on which no request arrives, and drops trailers."""

    _arrival: asyncio.TimerHandle | None = None
    _in_head = True
    _head_bytes = 0
    #: Bytes received since the last part of a request was complete.
    _incomplete_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_request()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._incomplete_bytes += len(data)
        super().data_received(data)
        # The parser keeps a header of any length until it is complete.
        if self._incomplete_bytes > HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response(f"Expected at most {HEAD_BYTES:,} bytes of headers.")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head, self._head_bytes = True, 0
        self._await_request()

    def on_url(self, url: bytes) -> None:
        self._count_head(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        # A trailer would become a header that nobody has checked.
        if self._in_head:
            self._count_head(len(name) + len(value))
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_head, self._incomplete_bytes = False, 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._incomplete_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._incomplete_bytes = 0
        self._stop_waiting()
        super().on_message_complete()

    def _count_head(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > HEAD_BYTES:
            # The parser makes an error of its own of it, which is answered with 400.
            raise ValueError("the head of a request is too long")

    def _await_request(self) -> None:
        self._stop_waiting()
        self._arrival = self.loop.call_later(ARRIVAL_SECONDS, self._give_up)

    def _stop_waiting(self) -> None:
        if self._arrival is not None:
            self._arrival.cancel()
            self._arrival = None

    def _give_up(self) -> None:
        if not self.transport.is_closing():
            self.transport.close()
            self._abort_soon()

    def shutdown(self) -> None:
        super().shutdown()
        if self.transport.is_closing():
            self._abort_soon()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.is_closing():
            self._abort_soon()

    def _abort_soon(self) -> None:
        # TLS would wait for half a minute for the goodbye of a client that is gone.
        self.loop.call_later(CLOSING_SECONDS, self.transport.abort)
