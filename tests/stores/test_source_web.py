"""Source type `web` on a real server: conditional requests, robots.txt, bounds, and rejected addresses."""

from __future__ import annotations

import gzip
import shlex
import socket
import time
import zlib
from email.utils import formatdate
from typing import Any

import pytest

from rag_assets.ingestion.fetch import listed_entries
from rag_assets.pipeline.entries import Content
from resources.errors import ConfigError, SourceError, SourceUnavailable
from resources.sources import http
from resources.sources.addresses import is_public
from resources.sources.base import Source
from resources.sources.registry import open_source
from resources.waiting import while_others_wait
from tests.support.servers import Page, Web


def site(web: Web, *paths: str, credentials: dict[str, str] | None = None, **config: Any) -> Source:
    """Return a source of the pages, without a limit on the rate."""
    settings = {"allow_private_addresses": True, "requests_per_second": 1000.0, **config}
    if paths:
        settings["urls"] = [web.url(path) for path in paths]
    return open_source("web", settings, credentials)


def get(source: Source, previous_token: str | None = None) -> Content | None:
    return source.fetch(next(source.list()), previous_token)


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "LONGEST_WAIT", 0.01)


def sitemap(*urls: str, index: bool = False) -> str:
    outer, inner = ("sitemapindex", "sitemap") if index else ("urlset", "url")
    items = "".join(f"<{inner}><loc>{url}</loc></{inner}>" for url in urls)
    return f'<?xml version="1.0"?><{outer} xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">{items}</{outer}>'


# Changes ----------------------------------------------------------------------------------------------------------


def test_an_unchanged_page_is_not_sent_again(web: Web) -> None:
    web.put("/a", "<p>one</p>")
    source = site(web, "/a")
    first = get(source)
    assert first is not None and first.data == b"<p>one</p>"
    assert get(source, first.change_token) is None
    assert web.statuses("/a") == [200, 304]
    web.put("/a", "<p>two</p>")
    second = get(source, first.change_token)
    assert second is not None and second.data == b"<p>two</p>"


def test_last_modified_is_sent_where_there_is_no_etag(web: Web) -> None:
    web.pages["/a"] = Page(
        b"x", headers={"Last-Modified": "Sat, 01 Jan 2000 00:00:00 GMT"}, etag=False
    )
    source = site(web, "/a")
    content = get(source)
    assert content is not None
    get(source, content.change_token)
    assert web.headers[-1]["if-modified-since"] == "Sat, 01 Jan 2000 00:00:00 GMT"


def test_a_time_as_young_as_the_answer_is_not_relied_on(web: Web) -> None:
    """The page may change again within the second that Last-Modified and its ETag are made of."""
    source = site(web, "/a")
    for etag in (True, False):
        now = formatdate(usegmt=True)
        web.pages["/a"] = Page(b"one", headers={"Last-Modified": now}, etag=etag)
        content = get(source)
        assert content is not None and content.change_token == ""


def test_the_content_type_determines_the_suffix_of_the_name(web: Web) -> None:
    for path, kind, name in (
        ("/guide", "text/html; charset=utf-8", "guide.html"),
        ("/guide.md", "text/markdown", "guide.md"),
        ("/get", "application/pdf", "get.pdf"),
        ("/", "text/html", "127.0.0.1.html"),
        ("/v1.2", "text/html", "v1.2.html"),
        ("/notes.rst", "text/plain", "notes.rst"),
    ):
        web.put(path, "x", **{"Content-Type": kind})
        content = get(site(web, path))
        assert content is not None and (content.about or {})["name"] == name


# Sitemaps ---------------------------------------------------------------------------------------------------------


