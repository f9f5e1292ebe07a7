"""Reranking of a search's first candidates by a model that reads their texts. No store here.

The candidates are fixed by the first ranking that has enough of them, which is the same for every page: so pages follow
one another, and a deeper page only adds to the tail.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from rag_assets.pipeline.hits import ChunkText
from rag_assets.pipeline.reranker import Reranker
from rag_assets.search.candidates import Scored, Stage, timed
from resources.errors import RerankerFailed


@dataclass
class Reranking:
    """The candidates of one search that are reranked: up to `size` distinct texts, confirmed by PostgreSQL.

    `is_fixed`: further rankings add none. `not_reranked`: why they keep their first order. `stage`: the reranker's
    duration and its scores.
    """

    reranker: Reranker
    size: int
    candidates: dict[str, ChunkText] = field(default_factory=dict)
    is_fixed: bool = False
    not_reranked: str | None = None
    stage: Stage = field(default_factory=lambda: Stage("rerank"))
    _ranked: int = 0

    def take(self, ranked: Scored, texts: Mapping[str, ChunkText]) -> None:
        """Choose the candidates from a ranking, unless an earlier one had enough. `texts`: the confirmed ones."""
        if self.is_fixed:
            return
        distinct: dict[str, str] = {}
        for chunk, _ in ranked:
            if chunk in texts and len(distinct) < self.size:
                distinct.setdefault(texts[chunk].text_hash, chunk)
        self.candidates = {chunk: texts[chunk] for chunk in distinct.values()}
        # A ranking by MaxSim never grows.
        self.is_fixed = len(self.candidates) >= self.size or len(ranked) <= self._ranked
        self._ranked = len(ranked)

    def order(self, query: str, ranked: Scored, offset: int) -> Scored:
        """Return the ranking with the candidates first, by the reranker's scores; the others keep their order.

        If the reranker fails, or the page begins behind the candidates, they keep their order too.
        """
        with timed("rerank") as self.stage:
            if offset >= self.size:
                self.not_reranked = (
                    f"only the first {self.size} results are (RAG_RERANKER_CANDIDATES)"
                )
            else:
                self.stage.scores = self._scored(query)
        first = dict(ranked)
        return [
            *(self.stage.scores or [(chunk, first.get(chunk, 0.0)) for chunk in self.candidates]),
            *((chunk, score) for chunk, score in ranked if chunk not in self.candidates),
        ]

    def _scored(self, query: str) -> Scored:
        texts = [text.content for text in self.candidates.values()]
        if not texts:
            return ()
        try:
            scores = self.reranker.scores(query, texts)
        except RerankerFailed as error:
            self.not_reranked = str(error)
            return ()
        # Equal scores keep their order.
        return sorted(zip(self.candidates, scores, strict=True), key=lambda scored: -scored[1])
