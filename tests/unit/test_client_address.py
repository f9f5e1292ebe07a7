"""The address of a client: nobody chooses it by a header, and an IPv6 network counts as one."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

import pytest

from rag_assets.serving.client_address import client_address, limited_address

PROXIES = tuple(map(ip_network, ("10.0.0.0/8", "::1/128")))


def request(peer: str | None, *forwarded: str) -> dict[str, Any]:
    headers = [(b"x-forwarded-for", value.encode()) for value in forwarded]
    return {"client": (peer, 1234) if peer else None, "headers": [(b"host", b"a"), *headers]}


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        # A client that is no proxy cannot name another address.
        ("203.0.113.9", ("198.51.100.1",), "203.0.113.9"),
        # What a proxy was sent stands left of what it adds.
        ("10.0.0.1", ("198.51.100.66, 203.0.113.9",), "203.0.113.9"),
        ("10.0.0.1", ("198.51.100.66", "203.0.113.9, 10.0.0.2"), "203.0.113.9"),
        ("::1", ("203.0.113.9:4711",), "203.0.113.9"),
        ("::ffff:10.0.0.1", ("[2001:db8::7]:443",), "2001:db8::7"),
        # Everything is trusted, or the header is absent, or the proxy wrote no address.
        ("10.0.0.1", ("10.0.0.3, 10.0.0.2",), "10.0.0.3"),
        ("10.0.0.1", (), "10.0.0.1"),
        ("10.0.0.1", ("198.51.100.66, unknown",), "10.0.0.1"),
        # A Unix socket, which only a proxy of this machine opens.
        (None, ("203.0.113.9",), "203.0.113.9"),
    ],
)
def test_forwarded_addresses_count_from_the_right_up_to_the_first_stranger(
    peer: str | None, forwarded: tuple[str, ...], expected: str
) -> None:
    scope = request(peer, *forwarded)
    assert client_address(scope, PROXIES) == expected
    direct = client_address(scope)
    assert direct == (peer or "").removeprefix("::ffff:")


def test_the_addresses_of_an_ipv6_network_share_a_limit() -> None:
    assert limited_address("2001:db8:1:2:3:4:5:6") == "address:2001:db8:1:2::/64"
    assert limited_address("2001:db8:1:2::1") == limited_address("2001:db8:1:2:ffff::")
    assert limited_address("203.0.113.9") == "address:203.0.113.9"
    assert limited_address("::ffff:203.0.113.9") == "address:203.0.113.9"
    assert limited_address("") == limited_address("@") == "address:unknown"
