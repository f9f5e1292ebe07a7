"""Whether a port speaks TLS: clients report a wrong guess as a server that does not answer."""

from __future__ import annotations

import socket
import ssl


def speaks_tls(host: str, port: int, timeout: float = 2.0) -> bool | None:
    """Return whether the port answers a TLS handshake; None if it cannot be reached. Certificates do not matter."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with socket.create_connection((host, port), timeout) as plain:
            try:
                with context.wrap_socket(plain, server_hostname=host):
                    return True
            except ssl.SSLError as error:
                # A server that asks for a certificate of the client speaks TLS too.
                return "ALERT" in (error.reason or "")
            except OSError:
                # It closed the connection, or waits for something else than a handshake.
                return False
    except OSError:
        return None
