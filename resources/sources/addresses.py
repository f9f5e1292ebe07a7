"""Which addresses may be connected to: only public ones, unless a source says otherwise.

A name is judged by the address that the connection is then made to, at every hop: a redirect, a name that resolves to
the metadata service, or one that resolves differently the second time (DNS rebinding) leads nowhere.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterator
from typing import Any

from resources.errors import SourceError, SourceUnavailable

_NAT64 = ipaddress.ip_network("64:ff9b::/96")


def is_public(address: str) -> bool:
    """False for private, loopback, link-local (cloud metadata), reserved and multicast addresses, in any notation."""
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        inner = found.ipv4_mapped or found.sixtofour or (found.teredo and found.teredo[1])
        if inner is None and found in _NAT64:
            inner = ipaddress.ip_address(int(found) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
        if int(found) >> 32 == 0:  # ::a.b.c.d, deprecated, and :: and ::1
            return False
    return found.is_global and not found.is_multicast


def allow(address: str, host: str, allow_private: bool) -> None:
    """Raises SourceError for an address that must not be connected to."""
    if not allow_private and not is_public(address):
        raise SourceError(
            f"{host} is at {address}, which is not a public address. "
            "If it is meant, set allow_private_addresses to true."
        )


def connect(
    host: str, port: int, *, timeout: float | None, allow_private: bool, options: Any = ()
) -> socket.socket:
    """A socket connected to a checked address of `host`: looked up once, and connected to what was checked."""
    reason: OSError | None = None
    for family, kind, protocol, address in _resolve(host, port):
        allow(str(address[0]), host, allow_private)
        found = socket.socket(family, kind, protocol)
        try:
            for option in options or ():
                found.setsockopt(*option)
            found.settimeout(timeout)
            found.connect(address)
        except OSError as error:
            found.close()
            reason = error
        else:
            return found
    raise reason or SourceUnavailable(f"{host} has no address")


def _resolve(host: str, port: int) -> Iterator[tuple[int, int, int, tuple[Any, ...]]]:
    for family, kind, protocol, _, address in socket.getaddrinfo(
        host.strip("[]"), port, type=socket.SOCK_STREAM
    ):
        yield family, kind, protocol, address
