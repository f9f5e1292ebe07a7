"""Whether a setting is the address of a web server that may receive texts."""

from __future__ import annotations

from urllib.parse import urlsplit


def is_web_address(value: str) -> bool:
    """Return whether the value is an http or https URL with a host and without a user."""
    try:
        parts = urlsplit(value)
        return (
            parts.scheme in ("http", "https")
            and bool(parts.hostname)
            and parts.port != 0
            and "@" not in parts.netloc
            and value.isprintable()
            and " " not in value
        )
    except ValueError:
        return False
