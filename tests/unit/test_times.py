"""Times and durations that people write on the command line."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from rag_assets.cli.times import duration, future
from resources.errors import ConfigError

NOW = datetime(2026, 12, 1, 3, 30, tzinfo=UTC)


def test_a_time_is_a_duration_from_now_or_a_date() -> None:
    for text, expected in {
        "30d": NOW + timedelta(days=30),
        "12h": NOW + timedelta(hours=12),
        " 45m ": NOW + timedelta(minutes=45),
        "2027-01-31": datetime(2027, 1, 31, tzinfo=UTC),
        "2027-01-31T09:00+09:00": datetime(2027, 1, 31, tzinfo=UTC),
    }.items():
        assert future(text, "--expires", NOW) == expected
    assert duration("0m", "--grace") == timedelta()


@pytest.mark.parametrize(
    "text", ["", "soon", "30", "-1d", "1.5d", "30 d", "٣d", "2027-13-01", "9999999d"]
)
def test_another_text_is_an_error_that_names_the_option(text: str) -> None:
    with pytest.raises(ConfigError, match="--expires: expected 30d, 12h, or a date"):
        future(text, "--expires", NOW)
    with pytest.raises(ConfigError, match="--grace: expected a duration"):
        duration(text, "--grace")
