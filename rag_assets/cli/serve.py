"""`rag serve`: the HTTP service, in the foreground."""

from __future__ import annotations

import ipaddress
import signal
from pathlib import Path
from typing import Annotated

import typer

from rag_assets.cli.output import command, note, print_error, remark
from rag_assets.cli.ui import expect_free, reachable
from rag_assets.deployment import Deployment
from resources.errors import ConfigError
from resources.extras import require_extra


@command
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 takes a free one.", min=0, max=65_535)] = 8000,
    workers: Annotated[int, typer.Option(help="Processes.", min=1, max=64)] = 1,
    tls_cert: Annotated[
        Path | None, typer.Option(help="Certificate chain in PEM. Loaded again when it changes.")
    ] = None,
    tls_key: Annotated[
        Path | None, typer.Option(help="Its private key in PEM; default: in the same file.")
    ] = None,
    behind_proxy: Annotated[
        bool,
        typer.Option(
            "--behind-proxy", help="A proxy before it speaks TLS and sends X-Forwarded-For."
        ),
    ] = False,
) -> None:
    """Start the stack and the HTTP service. Ctrl-C ends it, after the requests in progress.

    Another address than 127.0.0.1 needs a certificate, or a proxy that has one. First of all: rag users init

    Example: rag serve --workers 2
    """
    require_extra("serve", "`rag serve`")
    from rag_assets.serving.certificate import certificate_of
    from rag_assets.serving.options import ServeOptions
    from rag_assets.serving.supervisor import Supervisor

    options = ServeOptions(
        host,
        port,
        workers,
        str(tls_cert.absolute()) if tls_cert else "",
        str(tls_key.absolute()) if tls_key else "",
        behind_proxy,
    )
    if tls_key and not tls_cert:
        raise ConfigError("--tls-key: expected with --tls-cert, the certificate of this key.")
    certificate_of(options)
    if not (tls_cert or behind_proxy or _is_loopback(host)):
        raise ConfigError(
            f"--host {host}: keys and passwords would travel unencrypted. Expected with --tls-cert and --tls-key; or "
            "with --behind-proxy, if only a proxy that speaks TLS can reach this address."
        )
    deployment = Deployment.from_environment()
    expect_free(host, port, "rag serve")
    deployment.start(redis=True)
    settings = deployment.settings
    supervisor = Supervisor(
        options, settings.drain_seconds, {"RAG_HOME": str(settings.home)}, _warn
    )
    previous = {
        number: signal.signal(number, lambda *_: supervisor.stop())
        for number in (signal.SIGTERM, signal.SIGINT)
    }
    signal.signal(signal.SIGHUP, lambda number, _: supervisor.signal(number))
    try:
        bound = supervisor.start()
        scheme = "https" if tls_cert else "http"
        note(f"rag-assets: {scheme}://{reachable(host)}:{bound} (Ctrl-C ends it)")
        supervisor.run()
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    remark("the service has ended; the embedded servers keep running; to stop them: rag down")


def _warn(message: str) -> None:
    print_error(message, "warning:")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
