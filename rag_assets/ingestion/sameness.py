"""How documents that turned into one and the same content are recognized: an error, a login page, a maintenance page.

Such a page may name the requested address, a time or a number of the request, so contents are compared without them.
"""

from __future__ import annotations

import hashlib
import html
import re
from typing import NamedTuple
from urllib.parse import quote, unquote, urlsplit

#: Bytes of a content that is compared without its numbers. Pages about an error are shorter.
LARGEST = 256 * 1024
#: Shorter keys may be parts of other words.
_SHORTEST_KEY = 3
#: Share of the words of a content that its successor has too, below which the two are not about the same.
UNRELATED = 0.3

#: A word with a digit: a number, a part of a time, an id. Possessive, so that its time is linear.
_NUMBER = re.compile(rb"\b[A-Za-z_]*+[0-9][A-Za-z0-9_]*+")
_WORD = re.compile(rb"[^\s<>\"'=.,;:()&/]{2,}+")
_BETWEEN = re.compile(rb"[\s\-+:.,/]+")


class Signature(NamedTuple):
    """`body`: equal for equal bytes. `gist`: equal also if only numbers, times and the document's key differ."""

    body: str
    gist: str


def signature(data: bytes, key: str) -> Signature:
    body = _digest(data)
    if len(data) > LARGEST:
        return Signature(body, body)
    for name in _names(key):
        data = data.replace(name, b"")
    return Signature(body, _digest(_BETWEEN.sub(b" ", _NUMBER.sub(b"", data))))


def is_unrelated(old: bytes, new: bytes) -> bool:
    """Return whether few words of the old content are in the new one."""
    words = set(_WORD.findall(old[:LARGEST]))
    kept = words & set(_WORD.findall(new[:LARGEST]))
    return len(kept) < UNRELATED * len(words)


def _names(key: str) -> list[bytes]:
    """Return the forms in which a page names what was requested, the longest first."""
    parts = urlsplit(key) if "://" in key else None
    names = {key, parts.path.strip("/") if parts else key}
    names |= {
        form(name) for name in names for form in (unquote, quote, lambda n: quote(n, safe=""))
    }
    names |= {html.escape(name) for name in names}
    encoded = {name.encode("utf-8", "surrogatepass") for name in names}
    return sorted((n for n in encoded if len(n) >= _SHORTEST_KEY), key=len, reverse=True)


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()
