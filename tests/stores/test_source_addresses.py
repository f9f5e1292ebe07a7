"""Source type `web`: no page leads to a private address, by whatever name or redirect."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from resources.errors import SourceError
from resources.sources import http
from resources.sources.addresses import is_public
from resources.sources.registry import open_source
from tests.support.servers import Page, Web
from tests.support.web_sources import get


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "LONGEST_WAIT", 0.01)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.9.9.9", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1",
        "224.0.0.1", "255.255.255.255", "::1", "::", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:10.0.0.1",
        "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "ff02::1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "2002:7f00:1::",
        "2001:db8::1", "198.18.0.1",
    ],
)  # fmt: skip
def test_private_and_reserved_addresses_are_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]
)
def test_public_addresses_are_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "2130706433",
        "0x7f000001",
        "127.1",
        "0",
        "[::1]",
        "[::ffff:127.0.0.1]",
    ],
)
def test_this_machine_is_rejected_in_any_notation(web: Web, host: str) -> None:
    web.put("/a", "internal")
    source = open_source("web", {"urls": [web.url("/a", host)]})
    with pytest.raises(SourceError, match="not a public address") as caught:
        get(source)
    assert not caught.value.transient
    assert web.requests == []


def test_a_public_page_cannot_redirect_to_a_private_address(
    web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`public.test` resolves to a public address, whose connections end at the test's server; it redirects inside."""
    web.put("/inside", "internal")
    web.pages["/robots.txt"] = Page(status=404)
    web.pages["/way"] = Page(status=302, headers={"Location": web.url("/inside")})
    _patch_resolver(monkeypatch, {"public.test": ["8.8.8.8"]}, web)
    with pytest.raises(SourceError, match=r"127.0.0.1, which is not a public address"):
        get(
            open_source(
                "web", {"urls": [web.url("/way", "public.test")], "requests_per_second": 1e3}
            )
        )
    assert web.statuses("/way") == [302]
    assert web.statuses("/inside") == []


def test_a_name_that_changes_its_address_does_not_lead_inside(
    web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DNS rebinding: public at the check, private afterwards. The connection uses the address that was checked."""
    web.put("/a", "internal")
    connected = _patch_resolver(
        monkeypatch, {"rebind.test": ["8.8.8.8", "127.0.0.1", "127.0.0.1"]}, web
    )
    source = open_source("web", {"urls": [web.url("/a", "rebind.test")], "ignore_robots": True})
    # Connections to 8.8.8.8 end at the test's server.
    assert get(source)
    assert connected == ["8.8.8.8"]
    with pytest.raises(SourceError, match="not a public address"):
        get(open_source("web", {"urls": [web.url("/a", "rebind.test")], "ignore_robots": True}))
    assert connected == ["8.8.8.8"]


def _patch_resolver(
    monkeypatch: pytest.MonkeyPatch, names: dict[str, list[str]], web: Web
) -> list[str]:
    """Resolve `names` to their addresses in turn, with 8.8.8.8 as the test's server. Return all connected addresses."""
    connected: list[str] = []
    lookup = socket.getaddrinfo

    def resolve(host: str, port: int, **options: Any) -> Any:
        addresses = names.get(host, [host])
        return lookup(addresses.pop(0) if len(addresses) > 1 else addresses[0], port, **options)

    class Socket(socket.socket):
        def connect(self, address: Any) -> None:
            connected.append(address[0])
            super().connect(("127.0.0.1", web.port) if address[0] == "8.8.8.8" else address)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setattr("resources.sources.addresses.socket.socket", Socket)
    return connected
