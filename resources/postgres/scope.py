"""The scope of a writer's work: all documents of a source, or those of one shard."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import LiteralString

from rag_assets.pipeline.shards import Shard


@dataclass(frozen=True, slots=True)
class SyncScope:
    """A source or, with `shard`, one shard of it."""

    source_id: uuid.UUID
    shard: Shard | None = None

    def parameters(self) -> dict[str, uuid.UUID | None]:
        """Return the parameters of a query with `in_scope("%(source)s", …)`."""
        first, last = (self.shard.first, self.shard.last) if self.shard else (None, None)
        return {"source": self.source_id, "shard_first": first, "shard_last": last}


#: The parameters of `in_scope` in a query about whole sources, which names its sources otherwise.
WHOLE_SOURCES = {"shard_first": None, "shard_last": None}


def in_scope(
    source: LiteralString, source_column: LiteralString, id_column: LiteralString
) -> LiteralString:
    """SQL: whether a row belongs to the scope. The second condition does not change the plan for a whole source."""
    return f"""{source_column} = {source}
      AND (%(shard_first)s::uuid IS NULL OR {id_column} BETWEEN %(shard_first)s AND %(shard_last)s)"""
