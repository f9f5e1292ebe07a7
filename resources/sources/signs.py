"""Signs of a content that are made of a time, and when they are too young to be relied on.

Within one tick of a clock a content can change again and keep its time. So a time that is as young as the listing is
marked in the change token: a later listing has the plain token, which differs, and the content is read once more.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any

#: Appended to the token of a content whose time is too young.
YOUNG = "?"
#: Seconds of a tick of file systems that keep fractions of a second (the kernel's clock: 10 ms), and of the others
#: (FAT: 2 s).
FINE_TICK, COARSE_TICK = 0.012, 2.1
#: Seconds for clocks that are not exactly equal, in addition to a tick of one second.
SKEW = 2.0
#: Seconds. Offsets of time zones are multiples of it.
_QUARTER_HOUR = 900
_HALF_DAY = 15 * 3600


def file_token(token: str, changed_ns: int, now_ns: int) -> str:
    """Return the token of a file that was changed at a time of the kernel's clock. Times in the future are young."""
    tick = FINE_TICK if changed_ns % 1_000_000_000 else COARSE_TICK
    return token if changed_ns + tick * 1e9 < now_ns else token + YOUNG


def is_young(time: Any, now: datetime.datetime) -> bool:
    """Return whether a recorded time is as young as `now`, by its own resolution.

    Times without a zone may be in any zone: then a distance of full quarter hours counts as none. Values that are no
    time, such as the number of a version, are never young.
    """
    if isinstance(time, str):
        time = _parsed(time)
    if isinstance(time, datetime.datetime):
        seconds = time.second + time.microsecond / 1e6
        # A time without seconds, or without a fraction of a second, is rounded to a minute or a second.
        margin = SKEW + (0 if time.microsecond else 1 if seconds else 60)
        if time.tzinfo is not None:
            return (now - time).total_seconds() < margin
        age = (now.replace(tzinfo=None) - time).total_seconds()
        return abs(age) < _HALF_DAY and (
            age % _QUARTER_HOUR < margin or -age % _QUARTER_HOUR < SKEW
        )
    if isinstance(time, datetime.date):
        return (now.date() - time).days <= 1
    if isinstance(time, int | float) and not isinstance(time, bool):
        # Seconds or milliseconds since 1970; a smaller number is a version.
        epoch = now.timestamp()
        return any(abs(epoch - time / unit) < SKEW + 1 for unit in (1, 1000))
    return False


def _parsed(text: str) -> datetime.datetime | datetime.date | None:
    try:
        return datetime.date.fromisoformat(text)
    except ValueError:
        pass
    try:
        return datetime.datetime.fromisoformat(text)
    except ValueError:
        return http_date(text)


def http_date(text: str) -> datetime.datetime | None:
    """Return the time of a header such as Last-Modified; None if it is not one."""
    try:
        time = parsedate_to_datetime(text)
    # IndexError: from the standard library, for some texts that are no dates.
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return time if time.tzinfo else time.replace(tzinfo=datetime.UTC)


def trusted_validators(headers: Mapping[str, str], now: datetime.datetime) -> tuple[str, str]:
    """Return (ETag, Last-Modified) of an answer, both empty if Last-Modified is as young as the answer.

    RFC 9110, 8.8.2.2: such a Last-Modified is weak. Servers make ETags of the same time and the size.
    """
    etag, modified = headers.get("etag", ""), headers.get("last-modified", "")
    if not modified:
        return etag, ""
    at, answered = http_date(modified), http_date(headers.get("date", ""))
    if at is not None and ((answered or now) - at).total_seconds() <= SKEW:
        return "", ""
    return etag, modified
