"""URLs as they may be shown: never with a password or a token."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

_SECRET = re.compile("pass|secret|token|key|sig|credential", re.IGNORECASE)


def without_secrets(url: str) -> str:
    """The URL with every password, and every query value whose name sounds like a secret, replaced by ***."""
    if "://" not in url:
        return re.sub(r"(password\s*=\s*)('[^']*'|\S+)", r"\1***", url)
    parts = urlsplit(url)
    host = parts.netloc
    if "@" in host:
        user, _, place = host.rpartition("@")
        name, colon, _ = user.partition(":")
        host = f"{name}{':***' if colon else ''}@{place}"
    query = urlencode(
        [
            (name, "***" if _SECRET.search(name) else value)
            for name, value in parse_qsl(parts.query)
        ],
        quote_via=quote,
        safe="*/",
    )
    return urlunsplit((parts.scheme, host, parts.path, query, parts.fragment))
