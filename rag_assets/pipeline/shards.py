"""Shards: equal parts of a source's documents, by ranges of their ids, which are hashes. No row stores its shard."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

#: Every shard is a partition in Dagster and a run in its queue.
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
        """The smallest document id of this shard."""
        return uuid.UUID(int=(self.number - 1) * _IDS // self.of)

    @property
    def last(self) -> uuid.UUID:
        """The largest document id of this shard."""
        return uuid.UUID(int=self.number * _IDS // self.of - 1)


def shards_in(config: Mapping[str, Any]) -> int:
    """Return the number of shards in a source's configuration; 1 if the number is invalid, written with plain SQL."""
    count = config.get("shards", 1)
    return count if type(count) is int and 1 <= count <= MAX_SHARDS else 1
