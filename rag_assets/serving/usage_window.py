"""What one identity used in the last minute, exact to a hundredth of it."""

from __future__ import annotations

from collections import deque

#: Seconds of the window of every limit.
WINDOW = 60.0
#: Parts of the window that are counted together. A part counts until its last moment has left the window, so that no
#: minute, wherever it begins, has more than the limit; a steady client gets up to 1 % less than it.
PARTS = 100


class UsageWindow:
    """Counts by parts of a window of `seconds`. Times are those of any one clock, in seconds."""

    __slots__ = ("_parts", "_seconds", "_total")

    def __init__(self, seconds: float = WINDOW) -> None:
        self._seconds = seconds
        self._parts: deque[list[int]] = deque()
        self._total = 0

    def add(self, units: int, now: float) -> None:
        part = self._part(now)
        if self._parts and self._parts[-1][0] >= part:
            self._parts[-1][1] += units
        else:
            self._parts.append([part, units])
            self._forget(part)
        self._total += units

    def total(self, now: float) -> int:
        """Return the units of the last minute."""
        self._forget(self._part(now))
        return self._total

    def wait(self, units: int, limit: int, now: float) -> float:
        """Return the seconds until `units` more are within the limit; 0 if they are now."""
        excess = self.total(now) + units - limit
        for part, used in self._parts:
            if excess <= 0:
                break
            excess -= used
            if excess <= 0:
                return (part + PARTS + 1) * self._seconds / PARTS - now
        return 0.0 if excess <= 0 else self._seconds

    def _part(self, now: float) -> int:
        return int(now * PARTS / self._seconds)

    def _forget(self, part: int) -> None:
        while self._parts and self._parts[0][0] < part - PARTS:
            self._total -= self._parts.popleft()[1]
