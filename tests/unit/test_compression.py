"""Compressed bodies and sitemaps: whole or an error, whatever a server sends."""

from __future__ import annotations

import gzip
import zlib

import pytest

from resources.errors import SourceError
from resources.sources.compression import Incomplete, decoded, gunzipped
from resources.sources.sitemaps import locations

TEXT = b"The tower has 44 steps. " * 40


def zipped(data: bytes) -> bytes:
    return gzip.compress(data, mtime=0)


ZIPPED = zipped(TEXT)
RAW = zlib.compress(TEXT)[2:-4]
PAGES = b"https://x.test/a\nhttps://x.test/b\n"
XML = b'<?xml version="1.0"?><urlset><url><loc>https://x.test/a</loc></url></urlset>'


@pytest.mark.parametrize(
    ("codings", "body"),
    [
        ("", TEXT),
        ("identity", TEXT),
        # A mistake of servers: no coding of this name exists.
        ("utf-8", TEXT),
        ("gzip", ZIPPED),
        ("x-gzip", ZIPPED),
        ("deflate", zlib.compress(TEXT)),
        ("deflate", RAW),
        ("GZIP, gzip", zipped(ZIPPED)),
        # Several members; padding behind the last one.
        ("gzip", zipped(TEXT[:99]) + zipped(TEXT[99:])),
        ("gzip", ZIPPED + b"\0" * 20),
    ],
)
def test_a_body_is_decompressed_as_a_whole(codings: str, body: bytes) -> None:
    assert decoded(body, codings, len(TEXT)) == TEXT
    assert decoded(b"", codings, 0) == b""
    if body != TEXT:
        with pytest.raises(SourceError, match="larger than"):
            decoded(body, codings, len(TEXT) - 1)


@pytest.mark.parametrize(
    ("codings", "body"),
    [
        ("gzip", ZIPPED[:-1]),
        ("gzip", ZIPPED[:5]),
        ("deflate", zlib.compress(TEXT)[:-1]),
        ("deflate", RAW[:-1]),
        ("gzip", ZIPPED + ZIPPED[:-9]),
    ],
)
def test_a_body_that_ends_early_is_not_taken_for_the_whole(codings: str, body: bytes) -> None:
    with pytest.raises(Incomplete):
        decoded(body, codings, 10 * len(TEXT))


@pytest.mark.parametrize(
    ("codings", "body", "error"),
    [
        ("br", TEXT, "compressed it with br"),
        ("gzip, zstd", TEXT, "compressed it with zstd"),
        ("gzip", TEXT, "cannot be decompressed"),
    ],
)
def test_a_body_that_cannot_be_read_is_no_text(codings: str, body: bytes, error: str) -> None:
    with pytest.raises(SourceError, match=error):
        decoded(body, codings, 10 * len(TEXT))


@pytest.mark.parametrize(
    ("sitemap", "pages"),
    [
        (zipped(PAGES[:17]) + zipped(PAGES[17:]), 2),
        (b"\n \r\n" + XML, 1),
        (b"\xef\xbb\xbf\n" + XML, 1),
        (XML.replace(b"<urlset>", b"<!DOCTYPE urlset><urlset>"), 1),
        (XML.decode().replace("?>", ' encoding="utf-16"?>').encode("utf-16"), 1),
    ],
)
def test_sitemaps_in_forms_that_search_engines_read(sitemap: bytes, pages: int) -> None:
    assert [url for _, url in locations(sitemap)] == PAGES.decode().split()[:pages]


def test_a_login_page_and_hostile_entities_are_no_sitemap() -> None:
    with pytest.raises(SourceError, match="begins with <html>"):
        list(locations(b"<!DOCTYPE html><html><body>Log in</body></html>"))
    bomb = b'<!DOCTYPE u [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]><urlset><url><loc>&b;</loc></url></urlset>'
    with pytest.raises(SourceError, match="not a readable sitemap"):
        list(locations(bomb))
    with pytest.raises(SourceError, match="incomplete"):
        list(locations(zipped(PAGES)[:-3]))
    assert gunzipped(zipped(PAGES), 99) == PAGES
