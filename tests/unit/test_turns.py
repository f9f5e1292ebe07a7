"""Searches of the embedded Milvus run together, everything else alone, and neither starves."""

from __future__ import annotations

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from resources.embedded.turns import Turns


def test_searches_overlap_and_writes_are_alone() -> None:
    turns, lock = Turns(at_once=3), threading.Lock()
    searches = writes = most = 0

    def search() -> None:
        nonlocal searches, most
        with turns.together():
            with lock:
                searches += 1
                most = max(most, searches)
                assert writes == 0
            time.sleep(0.0005)
            with lock:
                searches -= 1

    def write() -> None:
        nonlocal writes
        with turns.alone():
            with lock:
                writes += 1
                assert (writes, searches) == (1, 0)
            time.sleep(0.0005)
            with lock:
                writes -= 1

    jobs = [search] * 150 + [write] * 50
    random.Random(1).shuffle(jobs)
    with ThreadPoolExecutor(12) as pool:
        for job in [pool.submit(job) for job in jobs]:
            job.result(60)
    assert most == 3


def test_an_error_ends_the_turn() -> None:
    turns = Turns(at_once=1)
    for turn in (turns.together, turns.alone) * 2:
        try:
            with turn():
                raise ValueError
        except ValueError:
            pass
    with turns.alone():
        pass


def test_a_write_is_not_held_up_by_searches_that_arrive_later() -> None:
    turns, stop, wrote = Turns(at_once=2), threading.Event(), threading.Event()

    def search() -> None:
        while not stop.is_set():
            with turns.together():
                time.sleep(0.001)

    def write() -> None:
        with turns.alone():
            wrote.set()

    with ThreadPoolExecutor(5) as pool:
        for _ in range(4):
            pool.submit(search)
        time.sleep(0.02)
        pool.submit(write)
        try:
            assert wrote.wait(60)
        finally:
            stop.set()
