"""Sitemaps: XML (also compressed) or a text of addresses → the addresses. Decompression and entities are bounded."""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterator

from resources.errors import SourceError
from resources.sources.compression import GZIP_START, Incomplete, gunzipped

#: Maximum bytes of a sitemap, decompressed (sitemaps.org).
MAX_BYTES = 50 * 1024 * 1024
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def locations(data: bytes) -> Iterator[tuple[bool, str]]:
    """Yield (whether it is a sitemap, address). Raises SourceError if `data` is not a complete sitemap."""
    if data.startswith(GZIP_START):
        try:
            data = gunzipped(data, MAX_BYTES)
        except Incomplete as error:
            raise SourceError(f"it is incomplete: {error}") from None
    # Blanks before the declaration are an error of XML, which many servers make and all search engines forgive.
    content = data.lstrip(b"\xef\xbb\xbf \t\r\n")
    if not content:
        raise SourceError("it is empty")
    if not content.startswith((b"<", *_UTF16)):
        for line in content.decode("utf-8", "replace").splitlines():
            if line.strip() and not line.strip().startswith(("http://", "https://")):
                # An error in plain text, or the address of a page that is no web page.
                raise SourceError(
                    f"it is not a sitemap but has {line.strip()[:80]!r} in place of an address"
                )
            if line.strip():
                yield False, line.strip()
        return
    from xml.etree.ElementTree import ParseError

    from defusedxml.common import DefusedXmlException
    from defusedxml.ElementTree import iterparse

    root, parent = "", ""
    try:
        for event, element in iterparse(io.BytesIO(content), ("start", "end")):
            name = element.tag.rpartition("}")[2]
            if event == "start":
                root = root or name
                if root not in ("urlset", "sitemapindex"):
                    raise SourceError(f"it is not a sitemap but begins with <{root}>")
                parent = name if name in ("url", "sitemap") else parent
            elif name == "loc" and (parent == "sitemap") == (root == "sitemapindex"):
                # Not the <image:loc> of a page's picture.
                if "image" not in element.tag and "video" not in element.tag and element.text:
                    yield root == "sitemapindex", element.text.strip()
            elif name in ("url", "sitemap"):
                element.clear()
    except (ParseError, DefusedXmlException) as error:
        raise SourceError(f"it is not a readable sitemap: {error}") from None
