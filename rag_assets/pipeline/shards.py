"""Shards: a source's documents in equal parts by the ranges of their ids, which are hashes. No rows are marked."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

#: Each is a partition in Dagster, and a run in its queue.
MAX_SHARDS = 256
_IDS = 2**128


@dataclass(frozen=True, slots=True)
class Shard:
    """The `number`-th of `of` parts, counted from 1."""

    number: int
    of: int

    def __str__(self) -> str:
        return f"{self.number:02}-of-{self.of:02}"

    @property
    def first(self) -> uuid.UUID:
        """The smallest id of a document of this shard."""
        return uuid.UUID(int=(self.number - 1) * _IDS // self.of)

    @property
    def last(self) -> uuid.UUID:
        """The largest one."""
        return uuid.UUID(int=self.number * _IDS // self.of - 1)


def shards_in(config: Mapping[str, Any]) -> int:
    """How many shards the configuration of a source has; 1 where plain SQL wrote what cannot be a number of shards."""
    found = config.get("shards", 1)
    return found if type(found) is int and 1 <= found <= MAX_SHARDS else 1
