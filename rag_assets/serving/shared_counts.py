"""The counts that all workers share, in a server of the Redis protocol: one script a lease.

A hash an identity: part of the minute -> units, by the server's clock. The marker tells a worker that the server lost
its counts: it was restarted, or evicted the marker.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rag_assets.serving.usage_window import PARTS, WINDOW
from resources.redis.client import RedisClient

_MARKER = "rag:limits:marker"

#: KEYS: the identity's hash, the marker. ARGV: the worker's marker, limit, units to charge whatever the limit is, units
#: that the request needs, units that it would take, width of a part in milliseconds, parts.
#: Returns the marker and, if it is the worker's: units granted, units free, and milliseconds until the request fits or,
#: if it was granted, until more is free.
_LEASE = """
local marker = redis.call('GET', KEYS[2])
local time = redis.call('TIME')
if not marker then
  marker = time[1] .. '.' .. time[2]
  redis.call('SET', KEYS[2], marker)
end
if marker ~= ARGV[1] then return {marker} end
local limit, charge, need, want = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local width, parts = tonumber(ARGV[6]), tonumber(ARGV[7])
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local part = math.floor(now / width)
local used, kept = 0, {}
local fields = redis.call('HGETALL', KEYS[1])
for i = 1, #fields, 2 do
  local of = tonumber(fields[i])
  if of < part - parts then
    redis.call('HDEL', KEYS[1], fields[i])
  else
    used = used + fields[i + 1]
    kept[#kept + 1] = {of, tonumber(fields[i + 1])}
  end
end
local granted = 0
if need > 0 and used + charge + need <= limit then
  granted = math.min(want, limit - used - charge)
end
local added = charge + granted
if added > 0 then
  redis.call('HINCRBY', KEYS[1], string.format('%d', part), added)
  redis.call('PEXPIRE', KEYS[1], width * (parts + 1))
  used = used + added
  kept[#kept + 1] = {part, added}
end
table.sort(kept, function(a, b) return a[1] < b[1] end)
local excess = granted > 0 and 1 or used + need - limit
for _, entry in ipairs(kept) do
  excess = excess - entry[2]
  if excess <= 0 then
    return {marker, granted, math.max(0, limit - used), (entry[1] + parts + 1) * width - now}
  end
end
return {marker, granted, math.max(0, limit - used), 0}
"""


@dataclass(frozen=True, slots=True)
class Lease:
    """The answer of the server. If its `marker` is not the worker's, nothing was charged or granted.

    `free`: units that nobody has. `wait`: seconds until the request fits or, if it was granted, until more is free.
    """

    marker: str
    granted: int = 0
    free: int = 0
    wait: float = 0.0


class SharedCounts:
    """Leases units of a limit. Every call returns None if the server is away."""

    def __init__(self, client: RedisClient, window: float = WINDOW) -> None:
        self.client, self._script = client, None
        self._width = int(window * 1000 / PARTS)

    async def lease(
        self, marker: str, identity: str, limit: int, *, need: int, want: int, charge: int = 0
    ) -> Lease | None:
        """Charge `charge` units whatever the limit is, then take `want` units, or fewer, but at least `need`."""
        return await self.client.run(
            lambda valkey: self._run(valkey, marker, identity, limit, charge, need, want)
        )

    async def marker(self) -> str | None:
        """Return the server's marker; it makes one if there is none."""
        lease = await self.lease("", "", 0, need=0, want=0)
        return None if lease is None else lease.marker

    async def charge(self, valkey: Any, marker: str, uses: dict[str, tuple[int, int]]) -> str:
        """Charge identity -> (units, limit). Return the server's marker: if it is another one, nothing was charged,
        or, if it changed meanwhile, not everything.
        """
        lease = await self._run(valkey, marker, "", 0)
        if lease.marker != marker or not uses:
            return lease.marker
        async with valkey.pipeline(transaction=False) as pipeline:
            for identity, (units, limit) in uses.items():
                await self._call(pipeline, marker, identity, limit, units)
            answers = await pipeline.execute()
        return next((answer[0].decode() for answer in answers if len(answer) == 1), marker)

    async def _run(self, valkey: Any, *arguments: Any) -> Lease:
        answer = await self._call(valkey, *arguments)
        if len(answer) == 1:
            return Lease(answer[0].decode())
        return Lease(answer[0].decode(), answer[1], answer[2], answer[3] / 1000)

    async def _call(
        self,
        valkey: Any,
        marker: str,
        identity: str,
        limit: int,
        charge: int = 0,
        need: int = 0,
        want: int = 0,
    ) -> Any:
        if self._script is None:
            # Sends the script again if the server has lost it.
            self._script = valkey.register_script(_LEASE)
        keys = [f"rag:limits:{identity}", _MARKER]
        arguments = [marker, limit, charge, need, want, self._width, PARTS]
        return await self._script(keys=keys, args=arguments, client=valkey)
