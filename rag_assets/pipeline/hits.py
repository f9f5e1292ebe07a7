"""Search results: hits, made of scored chunks and their texts. Data only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any

_NO_SCORES: Mapping[str, float] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Holder:
    """Another document that contains the text of a hit."""

    document_id: str
    source: str
    key: str
    title: str


@dataclass(frozen=True, slots=True)
class Hit:
    """A chunk that a search returns.

    `page`: the page of a PDF, or the slide of a presentation, on which the chunk begins. `also_in`: other documents
    with the same text that meet the search's conditions, ordered by source and key. `before`, `after`, `section`: the
    neighbouring chunks and the chunk that opens the section, if the request has `neighbours`.

    `score` orders the hits of one answer. `relevance`: the estimated probability, 0 to 1, that the chunk answers the
    query; it compares across searches, and a hybrid is ordered by it. None if the model was not measured. In a reranked
    search `score` is the `rerank_score`; hits that the reranker did not see follow with the score of the mode.
    `dense_score`, `sparse_score`: the inner products with the query. The dense one is the cosine, which compares across
    searches with one model; the sparse one grows with the query. None if the mode does not use the kind, or the chunk
    was not among its candidates.
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
    dense_score: float | None = None
    sparse_score: float | None = None
    rerank_score: float | None = None
    relevance: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the hit as data for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class ChunkText:
    """A chunk and its document, as stored in PostgreSQL. `also_in`: as of a Hit."""

    chunk_id: str
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
    also_in: tuple[Holder, ...] = ()


def assemble(
    ranked: Sequence[tuple[str, float]],
    texts: Mapping[str, ChunkText],
    *,
    dense_scores: Mapping[str, float] = _NO_SCORES,
    sparse_scores: Mapping[str, float] = _NO_SCORES,
    rerank_scores: Mapping[str, float] = _NO_SCORES,
    relevances: Mapping[str, float] = _NO_SCORES,
    by_document: bool = False,
) -> list[Hit]:
    """Return hits in the order of `ranked` (chunk id, score), without chunks that are not in `texts`.

    Of equal texts only the first becomes a hit. `by_document`: only the best chunk of each document.
    """
    hits: dict[str, Hit] = {}
    documents: set[str] = set()
    for chunk, score in ranked:
        row = texts.get(chunk)
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
            row.also_in,
            dense_score=dense_scores.get(chunk),
            sparse_score=sparse_scores.get(chunk),
            rerank_score=rerank_scores.get(chunk),
            relevance=relevances.get(chunk),
        )
    return list(hits.values())
