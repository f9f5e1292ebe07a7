"""Search results: scored chunks and their texts made hits. Pure data."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Holder:
    """A document that holds the text of a hit."""

    document_id: str
    source: str
    key: str
    title: str


@dataclass(frozen=True, slots=True)
class Hit:
    """`page`: that the chunk begins on, of a document with pages. `also_in`: further documents that hold the same text
    and meet the search's conditions, by source and key. `before`, `after`, `section`: neighbouring chunks and the one
    that opens the section, where they were asked for.
    """

    rank: int
    score: float
    chunk_id: str
    document_id: str
    title: str
    section_title: str | None
    position: int
    source: str
    key: str
    language: str | None
    content: str
    url: str | None = None
    chunk_type: str = "text"
    page: int | None = None
    also_in: tuple[Holder, ...] = ()
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    section: str | None = None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class ChunkText:
    """A chunk as PostgreSQL has it."""

    document_id: str
    title: str
    section_title: str | None
    position: int
    source: str
    key: str
    language: str | None
    content: str
    url: str | None
    chunk_type: str
    page: int | None
    text_hash: str


def assemble(
    ranked: Sequence[tuple[str, float]],
    known: Mapping[uuid.UUID, ChunkText],
    *,
    by_document: bool = False,
) -> list[Hit]:
    """Hits in the order of `ranked` (chunk id, score); chunks that are not in `known` are not there.

    Of equal texts the first is the hit. `by_document`: of a document only its best.
    """
    hits: dict[str, Hit] = {}
    documents: set[str] = set()
    for chunk, score in ranked:
        row = known.get(uuid.UUID(chunk))
        if row is None or row.text_hash in hits:
            continue
        if by_document and row.document_id in documents:
            continue
        documents.add(row.document_id)
        hits[row.text_hash] = Hit(
            len(hits) + 1,
            score,
            chunk,
            row.document_id,
            row.title,
            row.section_title,
            row.position,
            row.source,
            row.key,
            row.language,
            row.content,
            row.url,
            row.chunk_type,
            row.page,
        )
    return list(hits.values())
