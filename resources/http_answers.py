"""Interpretation of HTTP answers and request errors.

Sends nothing: `sources.http` and `model_server` send the requests.
"""

from __future__ import annotations

import email.utils
import time
from collections.abc import Mapping
from contextlib import suppress


def retry_after(headers: Mapping[str, str], default: float) -> float:
    """Return the seconds that the server asks to wait, or `default`. Names in `headers` are in lower case."""
    value = headers.get("retry-after", "")
    if is_number(value):
        return float(value)
    # These errors are raised for impossible dates, such as the year 99999.
    with suppress(ValueError, OverflowError):
        if (date := email.utils.parsedate_tz(value)) is not None:
            return max(0.0, email.utils.mktime_tz(date) - time.time())
    return default


def is_number(text: str) -> bool:
    """Return whether the text is digits (RFC 9110), and few enough for Python to convert them."""
    return text.isascii() and text.isdecimal() and len(text) < 19


def reason(error: BaseException) -> str:
    """Return the reason of an error, without the memory address of an object."""
    while error.args and isinstance(error.args[-1], BaseException):
        error = error.args[-1]
    return str(error).rpartition(": ")[2].strip()[:200] or type(error).__name__
