"""Source type `web` on a real server: conditional requests, robots.txt and bounds."""

from __future__ import annotations

import gzip
import time
import zlib
from email.utils import formatdate
from typing import Any

import pytest

from resources.errors import ConfigError, SourceError, SourceUnavailable
from resources.sources import http
from resources.sources.registry import open_source
from resources.waiting import while_others_wait
from tests.support.servers import Page, Web
from tests.support.web_sources import get, site


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "LONGEST_WAIT", 0.01)


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


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_the_first_rule_of_robots_txt_counts_with_a_byte_order_mark(web: Web, mark: bytes) -> None:
    web.put("/robots.txt", mark + b"User-agent: *\nDisallow: /\n")
    web.put("/a", "x")
    with pytest.raises(SourceError, match=r"robots.txt forbids"):
        get(site(web, "/a"))


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


def test_a_redirect_to_an_address_in_utf8_is_followed(web: Web) -> None:
    web.put("/caf%C3%A9", "open")
    # http.server writes headers in Latin-1: these are the bytes of the UTF-8.
    web.pages["/a"] = Page(status=302, headers={"Location": "/café".encode().decode("latin-1")})
    content = get(site(web, "/a"))
    assert content is not None and content.data == b"open"


def test_a_compressed_page_that_ends_early_is_requested_again_and_never_taken_for_the_whole(
    web: Web,
) -> None:
    body = gzip.compress(b"<p>The tower has 44 steps.</p>" * 9, mtime=0)
    web.put("/a", body[:-4], **{"Content-Encoding": "gzip"})
    with pytest.raises(SourceUnavailable, match="ends early"):
        get(site(web, "/a"))
    assert len(web.statuses("/a")) == http.TRIES
    web.put("/a", body, **{"Content-Encoding": "gzip"})
    content = get(site(web, "/a"))
    assert content is not None and content.data.endswith(b"steps.</p>")


def test_credentials_are_sent_only_to_their_origin(web: Web) -> None:
    web.put("/there", "x")
    web.pages["/way"] = Page(status=302, headers={"Location": web.url("/there", host="localhost")})
    assert get(site(web, "/way", credentials={"username": "ada", "password": "hush"}))
    # robots.txt and the page, first at the origin, then at the other host.
    sent = [headers.get("authorization") for headers in web.headers]
    assert sent == ["Basic YWRhOmh1c2g=", "Basic YWRhOmh1c2g=", None, None]


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
        (302, {"Location": "http://["}, "not a valid address"),
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
