"""Whether a port speaks TLS, and why its certificate is not accepted: gRPC reports both as "does not answer"."""

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


def certificate_problem(host: str, port: int, ca_file: str, timeout: float = 2.0) -> str:
    """Return why the certificate of the port is not accepted; "" if it is, or if no handshake is possible.

    `ca_file`: its authority; "": the authorities that the system knows.
    """
    try:
        context = ssl.create_default_context(cafile=ca_file or None)
        with socket.create_connection((host, port), timeout) as plain:
            with context.wrap_socket(plain, server_hostname=host):
                return ""
    except ssl.SSLCertVerificationError as error:
        return error.verify_message.rstrip(".")
    except OSError:
        return ""
