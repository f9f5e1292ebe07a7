"""Micro-batches: each thread gets the result that it would get alone, and a single one never waits."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from rag_assets.search.batches import Batches


@pytest.mark.parametrize("seed", range(5))
def test_each_thread_gets_its_own_result(seed: int) -> None:
    """With random keys, items and durations; an item that fails alone fails for its own thread only."""
    batches: Batches[int, tuple[str, int]] = Batches(largest=4)
    sizes: Counter[int] = Counter()
    lock = threading.Lock()

    def alone(key: str, item: int) -> tuple[str, int]:
        if item % 17 == 0:
            raise ValueError(item)
        return key, item * item

    def search(number: int) -> None:
        chance = random.Random(f"{seed} {number}")
        for _ in range(20):
            key, item = chance.choice("ab"), chance.randrange(200)

            def send(items: list[int], key: str = key) -> list[tuple[str, int]]:
                with lock:
                    sizes[len(items)] += 1
                time.sleep(0.0005)
                return [alone(key, each) for each in items]

            if item % 17 == 0:
                with pytest.raises(ValueError, match=f"^{item}$"):
                    batches.call(key, item, send)
            else:
                assert batches.call(key, item, send) == (key, item * item)

    with ThreadPoolExecutor(12) as pool:
        list(pool.map(search, range(12)))
    assert max(sizes) == 4
    assert not batches._waiting
    assert not batches._in_flight


def test_single_client_never_waits() -> None:
    batches: Batches[int, int] = Batches(wait=60)
    started = time.perf_counter()
    assert [batches.call("key", item, lambda items: items) for item in range(100)] == list(
        range(100)
    )
    assert time.perf_counter() - started < 10


def test_wait_for_others_is_bounded() -> None:
    """A call that lasts does not hold up the next one for longer than the wait."""
    batches: Batches[int, int] = Batches(wait=0.05)
    first_runs, may_end = threading.Event(), threading.Event()

    def lasting(items: list[int]) -> list[int]:
        first_runs.set()
        assert may_end.wait(60)
        return items

    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(batches.call, "key", 1, lasting)
        assert first_runs.wait(60)
        assert batches.call("key", 2, lambda items: items) == 2
        assert not first.done()
        may_end.set()
        assert first.result() == 1


def test_end_of_the_call_in_flight_ends_the_wait() -> None:
    batches: Batches[int, int] = Batches(wait=60)
    first_runs, may_end = threading.Event(), threading.Event()

    def lasting(items: list[int]) -> list[int]:
        first_runs.set()
        assert may_end.wait(60)
        return items

    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(batches.call, "key", 1, lasting)
        assert first_runs.wait(60)
        sent: list[int] = []
        others = [
            pool.submit(batches.call, "key", item, lambda items: sent.append(len(items)) or items)
            for item in (2, 3)
        ]
        while "key" not in batches._waiting or len(batches._waiting["key"].items) < 2:
            time.sleep(0.001)
        may_end.set()
        assert [first.result(), *(other.result() for other in others)] == [1, 2, 3]
        assert sent == [2]
