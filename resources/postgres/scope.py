"""What of a source a writer works on: all of its documents, or those of one shard."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import LiteralString

from rag_assets.pipeline.shards import Shard


@dataclass(frozen=True, slots=True)
class SyncScope:
    """A source, or (with `shard`) a part of it."""

    source_id: uuid.UUID
    shard: Shard | None = None

    def parameters(self) -> dict[str, uuid.UUID | None]:
        """For queries with `in_scope` in them."""
        first, last = (self.shard.first, self.shard.last) if self.shard else (None, None)
        return {"source": self.source_id, "shard_first": first, "shard_last": last}


#: Of a query that asks for whole sources only, and has `in_scope` in it.
WHOLE = {"shard_first": None, "shard_last": None}


def in_scope(
    source: LiteralString, source_column: LiteralString, id_column: LiteralString
) -> LiteralString:
    """The rows of a part. Of a whole source PostgreSQL plans as if the second condition were not there."""
    return f"""{source_column} = {source}
      AND (%(shard_first)s::uuid IS NULL OR {id_column} BETWEEN %(shard_first)s AND %(shard_last)s)"""
