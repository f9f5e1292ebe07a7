"""What the starts and ends of a service leave open: nothing."""

from __future__ import annotations

import asyncio
import gc
import threading

import psutil

from rag_assets.deployment import Deployment
from rag_assets.serving.options import ServeOptions
from rag_assets.serving.service import Service
from tests.support.service import awaited
from tests.support.world import World

STARTS = 100


def sessions(world: World) -> int:
    return world.one(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'rag-assets%%'"
    )


def test_starts_and_ends_leave_nothing_open(world: World) -> None:
    deployment = Deployment(world.settings)

    async def once() -> None:
        service = Service.open(deployment, ServeOptions("127.0.0.1", 0))
        try:
            await service.run(service.readiness.look)
        finally:
            await service.close()

    def opened() -> tuple[int, int]:
        gc.collect()
        return process.num_fds(), threading.active_count()

    process = psutil.Process()
    asyncio.run(once())
    before, sessions_before = opened(), sessions(world)
    for _ in range(STARTS):
        asyncio.run(once())
    awaited(lambda: sessions(world) <= sessions_before)
    # Other tests of this process may have left something that ends meanwhile.
    awaited(lambda: all(now <= then for now, then in zip(opened(), before, strict=True)))
