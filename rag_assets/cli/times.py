"""Times and durations as people write them: `30d`, `12h`, `45m`, `2027-01-31`."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from resources.errors import ConfigError

_UNITS = {"d": "days", "h": "hours", "m": "minutes"}
_DURATION = re.compile(r"(\d{1,6})([dhm])", re.ASCII)


def duration(text: str, option: str) -> timedelta:
    """Return the duration of `30d`, `12h` or `45m`. `option`: what the error names."""
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise ConfigError(f"{option}: expected a duration such as 30d, 12h or 45m, found {text!r}")
    return timedelta(**{_UNITS[match[2]]: int(match[1])})


def future(text: str, option: str, now: datetime) -> datetime:
    """Return the time of a duration from `now`, or of an ISO date or time; without an offset it is in UTC."""
    if _DURATION.fullmatch(text.strip()):
        return now + duration(text, option)
    try:
        time = datetime.fromisoformat(text.strip())
    except ValueError:
        raise ConfigError(
            f"{option}: expected 30d, 12h, or a date such as 2027-01-31, found {text!r}"
        ) from None
    return time if time.tzinfo else time.replace(tzinfo=UTC)
