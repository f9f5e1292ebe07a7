"""One process of `rag serve`: opens the service, listens, serves until it is told to end.

Started with its options as JSON in the environment, and a pipe as standard input: its end means that `rag serve` died.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import socket
import ssl
import sys
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import structlog
import uvicorn

from rag_assets.deployment import Deployment, installed_version
from rag_assets.serving.app import create_app
from rag_assets.serving.request_log import configure_logging
from rag_assets.serving.service import Service
from resources.errors import ConfigError, RagError

#: The variable with the options.
VARIABLE = "_RAG_SERVE"
#: Seconds between two looks at the files of the certificate.
CERTIFICATE_SECONDS = 10.0
#: Bytes of a request's line and headers, at most.
HEADER_BYTES = 32 << 10
#: What a worker prints on standard output when it listens.
READY = "ready"

log = structlog.get_logger("rag_assets.serving")


@dataclass(frozen=True)
class ServeOptions:
    """Where the service listens, and who is before it."""

    host: str
    port: int
    workers: int = 1
    certificate: str = ""
    key: str = ""
    behind_proxy: bool = False

    def environment(self) -> dict[str, str]:
        return {VARIABLE: json.dumps(asdict(self))}

    @classmethod
    def from_environment(cls) -> ServeOptions:
        return cls(**json.loads(os.environ[VARIABLE]))


def listening_socket(host: str, port: int) -> socket.socket:
    """Return a bound socket that shares its port with the other workers."""
    family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    bound.bind((host, port))
    return bound


class Certificate:
    """The certificate of a TLS context, loaded again when its files change."""

    def __init__(self, certificate: str, key: str) -> None:
        self.files = (Path(certificate), Path(key or certificate))
        self.context = self._new()
        self._loaded = self._stamps()

    def reload(self, *, forced: bool = False) -> bool:
        """Load the files if they changed. Files that do not fit are left, with a line in the log. New connections get
        the new certificate."""
        try:
            stamps = self._stamps()
            if stamps == self._loaded and not forced:
                return False
            # First into another context: a wrong pair must not spoil the one in use.
            self._new()
            self.context.load_cert_chain(*self.files)
        except (OSError, ssl.SSLError) as error:
            log.warning("the certificate was not loaded again", reason=str(error))
            return False
        self._loaded = stamps
        log.info("the certificate was loaded again")
        return True

    def _new(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        context.load_cert_chain(*self.files)
        return context

    def _stamps(self) -> list[tuple[int, int, int]]:
        return [(s.st_mtime_ns, s.st_size, s.st_ino) for s in (f.stat() for f in self.files)]


def certificate_of(options: ServeOptions) -> Certificate | None:
    """Return the certificate of the options. Raises ConfigError if it cannot be loaded."""
    if not options.certificate:
        return None
    try:
        return Certificate(options.certificate, options.key)
    except (OSError, ssl.SSLError) as error:
        reason = getattr(error, "reason", None) or error.strerror or str(error)
        raise ConfigError(
            f"--tls-cert, --tls-key: expected a certificate and its key in PEM, found {options.certificate} and "
            f"{options.key or options.certificate}: {reason}."
        ) from error


def serve(options: ServeOptions) -> None:
    """Serve until SIGTERM, SIGINT or the end of the parent."""
    deployment = Deployment.from_environment()
    settings = deployment.settings
    configure_logging(settings.log_format)
    certificate = certificate_of(options)
    app = create_app(
        lambda: Service.open(deployment, options), installed_version(), settings.body_limit
    )
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http="httptools",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=int(settings.drain_seconds),
        h11_max_incomplete_event_size=HEADER_BYTES,
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
