"""Ticks of cron expressions in a time zone, also when clocks are changed, and when a source is late."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from rag_assets.pipeline.cron import Timetable
from rag_assets.settings.load import load_settings
from resources.errors import ConfigError

HOUR = timedelta(hours=1)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("zone", "own", "moment", "tick"),
    [
        ("UTC", None, "2024-05-01 01:59", "2024-05-01 02:00"),
        ("UTC", None, "2024-05-01 02:00", "2024-05-02 02:00"),  # strictly after
        ("UTC", "*/15 * * * *", "2024-05-01 01:59", "2024-05-01 02:00"),
        ("UTC", "not a cron", "2024-05-01 01:59", "2024-05-01 02:00"),  # as if it had none
        ("UTC", "0 0 31 2,4 *", "2024-05-01 01:59", "2024-05-01 02:00"),  # neither month has a 31st
        ("Asia/Tokyo", None, "2024-05-01 01:59", "2024-05-01 17:00"),
        ("Europe/Berlin", "0 4 * * *", "2024-03-30 12:00", "2024-03-31 02:00"),  # summer begins
        (
            "Europe/Berlin",
            "30 2 * * *",
            "2024-03-30 12:00",
            "2024-03-31 01:00",
        ),  # there is no 02:30
        ("Europe/Berlin", "0 4 * * *", "2024-10-26 12:00", "2024-10-27 03:00"),  # and ends
    ],
)
def test_the_next_tick(zone: str, own: str | None, moment: str, tick: str) -> None:
    found = Timetable("0 2 * * *", zone, HOUR).after(own, at(moment))
    assert found.astimezone(UTC) == at(tick)


def test_a_source_is_late_when_a_tick_passed_without_a_sync_longer_ago_than_the_grace() -> None:
    table = Timetable("0 2 * * *", "UTC", HOUR)
    done = at("2024-05-01 02:10")
    assert table.lateness(None, done, at("2024-05-02 01:59")) is None
    assert table.lateness(None, done, at("2024-05-02 03:00")) is None
    assert table.lateness(None, done, at("2024-05-02 03:01")) == timedelta(minutes=61)
    assert table.lateness("0 4 * * 1", done, at("2024-05-02 03:01")) is None


def test_an_unknown_time_zone_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAG_TIMEZONE", "Mars/Olympus")
    with pytest.raises(ConfigError, match=r"RAG_TIMEZONE.*IANA"):
        load_settings()
