"""The certificate of the service, loaded again when its files change."""

from __future__ import annotations

import ssl
from pathlib import Path

import structlog

from rag_assets.serving.options import ServeOptions
from resources.errors import ConfigError

log = structlog.get_logger("rag_assets.serving")


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
