"""One process of `rag serve`: opens the service, listens, serves until it is told to end.

Started with its options as JSON in the environment, and a pipe as standard input: its end means that `rag serve` died.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import sys
import threading
import time

import uvicorn

from rag_assets.deployment import Deployment, installed_version
from rag_assets.serving.app import create_app
from rag_assets.serving.certificate import Certificate, certificate_of
from rag_assets.serving.connection import ClientConnection
from rag_assets.serving.middleware import Requests
from rag_assets.serving.options import READY, ServeOptions, listening_socket
from rag_assets.serving.request_log import configure_logging
from rag_assets.serving.service import Service
from resources.errors import ConfigError, RagError

#: Seconds between two looks at the files of the certificate.
CERTIFICATE_SECONDS = 10.0


def serve(options: ServeOptions) -> None:
    """Serve until SIGTERM, SIGINT or the end of the parent."""
    deployment = Deployment.from_environment()
    settings = deployment.settings
    configure_logging(settings.log_format)
    certificate = certificate_of(options)
    app = Requests(
        create_app(
            lambda: Service.open(deployment, options), installed_version(), settings.body_limit
        ),
        settings.trusted_proxies if options.behind_proxy else (),
    )
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http=ClientConnection,
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=int(settings.drain_seconds),
        ssl_context_factory=(lambda *_: certificate.context) if certificate else None,
    )
    server = _Server(config, certificate)
    threading.Thread(target=_end_with_parent, args=(server,), daemon=True).start()
    if certificate is not None:
        signal.signal(signal.SIGHUP, lambda *_: server.reload_now())
    server.run([listening_socket(options.host, options.port)])


class _Server(uvicorn.Server):
    """Says when it listens, and looks after its certificate."""

    def __init__(self, config: uvicorn.Config, certificate: Certificate | None) -> None:
        super().__init__(config)
        self._certificate, self._next_look = certificate, 0.0
        self._forced = False

    def reload_now(self) -> None:
        self._forced = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        # What was loaded stays for ever: the collector need not look at it.
        gc.freeze()
        sys.stdout.write(f"{READY}\n")
        sys.stdout.flush()

    async def on_tick(self, counter: int) -> bool:
        now = time.monotonic()
        if self._certificate is not None and (self._forced or now >= self._next_look):
            self._certificate.reload(forced=self._forced)
            self._forced, self._next_look = False, now + CERTIFICATE_SECONDS
        return await super().on_tick(counter)


def _end_with_parent(server: _Server) -> None:
    while os.read(0, 1024):
        pass
    server.should_exit = True


def main() -> None:
    try:
        serve(ServeOptions.from_environment())
    except RagError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(2 if isinstance(error, ConfigError) else 1)


if __name__ == "__main__":
    main()
