"""The address that a request comes from, also behind proxies that can be trusted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


def client_address(scope: Mapping[str, Any], trusted_proxies: Sequence[Network] = ()) -> str:
    """Return the address of the client of an ASGI request; "" if it is none, as on a Unix socket without a proxy.

    `X-Forwarded-For` is read only from trusted proxies, from the right: anyone may write what stands further left.
    """
    peer = _address((scope.get("client") or ("",))[0])
    if not trusted_proxies or (peer is not None and not _is_trusted(peer, trusted_proxies)):
        return str(peer or "")
    hops = [
        hop
        for name, value in scope["headers"]
        if name == b"x-forwarded-for"
        for hop in value.decode("latin-1").split(",")
    ]
    for hop in reversed(hops):
        address = _address(hop)
        # The proxy that wrote this is the last one that is known.
        if address is None:
            break
        peer = address
        if not _is_trusted(address, trusted_proxies):
            break
    return str(peer or "")


def limited_address(address: str) -> str:
    """Return the identity whose requests are limited: for IPv6 the network of 64 bits, which one client may have."""
    parsed = _address(address)
    if isinstance(parsed, IPv6Address):
        return f"address:{IPv6Network((parsed, 64), strict=False)}"
    return f"address:{parsed or 'unknown'}"


def _is_trusted(address: Address, networks: Sequence[Network]) -> bool:
    return any(address in network for network in networks)


def _address(text: str) -> Address | None:
    """Return the address of `1.2.3.4`, `1.2.3.4:80`, `2001:db8::1` or `[2001:db8::1]:80`; None if it is none."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        return address.ipv4_mapped
    return address
