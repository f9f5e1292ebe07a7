"""Limits without a server: exact for every minute, weighted by cost, bounded in memory, and said in headers."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_assets.serving.rate_limits import Allowance, RateLimits, headers
from resources.errors import ConfigError


class Clock:
    """A clock that moves when a test moves it."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def taken(limits: RateLimits, identity: str, limit: int, cost: int = 1) -> Allowance:
    return asyncio.run(limits.take(identity, limit, cost))


@given(
    st.integers(5, 40),
    st.lists(st.tuples(st.floats(0, 20), st.integers(1, 5)), min_size=1, max_size=80),
)
def test_no_minute_has_more_than_the_limit_and_no_refused_request_waits_in_vain(
    limit: int, requests: list[tuple[float, int]]
) -> None:
    clock = Clock()
    limits, allowed = RateLimits(clock=clock), []
    for pause, cost in requests:
        clock.now += pause
        allowance = taken(limits, "key:a", limit, cost)
        if not allowance.allowed:
            clock.now += allowance.reset_seconds + 1e-6
            allowance = taken(limits, "key:a", limit, cost)
        assert allowance.allowed
        allowed.append((clock.now, cost))
        minute = sum(units for at, units in allowed if clock.now - 60 < at)
        assert minute <= limit and allowance.remaining <= limit - minute


def test_a_steady_client_gets_its_limit_but_for_one_percent() -> None:
    async def count() -> int:
        clock, allowed = Clock(), 0
        limits = RateLimits(clock=clock)
        for _ in range(6000):
            clock.now += 0.1
            allowed += (await limits.take("key:a", 600)).allowed
        return allowed

    assert 5940 <= asyncio.run(count()) <= 6000


def test_a_cost_that_no_minute_allows_is_said_and_not_to_be_tried_again() -> None:
    with pytest.raises(ConfigError, match="costs 50, more than the limit of 20 a minute"):
        taken(RateLimits(), "key:a", 20, 50)


def test_each_of_several_workers_has_its_share_and_a_larger_cost_is_allowed_alone() -> None:
    limits = RateLimits(workers=4, clock=Clock())
    assert sum(taken(limits, "key:a", 100).allowed for _ in range(100)) == 25
    assert taken(limits, "key:b", 100, 60).allowed
    assert not taken(limits, "key:b", 100, 1).allowed
    # Fewer requests than workers: one each.
    assert [taken(limits, "key:c", 2).allowed for _ in range(2)] == [True, False]


def test_many_addresses_are_forgotten_and_make_no_key_forgotten() -> None:
    limits = RateLimits(identities=100, clock=Clock())
    assert taken(limits, "key:a", 1).allowed
    for n in range(300):
        taken(limits, f"address:{n}", 1)
    assert not taken(limits, "key:a", 1).allowed
    assert not taken(limits, "address:299", 1).allowed
    assert sum(map(len, limits._uses.values())) == 101


def test_headers_state_policy_remainder_and_wait() -> None:
    used = Allowance(True, 600, 599, 11.2, "key")
    assert headers(used) == {
        "RateLimit-Policy": '"key";q=600;w=60',
        "RateLimit": '"key";r=599;t=12',
    }
    refused = Allowance(False, 100, 0, 0.3, "user")
    assert headers(used, refused) == {
        "RateLimit-Policy": '"key";q=600;w=60, "user";q=100;w=60',
        "RateLimit": '"key";r=599;t=12, "user";r=0;t=1',
        "Retry-After": "1",
    }