def test_nested_sitemaps_are_read(web: Web) -> None:
    web.put("/index.xml", sitemap(web.url("/one.xml"), web.url("/two.xml.gz"), index=True))
    web.put("/one.xml", sitemap(web.url("/a#part"), web.url("/skip/b"), web.url("/a")))
    web.put("/two.xml.gz", gzip.compress(sitemap(web.url("/c?x=1")).encode()))
    source = site(web, sitemap=web.url("/index.xml"), exclude=["skip/**"])
    assert [entry.key for entry in source.list()] == [web.url("/a"), web.url("/c?x=1")]
    web.put("/plain.txt", f"{web.url('/d')}\n{web.url('/e')}\n")
    assert len(list(site(web, sitemap=web.url("/plain.txt")).list())) == 2


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("<html><body>not found</body></html>", "not a sitemap"),
        (sitemap("http://x.test/")[:-12], "not a readable sitemap"),
        ('<!DOCTYPE x [<!ENTITY a "b">]>' + sitemap("&a;"), "not a readable sitemap"),
        (
            '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]>' + sitemap("&a;"),
            "not a readable sitemap",
        ),
        (sitemap("http://elsewhere.test/x"), "another host"),
        (sitemap("file:///etc/passwd"), "not an http"),
        (gzip.compress(sitemap().encode(), mtime=0)[:-9], "is incomplete"),
        (gzip.compress(b" " * (60 << 20), mtime=0), "contains more than"),
        ("", "is empty"),
        (" \n", "is empty"),
        (gzip.compress(b"", mtime=0), "is empty"),
        ("Service unavailable\n", "not a sitemap but has 'Service unavailable'"),
        ('{"error": "login"}', "not a sitemap but has"),
    ],
)
def test_a_sitemap_that_is_invalid_or_incomplete_fails_the_listing(
    web: Web, body: str | bytes, reason: str
) -> None:
    web.put("/sitemap.xml", body)
    with pytest.raises(SourceError, match=reason):
        list(site(web, sitemap=web.url("/sitemap.xml"), hosts=["x.test"]).list())


def test_a_failed_nested_sitemap_fails_the_listing(web: Web) -> None:
    web.put("/index.xml", sitemap(web.url("/one.xml"), web.url("/two.xml"), index=True))
    web.put("/one.xml", sitemap(web.url("/a")))
    web.pages["/two.xml"] = Page(status=503)
    with pytest.raises(SourceUnavailable, match=r"two\.xml cannot be read: HTTP 503"):
        list(site(web, sitemap=web.url("/index.xml")).list())


@pytest.mark.parametrize("page", [Page(status=404), Page(b""), Page(b"<urlset><url>")])
def test_a_nested_sitemap_that_cannot_be_read_is_named_with_a_way_to_leave_it_out(
    web: Web, page: Page
) -> None:
    web.put("/index.xml", sitemap(web.url("/one.xml"), web.url("/two.xml?p=1"), index=True))
    web.put("/one.xml", sitemap(web.url("/a")))
    web.pages["/two.xml?p=1"] = page
    source = site(web, sitemap=web.url("/index.xml"))
    with pytest.raises(SourceError, match=r"/two.xml\?p=1 cannot be read") as caught:
        list(listed_entries("docs", source))
    command = str(caught.value).rpartition("rag sources change docs --exclude ")[2]
    (glob,) = shlex.split(command)
    listed = site(web, sitemap=web.url("/index.xml"), exclude=[glob]).list()
    assert [entry.key for entry in listed] == [web.url("/a")]
    with pytest.raises(SourceError, match=r"none.xml cannot be read: HTTP 404.*--set sitemap="):
        list(site(web, sitemap=web.url("/none.xml")).list())


def test_a_page_of_another_host_can_be_left_out(web: Web) -> None:
    web.put("/sitemap.xml", sitemap(web.url("/a"), "http://x.test/z"))
    with pytest.raises(SourceError, match=r"add x.test to hosts, .*--exclude /z"):
        list(listed_entries("docs", site(web, sitemap=web.url("/sitemap.xml"))))
    listed = site(web, sitemap=web.url("/sitemap.xml"), exclude=["/z"]).list()
    assert [entry.key for entry in listed] == [web.url("/a")]


def test_a_sitemap_without_pages_is_an_empty_list(web: Web) -> None:
    web.put("/sitemap.xml", sitemap())
    assert list(site(web, sitemap=web.url("/sitemap.xml")).list()) == []


