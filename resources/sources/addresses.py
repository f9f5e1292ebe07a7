"""Connections to public addresses only, unless the source allows private ones.

The address of the connection itself is checked, at every hop. This stops a redirect to the inside, a name that
resolves to the metadata service, and a name that resolves differently the second time (DNS rebinding).
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterator
from typing import Any

from resources.errors import SourceError, SourceUnavailable

_NAT64 = ipaddress.ip_network("64:ff9b::/96")


def is_public(address: str) -> bool:
    """Return False for private, loopback, link-local (cloud metadata), reserved and multicast addresses."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(parsed, ipaddress.IPv6Address):
        inner = parsed.ipv4_mapped or parsed.sixtofour or (parsed.teredo and parsed.teredo[1])
        if inner is None and parsed in _NAT64:
            inner = ipaddress.ip_address(int(parsed) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
        # ::a.b.c.d (deprecated), :: and ::1.
        if int(parsed) >> 32 == 0:
            return False
    return parsed.is_global and not parsed.is_multicast


def check_address(address: str, host: str, allow_private: bool) -> None:
    """Raises SourceError if a connection to the address is not allowed."""
    if not allow_private and not is_public(address):
        raise SourceError(
            f"{host} is at {address}, which is not a public address. "
            "If this is intended, set allow_private_addresses to true."
        )


def connect(
    host: str, port: int, *, timeout: float | None, allow_private: bool, options: Any = ()
) -> socket.socket:
    """Return a socket connected to an address of `host`: looked up once, checked, and used for the connection."""
    failure: OSError | None = None
    for family, kind, protocol, address in _resolve(host, port):
        check_address(str(address[0]), host, allow_private)
        connection = socket.socket(family, kind, protocol)
        try:
            for option in options or ():
                connection.setsockopt(*option)
            connection.settimeout(timeout)
            connection.connect(address)
        except OSError as error:
            connection.close()
            failure = error
        else:
            return connection
    raise failure or SourceUnavailable(f"{host} has no address")


def _resolve(host: str, port: int) -> Iterator[tuple[int, int, int, tuple[Any, ...]]]:
    for family, kind, protocol, _, address in socket.getaddrinfo(
        host.strip("[]"), port, type=socket.SOCK_STREAM
    ):
        yield family, kind, protocol, address
