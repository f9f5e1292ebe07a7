"""URLs as they may be shown: never with a password or a token."""

from __future__ import annotations

import re

SECRET_NAME = re.compile("pass|secret|token|key|sig|credential", re.IGNORECASE)

#: Up to the last "@" before a slash: libpq takes passwords with "?" and "#" in them, which no other parser does.
_USER = re.compile(r"^([^:/?#]+://)([^/]*)@")

#: libpq's `password=secret`, `password = 'a \\' b'`, `password=a\\ b`.
_KEYWORD = re.compile(
    r"(password\s*=\s*)('(?:[^'\\]|\\.)*'?|(?:\\.|\S)+)", re.IGNORECASE | re.DOTALL
)


def without_secrets(url: str) -> str:
    """The URL with every password, and every query value whose name sounds like a secret, replaced by ***."""
    if not re.match(r"[^:/?#\s=]+://", url):
        return _KEYWORD.sub(r"\1***", url)
    url = _USER.sub(_shown_user, url, count=1)
    return re.sub(r"([?&])([^=&#]*)=([^&#]*)", _shown_parameter, url)


def discreet(message: str, url: str) -> str:
    """What a library says, which may quote the URL that it was given, without its secrets."""
    return message.replace(url, without_secrets(url))


def _shown_user(match: re.Match[str]) -> str:
    scheme, user = match.groups()
    name, colon, _ = user.partition(":")
    # For the web a name without a password is a token.
    hidden = not colon and scheme.startswith("http")
    return f"{scheme}{'***' if hidden else name}{':***' if colon else ''}@"


def _shown_parameter(match: re.Match[str]) -> str:
    separator, name, value = match.groups()
    return f"{separator}{name}={'***' if SECRET_NAME.search(name) else value}"
