"""What HTTP answers and failed requests say of themselves. Nothing is asked here: `sources.http` and the embedder
`openai` have their own ways to.
"""

from __future__ import annotations

import email.utils
import time
from collections.abc import Mapping


def retry_after(headers: Mapping[str, str], otherwise: float) -> float:
    """Seconds that the server asks for, or `otherwise`; `headers` by their names in lower case."""
    stated = headers.get("retry-after", "")
    if is_number(stated):
        return float(stated)
    try:
        if (at := email.utils.parsedate_tz(stated)) is not None:
            return max(0.0, email.utils.mktime_tz(at) - time.time())
    except (ValueError, OverflowError):
        pass  # a date that no calendar has
    return otherwise


def is_number(stated: str) -> bool:
    """Digits as RFC 9110 means them, and not so many that Python refuses to read them."""
    return stated.isascii() and stated.isdecimal() and len(stated) < 19


def reason(error: BaseException) -> str:
    """What went wrong, without the address of an object."""
    while error.args and isinstance(error.args[-1], BaseException):
        error = error.args[-1]
    return str(error).rpartition(": ")[2].strip()[:200] or type(error).__name__
