"""Times as signs of a change: when they are too young, by their resolution and zone."""

from __future__ import annotations

import datetime
from datetime import timedelta
from typing import Any

import pytest

from resources.sources.signs import file_token, is_young, trusted_validators
from resources.sources.stores import version_of

NOW = datetime.datetime(2026, 5, 4, 12, 0, 30, 500_000, datetime.UTC)
NAIVE = NOW.replace(tzinfo=None)
SECOND = 1_000_000_000


@pytest.mark.parametrize(
    ("time", "young"),
    [
        (NOW - timedelta(seconds=1), True),
        (NOW - timedelta(seconds=10), False),
        # In the future, by a clock that is ahead.
        (NOW + timedelta(minutes=5), True),
        # Rounded to a second, to a minute, to a day.
        (NOW.replace(microsecond=0) - timedelta(seconds=2), True),
        (NOW.replace(second=0, microsecond=0), True),
        (NOW.replace(second=0, microsecond=0) - timedelta(minutes=3), False),
        (NOW.date(), True),
        (NOW.date() - timedelta(days=1), True),
        (NOW.date() - timedelta(days=2), False),
        # Without a zone it may be in any.
        (NAIVE - timedelta(seconds=1), True),
        (NAIVE + timedelta(hours=5, minutes=30), True),
        (NAIVE + timedelta(hours=5, minutes=33), False),
        (NAIVE - timedelta(days=3), False),
        ("2026-05-04 12:00:29", True),
        ("2026-05-04T12:00:29Z", True),
        ("2026-05-04", True),
        ("2025-05-04 12:00:29", False),
        ("Mon, 04 May 2026 12:00:29 GMT", True),
        ("Mon, 04 May 2026 11:00:29 GMT", False),
        (NOW.timestamp(), True),
        (int(NOW.timestamp() * 1000), True),
        (int(NOW.timestamp()) - 60, False),
        # Versions are no times.
        (7, False),
        ("7", False),
        ("v2", False),
        (None, False),
        (True, False),
    ],
)
def test_a_time_is_young_by_its_own_resolution(time: Any, young: bool) -> None:
    assert is_young(time, NOW) == young


@pytest.mark.parametrize(
    ("age", "young"),
    [(0.001, True), (0.1, False), (-5, True)],
)
def test_a_file_is_young_for_a_tick_of_its_clock(age: float, young: bool) -> None:
    changed = 1_700_000_000 * SECOND + 123_456_789
    token = file_token("signs", changed, changed + int(age * SECOND))
    assert (token != "signs") == young
    # A file system that keeps whole seconds.
    whole = 1_700_000_000 * SECOND
    assert file_token("signs", whole, whole + SECOND) != "signs"
    assert file_token("signs", whole, whole + 3 * SECOND) == "signs"


@pytest.mark.parametrize(
    ("headers", "trusted"),
    [
        ({"etag": '"1"'}, ('"1"', "")),
        ({}, ("", "")),
        # As young as the answer: the ETag may be made of the same time.
        ({"last-modified": "Mon, 04 May 2026 12:00:30 GMT"}, ("", "")),
        ({"last-modified": "Mon, 04 May 2026 12:00:29 GMT", "etag": '"1"'}, ("", "")),
        (
            {"last-modified": "Mon, 04 May 2026 11:00:00 GMT", "etag": '"1"'},
            ('"1"', "Mon, 04 May 2026 11:00:00 GMT"),
        ),
        # By the server's own clock, which is behind.
        (
            {
                "last-modified": "Mon, 04 May 2026 11:00:00 GMT",
                "date": "Mon, 04 May 2026 11:00:01 GMT",
            },
            ("", ""),
        ),
        ({"last-modified": "soon", "etag": '"1"'}, ('"1"', "soon")),
    ],
)
def test_validators_as_young_as_the_answer_are_not_trusted(
    headers: dict[str, str], trusted: tuple[str, str]
) -> None:
    assert trusted_validators(headers, NOW) == trusted


def test_the_version_of_an_object_is_marked_while_its_time_is_young() -> None:
    now = datetime.datetime.now(datetime.UTC)
    old = now - timedelta(hours=1)
    # The ETag of a store is made of the content.
    assert version_of({"size": 3, "ETag": "a", "LastModified": now}) == "3:a"
    assert version_of({"size": 3, "LastModified": old}) == f"3:{old}"
    assert version_of({"size": 3, "LastModified": now}) == f"3:{now}?"
    # sftp, smb; a web server, whose ETag may be made of the time.
    assert version_of({"size": 3, "mtime": now}) == f"3:{now}?"
    assert version_of({"size": 3, "mtime": old.timestamp()}) == f"3:{old.timestamp()}"
    header = now.strftime("%a, %d %b %Y %H:%M:%S GMT")
    assert version_of({"size": 3, "ETag": "a", "Last-Modified": header}) == "3:a?"
