"""Source type `web`: the pages that sitemaps name, on a real server."""

from __future__ import annotations

import gzip
import shlex

import pytest

from rag_assets.ingestion.fetch import listed_entries
from resources.errors import SourceError, SourceUnavailable
from resources.sources import http
from tests.support.servers import Page, Web
from tests.support.web_sources import site


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "LONGEST_WAIT", 0.01)


def sitemap(*urls: str, index: bool = False) -> str:
    outer, inner = ("sitemapindex", "sitemap") if index else ("urlset", "url")
    items = "".join(f"<{inner}><loc>{url}</loc></{inner}>" for url in urls)
    return f'<?xml version="1.0"?><{outer} xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">{items}</{outer}>'


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
        (gzip.compress(b" " * (60 << 20), mtime=0), "larger than"),
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


def test_addresses_relative_to_the_sitemap_are_pages(web: Web) -> None:
    web.put("/docs/sitemap.xml", sitemap("/a", "b"))
    source = site(web, sitemap=web.url("/docs/sitemap.xml"))
    assert [entry.key for entry in source.list()] == [web.url("/a"), web.url("/docs/b")]


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