def test_parameters_of_campaigns_make_no_second_page(web: Web) -> None:
    pages = [
        "/x",
        "/x?utm_source=n&amp;utm_medium=m",
        "/x?id=1&amp;gclid=7",
        "/x?id=1",
        "/x?utmost=2",
    ]
    web.put("/sitemap.xml", sitemap(*map(web.url, pages)))
    keys = [entry.key for entry in site(web, sitemap=web.url("/sitemap.xml")).list()]
    assert keys == [web.url("/x"), web.url("/x?id=1"), web.url("/x?utmost=2")]


def test_the_depth_and_the_number_of_pages_are_bounded(web: Web) -> None:
    for n in range(5):
        web.put(f"/{n}.xml", sitemap(web.url(f"/{n + 1}.xml"), index=True))
    web.put("/5.xml", sitemap(*(web.url(f"/page{n}") for n in range(11))))
    with pytest.raises(SourceError, match="nested deeper than 3"):
        list(site(web, sitemap=web.url("/0.xml")).list())
    assert len(list(site(web, sitemap=web.url("/2.xml")).list())) == 11
    with pytest.raises(SourceError, match="More than 10 pages"):
        list(site(web, sitemap=web.url("/2.xml"), max_pages=10).list())
    web.put("/loop.xml", sitemap(web.url("/loop.xml"), index=True))
    assert list(site(web, sitemap=web.url("/loop.xml")).list()) == []


# Politeness -------------------------------------------------------------------------------------------------------


def test_robots_txt_is_respected_even_after_a_redirect(web: Web) -> None:
    web.put("/robots.txt", "User-agent: rag-assets\nDisallow: /private/\nDisallow: /*.pdf$\n")
    web.put("/private/a", "secret")
    web.put("/x.pdf", "x")
    web.put("/open", "x")
    web.pages["/way"] = Page(status=302, headers={"Location": "/private/a"})
    for path in ("/private/a", "/x.pdf", "/way"):
        with pytest.raises(SourceError, match=r"robots.txt forbids"):
            get(site(web, path))
    assert web.statuses("/private/a") == []
    assert get(site(web, "/open")) and get(site(web, "/x.pdf", user_agent="other"))
    assert get(site(web, "/private/a", ignore_robots=True))
    assert {headers["user-agent"] for headers in web.headers} == {"rag-assets", "other"}


def test_an_unavailable_robots_txt_forbids_all_pages(web: Web) -> None:
    web.put("/a", "x")
    web.pages["/robots.txt"] = Page(status=500)
    with pytest.raises(SourceUnavailable):
        get(site(web, "/a"))
    assert web.statuses("/a") == []


def test_the_rate_and_the_crawl_delay_are_respected(web: Web) -> None:
    paths = [f"/{n}" for n in range(5)]
    for path in paths:
        web.put(path, "x")

    def seconds(**config: Any) -> float:
        source = site(web, *paths, **config)
        started = time.monotonic()
        for entry in source.list():
            source.fetch(entry)
        return time.monotonic() - started

    # Five pages and robots.txt make five intervals.
    assert seconds(requests_per_second=20.0) >= 5 / 20
    web.put("/robots.txt", "User-agent: *\nCrawl-delay: 0.1\n")
    assert seconds() >= 4 * 0.1


def test_a_busy_server_is_retried_and_then_unavailable(web: Web) -> None:
    web.put("/a", "x")
    answers: list[int | str | None] = [503, "reset", None]
    web.fault = lambda _, path: answers.pop(0) if path == "/a" else None
    assert get(site(web, "/a"))
    web.fault = lambda _, path: 429 if path == "/a" else None
    with pytest.raises(SourceUnavailable, match="429"):
        get(site(web, "/a"))
    web.fault = lambda _, path: "hang" if path == "/a" else None
    with pytest.raises(SourceUnavailable, match="does not answer"):
        get(site(web, "/a", timeout=0.2))


