"""Limits of requests a minute, one count for all workers where there is a server of the Redis protocol.

A worker leases about a hundredth of a limit at a time, so that few requests ask the server. What is leased is charged:
all workers together never allow more in a minute than the limit and the leases that they had when it began. Without the
server, or while it is away, each worker limits by itself to its share of the limit, and charges what it allowed when
the server is back.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from rag_assets.serving.shared_counts import Lease, SharedCounts
from rag_assets.serving.usage_window import WINDOW, UsageWindow
from resources.errors import ConfigError
from resources.redis.client import RedisClient

#: Share of a limit that a worker leases at a time.
LEASE = 0.01
#: Identities of a kind (`key:`, `user:`, `address:`) that a worker remembers, the last ones used: 1 KB each, 10 KB for
#: one that is always busy. An attacker with more addresses is forgotten by the worker, not by the server.
IDENTITIES = 10_000
#: Seconds between two looks at the server's marker, so that an idle worker, too, charges what it used before a restart.
WATCH = 0.5
#: Seconds after such a loss in which each worker also keeps to its share: the others may not have charged theirs yet.
GRACE = 4 * WATCH
#: Seconds until a request that is refused without the server may try again: it may be back.
_UNKNOWN_WAIT = 1.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Allowance:
    """Whether a request may go on. `remaining`: units left, as this worker knows it. `reset_seconds`: until the same
    request is allowed if it was refused, else until more is available. `policy`: the kind of the identity.
    """

    allowed: bool
    limit: int
    remaining: int
    reset_seconds: float
    policy: str = "default"


def headers(*allowances: Allowance) -> dict[str, str]:
    """Return the headers of an answer to which these limits apply; `Retry-After` only if one of them refused.

    In the form of draft-ietf-httpapi-ratelimit-headers, version 10: `RateLimit-Policy: "key";q=600;w=60` and
    `RateLimit: "key";r=599;t=12`, where t is the number of seconds until more is available.
    """
    fields = {
        "RateLimit-Policy": ", ".join(
            f'"{allowance.policy}";q={allowance.limit};w={WINDOW:.0f}' for allowance in allowances
        ),
        "RateLimit": ", ".join(
            f'"{allowance.policy}";r={allowance.remaining};t={math.ceil(allowance.reset_seconds)}'
            for allowance in allowances
        ),
    }
    waits = [allowance.reset_seconds for allowance in allowances if not allowance.allowed]
    if waits:
        fields["Retry-After"] = str(max(1, math.ceil(max(waits))))
    return fields


@dataclass(slots=True)
class _Use:
    """One identity in this worker. `leased`: units that are charged and not used. `uncharged`: used, but not charged.
    `free`: units that nobody had when the server answered last, at `answered_at`. `refused_until`: before it, the
    server refuses `refused_cost` units and more.
    """

    limit: int
    window: UsageWindow
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    leased: int = 0
    leased_until: float = 0.0
    uncharged: int = 0
    free: int = 0
    answered_at: float = -math.inf
    more_at: float = 0.0
    refused_cost: int = 0
    refused_until: float = 0.0


class RateLimits:
    """Used by one event loop. `workers`: processes that share the limits; without the server each has its part."""

    def __init__(
        self,
        client: RedisClient | None = None,
        *,
        workers: int = 1,
        lease: float = LEASE,
        identities: int = IDENTITIES,
        window: float = WINDOW,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client, self._workers, self._share = client, max(1, workers), lease
        self._counts = SharedCounts(client, window) if client else None
        self._identities, self._window, self._clock = identities, window, clock
        self._uses: dict[str, OrderedDict[str, _Use]] = {}
        self._marker, self._by_share_until = "", 0.0
        self._watch: asyncio.Task[None] | None = None
        self._charging = asyncio.Lock()
        if client is not None and self._counts is not None:
            client.on_return(partial(self._charge, self._counts))

    @property
    def away(self) -> str | None:
        """Why each worker limits by itself, in one sentence, although a server is configured; else None."""
        return self._client.away if self._client else None

    async def take(self, identity: str, per_minute: int, cost: int = 1) -> Allowance:
        """Take `cost` units of the identity's limit, all or none. Raises ConfigError if no minute allows the cost."""
        if cost > per_minute:
            raise ConfigError(
                f"This request costs {cost}, more than the limit of {per_minute} a minute: divide it."
            )
        now, use = self._clock(), self._use(identity, per_minute)
        policy = identity.partition(":")[0]
        if not self._take_leased(use, cost, now):
            if self._counts is None:
                return self._take_by_share(use, cost, now, policy)
            async with use.lock:
                # The task before this one may have leased enough for both, or found that the server is away.
                if not self._take_leased(use, cost, now):
                    refused = await self._take_shared(self._counts, identity, use, cost, policy)
                    if refused is not None:
                        return refused
        left = use.leased + use.free
        return Allowance(True, use.limit, left, max(0.0, use.more_at - now), policy)

    async def close(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
            self._watch = None

    def _use(self, identity: str, limit: int) -> _Use:
        kept = self._uses.setdefault(identity.partition(":")[0], OrderedDict())
        use = kept.get(identity)
        if use is None:
            use = kept[identity] = _Use(limit, UsageWindow(self._window))
            if len(kept) > self._identities:
                kept.popitem(last=False)
        else:
            kept.move_to_end(identity)
            if use.limit != limit:
                use.limit, use.leased, use.refused_until = limit, 0, 0.0
        return use

    def _take_leased(self, use: _Use, cost: int, now: float) -> bool:
        if use.leased < cost or now >= use.leased_until:
            return False
        use.leased -= cost
        use.window.add(cost, now)
        return True

    def _take_by_share(self, use: _Use, cost: int, now: float, policy: str) -> Allowance:
        """Decide without the server: within the worker's share of the limit, and of what was free when the server
        answered last. A cost above the share is allowed alone, in a minute without other requests.
        """
        share = max(use.limit // self._workers, 1)
        used = use.window.total(now)
        room = max(0, share - used)
        is_known = now - use.answered_at < self._window
        if is_known:
            room = min(room, max(0, use.free // self._workers - use.uncharged))
        if cost > room and (used or is_known):
            wait = use.window.wait(min(cost, share), share, now) or _UNKNOWN_WAIT
            return Allowance(False, use.limit, room, wait, policy)
        use.window.add(cost, now)
        if self._counts is not None:
            use.uncharged += cost
        return Allowance(True, use.limit, max(0, room - cost), use.window.wait(1, 1, now), policy)

    async def _take_shared(
        self, counts: SharedCounts, identity: str, use: _Use, cost: int, policy: str
    ) -> Allowance | None:
        """Lease units and take the cost from them: return None if they are enough, else the decision."""
        if self._watch is None:
            self._watch = asyncio.create_task(self._watch_marker(counts))
        now = self._clock()
        if now < use.refused_until and cost >= use.refused_cost:
            return Allowance(False, use.limit, use.free, use.refused_until - now, policy)
        in_doubt = now < self._by_share_until
        if in_doubt and use.window.total(now) + cost > max(use.limit // self._workers, 1):
            return Allowance(False, use.limit, 0, self._by_share_until - now, policy)
        lease = await self._lease(counts, identity, use, cost, 0 if in_doubt else self._share)
        now = self._clock()
        if lease is None:
            return self._take_by_share(use, cost, now, policy)
        use.free, use.answered_at = lease.free, now
        if not lease.granted:
            use.refused_cost, use.refused_until = cost, now + lease.wait
            return Allowance(False, use.limit, lease.free + use.leased, lease.wait, policy)
        use.leased, use.leased_until = use.leased + lease.granted - cost, now + self._window
        use.more_at = now + lease.wait
        use.window.add(cost, now)
        return None

    async def _lease(
        self, counts: SharedCounts, identity: str, use: _Use, cost: int, share: float
    ) -> Lease | None:
        """Lease what the cost needs beyond the units that are left, and a share of the limit."""
        for _ in range(2):
            if self._clock() >= use.leased_until:
                use.leased = 0
            need, sent = cost - use.leased, self._marker
            charged, use.uncharged = use.uncharged, 0
            lease = await counts.lease(
                sent,
                identity,
                use.limit,
                need=need,
                want=max(need, int(use.limit * share)),
                charge=charged,
            )
            if lease is None and self._marker == sent:
                use.uncharged += charged
            if lease is None or lease.marker == sent:
                return lease
            if not await counts.client.run(partial(self._charge, counts)):
                return None
        return None

    async def _charge(self, counts: SharedCounts, valkey: Any) -> bool:
        """Charge all that this worker allowed and the server does not know."""
        async with self._charging:
            while True:
                uses = {
                    name: use
                    for kept in self._uses.values()
                    for name, use in kept.items()
                    if use.uncharged
                }
                sent = self._marker
                charges = {name: (use.uncharged, use.limit) for name, use in uses.items()}
                for use in uses.values():
                    use.uncharged = 0
                try:
                    found = await counts.charge(valkey, sent, charges)
                except BaseException:
                    for name, use in uses.items():
                        use.uncharged += charges[name][0]
                    raise
                if found == sent:
                    for name, use in uses.items():
                        use.free = max(0, use.free - charges[name][0])
                    return True
                self._restart(found)

    def _restart(self, marker: str) -> None:
        """Start with another marker: if there was one before, the server has lost what all workers had charged."""
        if self._marker:
            now = self._clock()
            _log.warning("The server of the rate limits lost its counts; this worker adds its own.")
            self._by_share_until = now + GRACE
            for kept in self._uses.values():
                for use in kept.values():
                    use.leased, use.refused_until = 0, 0.0
                    use.uncharged = use.window.total(now)
        self._marker = marker

    async def _watch_marker(self, counts: SharedCounts) -> None:
        while True:
            await asyncio.sleep(WATCH)
            marker = await counts.marker()
            if marker is not None and marker != self._marker:
                await counts.client.run(partial(self._charge, counts))
