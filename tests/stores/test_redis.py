"""A real Valkey, shared by two workers: limits, leases, and the server away, suspended, killed and started again."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest

from rag_assets.serving.rate_limits import GRACE, RateLimits
from resources.embedded.stack import restart_valkey, running, start_valkey, stop
from resources.embedded.valkey import find_valkey
from resources.errors import ConfigError, StoreUnavailable
from resources.redis.client import RETRY, TIMEOUT, RedisClient
from tests.support.folders import servers_folder
from tests.support.suspension import suspended


@pytest.fixture(scope="module")
def valkey_home() -> Iterator[Path]:
    with servers_folder("rag-valkey-") as folder:
        yield folder
        stop(folder)


@pytest.fixture
def url(valkey_home: Path) -> str:
    return start_valkey(valkey_home).url


@asynccontextmanager
async def workers(
    url: str,
    restart: Callable[[], object] | None = None,
    window: float = 60.0,
    # A busy machine answers late, too, and each late answer costs a lease.
    timeout: float = 2.0,
) -> AsyncIterator[list[RateLimits]]:
    clients = [RedisClient(url, restart=restart, timeout=timeout) for _ in range(2)]
    limits = [RateLimits(client, workers=2, window=window) for client in clients]
    try:
        yield limits
    finally:
        for each, client in zip(limits, clients):
            await each.close()
            await client.close()


async def until(condition: Callable[[], object], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


async def count(limits: RateLimits, identity: str, requests: int, limit: int = 600) -> int:
    """Send requests at the same time, and return how many were allowed."""
    takes = (limits.take(identity, limit) for _ in range(requests))
    return sum(allowance.allowed for allowance in await asyncio.gather(*takes))


def in_loop(test: Callable[..., Awaitable[None]], *arguments: object) -> None:
    async def run() -> None:
        await test(*arguments)

    asyncio.run(run())


def test_two_workers_share_one_count_by_leases_and_by_cost(url: str) -> None:
    async def test() -> None:
        async with workers(url) as (one, two):
            allowed = await asyncio.gather(
                count(one, "key:shared", 700), count(two, "key:shared", 700)
            )
            assert sum(allowed) == 600
            refused = await one.take("key:shared", 600)
            assert not refused.allowed and refused.remaining == 0
            assert 55 < refused.reset_seconds <= 61
            # Six units a lease: the third request asks nobody, the second worker knows of six.
            assert (await one.take("key:lease", 600)).remaining == 599
            await one.take("key:lease", 600)
            assert (await two.take("key:lease", 600)).remaining == 593
            assert (await one.take("key:batch", 100, 50)).allowed
            assert (await two.take("key:batch", 100, 49)).allowed
            assert not (await two.take("key:batch", 100, 2)).allowed
            assert (await one.take("key:batch", 100, 1)).allowed

    in_loop(test)


def test_no_window_has_more_than_the_limit_and_the_leases(url: str) -> None:
    async def test() -> None:
        #: Before and after each request that was allowed.
        allowed: list[tuple[float, float]] = []
        limit, window, lease = 200, 0.6, 2

        async def load(limits: RateLimits, end: float) -> None:
            while time.monotonic() < end:
                asked = time.monotonic()
                if (await limits.take("key:window", limit)).allowed:
                    allowed.append((asked, time.monotonic()))
                await asyncio.sleep(0)

        async with workers(url, window=window) as (one, two):
            end = time.monotonic() + 1.4
            await asyncio.gather(load(one, end), load(two, end))
        # Those that were surely decided within one window, however long their answers took.
        most = max(
            sum(begin <= asked and told < begin + window for asked, told in allowed)
            for begin, _ in allowed
        )
        assert most <= limit + 2 * lease
        assert len(allowed) > limit

    in_loop(test)


def test_a_suspended_server_costs_one_wait_and_the_use_meanwhile_is_charged(
    url: str, valkey_home: Path
) -> None:
    async def test() -> None:
        server = find_valkey(valkey_home)
        assert server is not None
        async with workers(url) as (one, two):
            assert (await one.take("key:suspended", 600)).allowed
            assert one._client is not None
            one._client._timeout = TIMEOUT
            with suspended(server.process.pid):
                began = time.monotonic()
                # The lease has five more; the sixth request finds that the server is away.
                assert await count(one, "key:suspended", 6) == 6
                assert 0.015 < time.monotonic() - began < 10
                assert one.away is not None and "no answer in time" in one.away
                began = time.process_time()
                # Half of the limit is its share: without the server it allows no more.
                assert await count(one, "key:suspended", 1000) == 293
                assert time.process_time() - began < 1
            await until(lambda: one.away is None)
            # Nothing is free again. The lease that was given up too late is lost.
            assert await count(two, "key:suspended", 1000) == 294
            assert not (await one.take("key:suspended", 600)).allowed

    in_loop(test)


def test_a_server_killed_under_load_gives_no_error_and_no_free_pass(
    url: str, valkey_home: Path
) -> None:
    async def test() -> None:
        allowed = 0

        async def load(limits: RateLimits, end: float) -> None:
            nonlocal allowed
            while time.monotonic() < end:
                allowed += (await limits.take("key:killed", 600)).allowed
                await asyncio.sleep(0.002)

        async def kill() -> None:
            await asyncio.sleep(0.3)
            server = find_valkey(valkey_home)
            assert server is not None
            os.kill(server.process.pid, signal.SIGKILL)

        async with workers(url, restart=partial(restart_valkey, valkey_home)) as (one, two):
            end = time.monotonic() + 0.3 + 2 * RETRY + GRACE + 0.7
            await asyncio.gather(load(one, end), load(two, end), kill())
            await until(lambda: one.away is None and two.away is None)
        # A free pass would be up to 600 more.
        assert 300 < allowed <= 600 + 2 * 6
        assert running(valkey_home) != {}

    in_loop(test)


def test_a_stopped_server_is_not_started_again_by_its_clients(tmp_path: Path) -> None:
    assert start_valkey(tmp_path).started and not start_valkey(tmp_path).started
    assert stop(tmp_path) == ["valkey"] and running(tmp_path) == {}
    restart_valkey(tmp_path)
    assert running(tmp_path) == {}


def test_a_client_says_what_is_wrong(url: str) -> None:
    async def problem(url: str) -> Exception:
        client = RedisClient(url)
        assert await client.run(lambda valkey: valkey.get("a")) is None
        with pytest.raises((ConfigError, StoreUnavailable)) as caught:
            await client.check()
        assert str(caught.value) == client.away
        await client.close()
        return caught.value

    async def test() -> None:
        client = RedisClient(url)
        assert await client.run(lambda valkey: valkey.set("a", "b")) is True
        await client.run(lambda valkey: valkey.config_set("requirepass", "hush"))
        wrong = await problem(url.replace("unix://", "unix://:secret-2@"))
        missing = await problem(url)
        await client.run(lambda valkey: valkey.config_set("requirepass", ""))
        await client.close()
        for error in (wrong, missing):
            assert isinstance(error, ConfigError) and "password in RAG_REDIS_URL" in str(error)
            assert "hush" not in str(error) and "secret-2" not in str(error)
        nobody = await problem("redis://user:secret-1@127.0.0.1:1/0")
        assert isinstance(nobody, StoreUnavailable) and "secret-1" not in str(nobody)
        assert "redis://user:***@127.0.0.1:1/0 does not answer" in str(nobody)

    in_loop(test)
