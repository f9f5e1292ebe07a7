"""Ticks of cron expressions in a time zone, also when clocks change, and when a source is late."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from dagster._utils.schedules import get_next_cron_tick, is_valid_cron_schedule

from rag_assets.pipeline.cron import Timetable, comes_due
from rag_assets.settings.load import Settings, load_settings
from rag_assets.settings.schedules import timetable
from resources.errors import ConfigError
from tests.support.extent import only_in_soak

HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)

#: Valid for us and for Dagster, which reads the global schedules.
EXPRESSIONS = (
    "* * * * *", "*/15 * * * *", "*/7 * * * *", "0 * * * *", "30 * * * *", "0 2 * * *", "30 2 * * *", "15 1 * * *",
    "0 0 * * *", "30 0 * * *", "5,35 1,2,3 * * *", "0-30/10 2-3 * * *", "0 */5 * * *", "* 2 * * *", "0 22-4 * * *",
    "0 4 * * 0", "0 4 * * 7", "30 2 * * sun", "0 9 * * mon-fri", "0 2 * * 1-5/2", "0 0 * * 5#3", "0 0 * * L5",
    "0 0 1 * *", "0 0 31 * *", "0 0 1 jan *", "0 2 L * *", "0 0 1,15 * 1", "0 0 13 * 5", "0 2 ? * 1",
    "59 23 31 12 *", "30 1 * 10,11 sun", "@hourly", "@daily", "@midnight", "@weekly", "@monthly", "@yearly", "@DAILY",
)  # fmt: skip
INVALID = (
    "", " ", "not a cron", "* * * *", "99 * * * *", "0 24 * * *", "0 2 * * 8", "0 0 * 13 *", "a b c d e", "@reboot",
    "@every 5m", "H * * * *", "0 0 * * * *", "0 0 * * * * 2030", "0 0 31 2 *", "0 0 30 2 *", "0 0 31 4 *",
    "0 0 31 2,4 *", "0 2 15W * *",
)  # fmt: skip
#: Without and with changes of the clocks: in the north and the south, in Ramadan, and beside whole hours.
ZONES = (
    "UTC", "Asia/Kathmandu", "Europe/Berlin", "America/New_York", "America/St_Johns", "Africa/Casablanca",
    "Pacific/Chatham",
)  # fmt: skip
OTHER_ZONES = ("Asia/Tokyo", "Asia/Kolkata", "Pacific/Apia", "Europe/London")
#: Around the changes of the clocks in Europe and America, and the ends of months and years.
MOMENTS = (
    "2024-03-30 12:00", "2024-03-31 00:59", "2024-03-31 01:00", "2024-03-10 06:30", "2024-03-10 07:00",
    "2024-10-26 12:00", "2024-10-27 00:10", "2024-10-27 01:00", "2024-11-03 05:10", "2024-11-03 06:10",
    "2024-04-06 14:50", "2024-02-28 23:59", "2023-12-31 23:59", "2026-01-01 00:00", "2024-06-15 12:34",
)  # fmt: skip


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("zone", "own", "moment", "tick"),
    [
        ("UTC", None, "2024-05-01 01:59", "2024-05-01 02:00"),
        # Strictly after the moment.
        ("UTC", None, "2024-05-01 02:00", "2024-05-02 02:00"),
        ("UTC", None, "2024-05-01 01:59:59.999", "2024-05-01 02:00"),
        ("UTC", "*/15 * * * *", "2024-05-01 01:59", "2024-05-01 02:00"),
        # Without a tick: the default applies. Neither February nor April has a 31st.
        ("UTC", "not a cron", "2024-05-01 01:59", "2024-05-01 02:00"),
        ("UTC", "0 0 31 2,4 *", "2024-05-01 01:59", "2024-05-01 02:00"),
        ("Asia/Tokyo", None, "2024-05-01 01:59", "2024-05-01 17:00"),
        # Daylight saving time begins: there is no 02:30 in this night.
        ("Europe/Berlin", "0 4 * * *", "2024-03-30 12:00", "2024-03-31 02:00"),
        ("Europe/Berlin", "30 2 * * *", "2024-03-30 12:00", "2024-03-31 01:00"),
        # It ends: 02:30 occurs twice, and ticks twice.
        ("Europe/Berlin", "0 4 * * *", "2024-10-26 12:00", "2024-10-27 03:00"),
        ("Europe/Berlin", "30 2 * * *", "2024-10-26 12:00", "2024-10-27 00:30"),
        ("Europe/Berlin", "30 2 * * *", "2024-10-27 00:30", "2024-10-27 01:30"),
        ("Europe/Berlin", "30 2 * * *", "2024-10-27 01:30", "2024-10-28 01:30"),
    ],
)
def test_the_next_tick(zone: str, own: str | None, moment: str, tick: str) -> None:
    next_tick = Timetable("0 2 * * *", zone, HOUR).after(own, at(moment))
    assert next_tick.astimezone(UTC) == at(tick)


@pytest.mark.parametrize("zone", [*ZONES, *only_in_soak(*OTHER_ZONES)])
def test_ticks_are_those_of_dagster(zone: str) -> None:
    """Except in the hour that is repeated when daylight saving time ends: most expressions tick twice, Dagster's once.

    Dagster's ticks are wrong, and not compared, on Lord Howe Island, whose clock changes by half an hour, and on
    29 February.
    """
    table = Timetable("0 2 * * *", zone, HOUR)
    differing = []
    for cron, moment in itertools.product(EXPRESSIONS, MOMENTS):
        ours = table.after(cron, at(moment))
        theirs = get_next_cron_tick(cron, at(moment) + timedelta(seconds=1), zone)
        if ours.astimezone(UTC) != theirs.astimezone(UTC) and not _in_repeated_hour(ours, zone):
            differing.append((cron, moment, ours.isoformat(), theirs.isoformat()))
    assert differing == []


def _in_repeated_hour(moment: datetime, zone: str) -> bool:
    local = moment.astimezone(ZoneInfo(zone))
    return local.replace(fold=0).utcoffset() != local.replace(fold=1).utcoffset()


@pytest.mark.parametrize("cron", [*EXPRESSIONS, "0 0 29 2 *", *INVALID])
def test_an_expression_comes_due_if_it_does_for_dagster(cron: str) -> None:
    assert comes_due(cron) == _comes_due_for_dagster(cron) == (cron not in INVALID)


def _comes_due_for_dagster(cron: str) -> bool:
    if not is_valid_cron_schedule(cron):
        return False
    try:
        get_next_cron_tick(cron, at("2024-05-01 00:00"), "UTC")
    except ValueError:
        return False
    return True


@pytest.mark.parametrize("cron", ["R * * * *", "0 R(2-4) * * *", "0 2 * * 1,R"])
def test_a_random_time_is_invalid_since_it_differs_at_each_call(cron: str) -> None:
    assert not comes_due(cron)


def test_a_source_is_late_if_its_sync_is_overdue_by_more_than_the_grace_period() -> None:
    table = Timetable("0 2 * * *", "UTC", HOUR)
    done = at("2024-05-01 02:10")
    assert table.lateness(None, done, at("2024-05-02 01:59")) is None
    assert table.lateness(None, done, at("2024-05-02 03:00")) is None
    assert table.lateness(None, done, at("2024-05-02 03:01")) == timedelta(minutes=61)
    assert table.lateness("0 4 * * 1", done, at("2024-05-02 03:01")) is None


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe"])
def test_a_moment_says_the_same_in_any_zone_when_clocks_change(zone: str) -> None:
    """PostgreSQL returns times in the zone of its session, in which Python calculates by the clock on the wall."""
    table, local = Timetable("30 2 * * *", zone, HOUR), ZoneInfo(zone)
    for night in ("2026-10-24 20:00", "2026-03-28 20:00", "2026-11-01 02:00", "2026-04-04 12:00"):
        for minutes in range(0, 12 * 60, 30):
            done = at(night) + minutes * MINUTE
            now = done + 5 * HOUR
            tick = table.after(None, done).astimezone(UTC)
            late = table.lateness(None, done, now)
            assert late == (now - tick if now - tick > HOUR else None)
            assert table.after(None, done.astimezone(local)).astimezone(UTC) == tick
            for zones in itertools.product((UTC, local), repeat=2):
                assert late == table.lateness(None, *map(datetime.astimezone, (done, now), zones))


def test_the_timetable_follows_the_settings() -> None:
    settings = Settings(sync_schedule="0 3 * * *", timezone="Asia/Tokyo", sync_grace_minutes=5)
    assert timetable(settings) == Timetable("0 3 * * *", "Asia/Tokyo", 5 * MINUTE)


@pytest.mark.parametrize("value", ["0 0 31 2 *", "0 0 * * * *", "@daily", "0 2 15W * *"])
def test_an_invalid_global_schedule_is_refused(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("RAG_NIGHTLY_CHECK_SCHEDULE", value)
    with pytest.raises(ConfigError, match="RAG_NIGHTLY_CHECK_SCHEDULE"):
        load_settings()


def test_an_unknown_time_zone_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAG_TIMEZONE", "Mars/Olympus")
    with pytest.raises(ConfigError, match=r"RAG_TIMEZONE.*IANA"):
        load_settings()
