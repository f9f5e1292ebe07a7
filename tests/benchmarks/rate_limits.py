"""Limits of two workers and one key, the server away meanwhile, and the cost: `python -m tests.benchmarks.rate_limits`.

`--seconds 100` `--limit 600` `--clients 8`. Two processes send as fast as they can. The server is killed at a third of
the time and started again by the workers. The most that was allowed in any minute is compared with the limit.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

from rag_assets.serving.rate_limits import RateLimits
from resources.embedded.stack import restart_valkey, start_valkey, stop
from resources.embedded.valkey import find_valkey
from resources.redis.client import RedisClient

KEY = "key:measured"


async def load(home: Path, seconds: float, limit: int, clients: int) -> dict[str, object]:
    """Send requests and return the times of the allowed ones, the errors, and the longest waits in milliseconds."""
    client = RedisClient(start_valkey(home).url, restart=partial(restart_valkey, home))
    limits = RateLimits(client, workers=2)
    allowed: list[float] = []
    waits: list[float] = []
    errors = requests = 0
    end = time.monotonic() + seconds

    async def send() -> None:
        nonlocal errors, requests
        while time.monotonic() < end:
            began = time.monotonic()
            try:
                allowance = await limits.take(KEY, limit)
            except Exception:
                errors += 1
                raise
            requests += 1
            waits.append((time.monotonic() - began) * 1000)
            if allowance.allowed:
                allowed.append(time.monotonic())
            await asyncio.sleep(0.005)

    await asyncio.gather(*(send() for _ in range(clients)), return_exceptions=True)
    await limits.close()
    await client.close()
    return {
        "allowed": allowed,
        "errors": errors,
        "requests": requests,
        "longest": sorted(waits)[-3:],
    }


def measure_sum(seconds: float, limit: int, clients: int, *, kill: bool) -> None:
    with tempfile.TemporaryDirectory(prefix="rag-limits-") as folder:
        home = Path(folder)
        start_valkey(home)
        argv = [sys.executable, "-m", "tests.benchmarks.rate_limits", "--worker", folder]
        argv += ["--seconds", str(seconds), "--limit", str(limit), "--clients", str(clients)]
        workers = [subprocess.Popen(argv, stdout=subprocess.PIPE) for _ in range(2)]
        if kill:
            time.sleep(seconds / 3)
            server = find_valkey(home)
            assert server is not None
            os.kill(server.process.pid, signal.SIGKILL)
        answers = [json.loads(worker.communicate()[0]) for worker in workers]
        stop(home)
    times = sorted(at for answer in answers for at in answer["allowed"])
    most, first = 0, 0
    for last, at in enumerate(times):
        while times[first] <= at - 60:
            first += 1
        most = max(most, last - first + 1)
    print(
        f"{'killed after a third' if kill else 'undisturbed':22} {sum(a['requests'] for a in answers):,} requests, "
        f"{len(times):,} allowed in {seconds:g} s, at most {most} of {limit} in a minute, "
        f"{sum(a['errors'] for a in answers)} errors, longest "
        f"{max(max(a['longest']) for a in answers):.1f} ms"
    )


async def measure_cost() -> None:
    """Print the processor time of a request by each way, and the rate of leases."""
    with tempfile.TemporaryDirectory(prefix="rag-limits-") as folder:
        home = Path(folder)
        url = start_valkey(home).url
        for name, lease, make in (
            ("lease of 1 %", 0.01, True),
            ("no lease", 0.0, True),
            ("memory, no server", 0.0, False),
        ):
            # On a busy machine 20 ms may pass; the cost of an answer is measured here.
            client = RedisClient(url, timeout=2) if make else None
            limits = RateLimits(client, lease=lease)
            await report(name, partial(limits.take, KEY + name, 1_000_000))
            await limits.close()
            if client is not None:
                await client.close()
        client = RedisClient(url)
        limits = RateLimits(client)
        stop(home)
        began = time.perf_counter()
        await limits.take(KEY, 1_000_000)
        print(f"{'first request, away':22} {(time.perf_counter() - began) * 1e6:8.1f} µs")
        await report("server away", partial(limits.take, KEY, 1_000_000))
        await limits.close()
        await client.close()


async def report(name: str, request: Callable[[], Awaitable[object]], number: int = 5000) -> None:
    await request()
    began, used = time.perf_counter(), time.process_time()
    for _ in range(number):
        await request()
        # As in a service, other tasks run between two requests: the one that looks whether the server is back.
        await asyncio.sleep(0)
    elapsed, used = time.perf_counter() - began, time.process_time() - used
    print(
        f"{name:22} {elapsed / number * 1e6:8.1f} µs a request, {used / number * 1e6:.1f} µs of processor"
    )


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seconds", type=float, default=100)
    options.add_argument("--limit", type=int, default=600)
    options.add_argument("--clients", type=int, default=8)
    options.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    chosen = options.parse_args()
    shape = (chosen.seconds, chosen.limit, chosen.clients)
    if chosen.worker:
        print(json.dumps(asyncio.run(load(chosen.worker, *shape))))
        return
    asyncio.run(measure_cost())
    for kill in (False, True):
        measure_sum(*shape, kill=kill)


if __name__ == "__main__":
    main()
