"""Servers that speak TLS: a proxy before one that does not, with certificates made in the test."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Thread

import trustme

#: The first message of a client of PostgreSQL that wants TLS.
SSL_REQUEST = bytes.fromhex("0000000804d2162f")


@dataclass(frozen=True)
class Authorities:
    """Files of two authorities: the one that signed the servers' certificates, and another one."""

    own: str
    foreign: str
    ca: trustme.CA

    @classmethod
    def make(cls, folder: Path) -> Authorities:
        cas = trustme.CA(key_type=trustme.KeyType.ECDSA), trustme.CA()
        files = [str(folder / name) for name in ("own.pem", "foreign.pem")]
        for ca, file in zip(cas, files):
            ca.cert_pem.write_to_path(file)
        own, foreign = files
        return cls(own, foreign, cas[0])

    def server_context(self, host: str, *protocols: str) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.ca.issue_cert(host, key_type=trustme.KeyType.ECDSA).configure_cert(context)
        context.set_alpn_protocols(list(protocols))
        return context


@contextmanager
def tls_proxy(upstream: str, context: ssl.SSLContext, preamble: bytes = b"") -> Iterator[int]:
    """Yield the port of a proxy to `host:port` or to a Unix socket. `preamble`: what clients send before the handshake,
    which is answered with S."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, ssl.SSLError, asyncio.IncompleteReadError):
            if preamble:
                if await reader.readexactly(len(preamble)) != preamble:
                    return
                writer.write(b"S")
            await writer.start_tls(context)
            if upstream.startswith("/"):
                theirs = await asyncio.open_unix_connection(upstream)
            else:
                host, _, port = upstream.rpartition(":")
                theirs = await asyncio.open_connection(host, int(port))
            await asyncio.gather(_pipe(reader, theirs[1]), _pipe(theirs[0], writer))
        writer.close()

    async def start() -> asyncio.Server:
        return await asyncio.start_server(serve, "127.0.0.1", 0)

    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda *_: None)
    server = loop.run_until_complete(start())
    thread = Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        loop.call_soon_threadsafe(server.close)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()
