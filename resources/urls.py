"""URLs that may be shown: without passwords and tokens."""

from __future__ import annotations

import re

SECRET_NAME = re.compile("pass|secret|token|key|sig|credential", re.IGNORECASE)

#: Up to the last "@" before a slash: libpq, unlike other parsers, accepts "?" and "#" in passwords.
_USER = re.compile(r"^([^:/?#]+://)([^/]*)@")

#: libpq's `password=secret`, `password = 'a \\' b'`, `password=a\\ b`.
_KEYWORD = re.compile(
    r"(password\s*=\s*)('(?:[^'\\]|\\.)*'?|(?:\\.|\S)+)", re.IGNORECASE | re.DOTALL
)


def without_secrets(url: str) -> str:
    """Return the URL with *** for every password and for every query value whose name sounds like a secret."""
    if not re.match(r"[^:/?#\s=]+://", url):
        return _KEYWORD.sub(r"\1***", url)
    url = _USER.sub(_redact_user, url, count=1)
    return re.sub(r"([?&])([^=&#]*)=([^&#]*)", _redact_parameter, url)


def redact(message: str, url: str) -> str:
    """Return the message of a library, which may quote the URL, without the secrets of the URL."""
    return message.replace(url, without_secrets(url))


def _redact_user(match: re.Match[str]) -> str:
    scheme, user = match.groups()
    name, colon, _ = user.partition(":")
    # In a web URL, a user name without a password is a token.
    hidden = not colon and scheme.startswith("http")
    return f"{scheme}{'***' if hidden else name}{':***' if colon else ''}@"


def _redact_parameter(match: re.Match[str]) -> str:
    separator, name, value = match.groups()
    return f"{separator}{name}={'***' if SECRET_NAME.search(name) else value}"