def test_a_server_that_never_answers_gets_little_time_while_others_wait(
    web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "FIRST_ANSWER", 0.2)
    for path in ("/a", "/b"):
        web.put(path, "x")
    with while_others_wait(True):
        dead, alive = (site(web, path, ignore_robots=True) for path in ("/a", "/b"))
    web.fault = lambda _, path: "hang"
    started = time.monotonic()
    with pytest.raises(SourceUnavailable, match="does not answer"):
        get(dead)
    # Not three times 30 s.
    assert time.monotonic() - started < 5
    # A server that answered once is tried as often as any.
    web.fault = None
    assert get(alive)
    answers: list[int | None] = [503, 503, None]
    web.fault = lambda _, path: answers.pop(0)
    assert get(alive)


def test_a_missing_page_is_not_retried(web: Web) -> None:
    with pytest.raises(SourceError, match="HTTP 404") as caught:
        get(site(web, "/a"))
    assert not caught.value.transient
    assert web.statuses("/a") == [404]


# Bounds -----------------------------------------------------------------------------------------------------------


def test_the_size_is_bounded_with_and_without_a_length_and_decompressed(web: Web) -> None:
    web.put("/stated", b"x" * 2000)
    bomb = zlib.compress(b"\0" * (64 << 20))
    web.put("/bomb", bomb, **{"Content-Encoding": "deflate"})
    web.pages["/endless"] = Page(_chunked(b"x" * 70_000), headers={"Transfer-Encoding": "chunked"})
    for path in ("/stated", "/bomb", "/endless"):
        with pytest.raises(SourceError, match="larger than 1,000 bytes"):
            get(site(web, path, max_bytes=1000))
    web.put("/small", gzip.compress(b"small"), **{"Content-Encoding": "gzip"})
    content = get(site(web, "/small", max_bytes=1000))
    assert content is not None and content.data == b"small"


def _chunked(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n0\r\n\r\n" % (len(data), data)


def test_redirects_are_bounded_and_lead_only_to_http_and_https(web: Web) -> None:
    web.pages["/loop"] = Page(status=302, headers={"Location": "/loop"})
    with pytest.raises(SourceError, match="more than 5 redirects"):
        get(site(web, "/loop"))
    assert len(web.statuses("/loop")) == 6
    for target in ("file:///etc/passwd", "ftp://127.0.0.1/x", "http://u:p@127.0.0.1/"):
        web.pages["/way"] = Page(status=302, headers={"Location": target})
        with pytest.raises(SourceError, match="address"):
            get(site(web, "/way"))


def test_credentials_are_sent_only_to_their_origin(web: Web) -> None:
    web.put("/there", "x")
    web.pages["/way"] = Page(status=302, headers={"Location": web.url("/there", host="localhost")})
    assert get(site(web, "/way", credentials={"username": "ada", "password": "hush"}))
    # robots.txt and the page, first at the origin, then at the other host.
    sent = [headers.get("authorization") for headers in web.headers]
    assert sent == ["Basic YWRhOmh1c2g=", "Basic YWRhOmh1c2g=", None, None]


# Addresses --------------------------------------------------------------------------------------------------------


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


def test_all_problems_of_a_configuration_are_reported_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        open_source(
            "web", {"urls": ["ftp://x.test/", "https://u:hush@x.test/"], "depth": 99, "agent": "x"}
        )
    message = str(caught.value)
    assert message.count("urls:") == 2 and "depth:" in message and "agent:" in message
    assert "hush" not in message
    with pytest.raises(ConfigError, match=r"(?s)pages in urls.*agent"):
        open_source("web", {"agent": "x"})


@pytest.mark.parametrize(
    ("status", "header", "error"),
    [
        (302, {"Location": "http://["}, "invalid address"),
        (503, {"Retry-After": "Mon, 01 Jan 99999 00:00:00 GMT"}, "HTTP 503"),
        (503, {"Retry-After": "\u00b2"}, "HTTP 503"),
    ],
)
def test_an_invalid_header_is_an_error_of_the_source(
    web: Web, status: int, header: dict[str, str], error: str
) -> None:
    web.pages["/a"] = Page(status=status, headers=header)
    with pytest.raises(SourceError, match=error):
        get(site(web, "/a"))
