"""The target of a source's vectors, and the SQL conditions for the documents and chunks that do not meet it yet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import LiteralString

from rag_assets.pipeline.vectors import Kind
from resources.postgres.scope import SyncScope, in_scope


@dataclass(frozen=True, slots=True)
class Target:
    """The model and the kinds that the vectors of a source, or of a shard of it, must come from."""

    scope: SyncScope
    model: str
    kinds: tuple[Kind, ...]

    @property
    def indexed_as(self) -> str:
        return f"{self.model}:{','.join(self.kinds)}"

    def parameters(self) -> dict[str, object]:
        """Return the parameters of queries with `is_in_scope`, `is_dirty` or `is_embeddable`."""
        return {
            **self.scope.parameters(),
            "model": self.model,
            "kinds": list(self.kinds),
            "indexed_as": self.indexed_as,
        }


# The arguments of the conditions are the query's aliases of documents and document_chunks. The query's parameters are
# those of a Target.


def is_in_scope(document: LiteralString, source: LiteralString = "%(source)s") -> LiteralString:
    """SQL: whether a document belongs to the scope."""
    return in_scope(source, f"{document}.source_uuid", f"{document}.id")


def is_dirty(document: LiteralString, source: LiteralString = "%(source)s") -> LiteralString:
    """SQL: whether a document of the scope may have wrong vectors."""
    return f"""{is_in_scope(document, source)} AND ({document}.indexing_status <> 'completed'
        OR {document}.indexed_as IS DISTINCT FROM %(indexed_as)s)"""


def is_embeddable(document: LiteralString, chunk: LiteralString) -> LiteralString:
    """SQL: whether a chunk belongs to the scope, and the model did not reject its text."""
    return f"{is_in_scope(document)} AND {chunk}.embedding_status <> 'failed'"


def unfinished_documents(source: LiteralString) -> LiteralString:
    """SQL: FROM dirty documents `d` of a source that have work to do. One that never had a text has none."""
    return f"""FROM documents d WHERE {is_dirty("d", source)}
             AND (d.char_count > 0 OR EXISTS (SELECT FROM document_chunks c WHERE c.document_id = d.id))"""
