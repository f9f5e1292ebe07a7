"""Which candidates are reranked, and their order. No model and no store: the scores are given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rag_assets.pipeline.hits import ChunkText
from rag_assets.search.reranking import Reranking


class GivenScores:
    """Scores texts by their number."""

    identity: Mapping[str, str] = {"backend": "given"}

    def scores(self, query: str, texts: Sequence[str]) -> list[float]:
        return [float(text.split()[-1]) for text in texts]


def text_of(chunk: str, content: str) -> ChunkText:
    return ChunkText(
        chunk, "d", "", None, 0, "docs", "key", None, content, None, "text", None, content
    )


TEXTS = {
    name: text_of(name, f"text {number}") for name, number in zip("abcdef", [1, 3, 3, 2, 2, 9])
}
RANKED = [(chunk, 1.0 - n / 10) for n, chunk in enumerate("abcdef")]


def test_each_text_is_reranked_once_and_the_others_follow() -> None:
    reranking = Reranking(GivenScores(), 3)
    # `b` is not confirmed, `e` has the text of `d`.
    reranking.take(RANKED, {chunk: TEXTS[chunk] for chunk in "acdef"})
    assert list(reranking.candidates) == ["a", "c", "d"] and reranking.is_fixed
    # A larger ranking, in which they have other places, changes nothing.
    reranking.take(RANKED[::-1], TEXTS)
    ordered = reranking.order("query", RANKED[::-1], 0)
    assert [chunk for chunk, _ in ordered] == ["c", "d", "a", "f", "e", "b"]
    assert ordered[:4] == [("c", 3.0), ("d", 2.0), ("a", 1.0), ("f", 0.5)]


def test_equal_scores_keep_their_order() -> None:
    reranking = Reranking(GivenScores(), 5)
    reranking.take(RANKED, {chunk: text_of(chunk, f"text {chunk} 7") for chunk in "abcdef"})
    assert [chunk for chunk, _ in reranking.order("query", RANKED, 0)] == list("abcdef")


def test_a_ranking_that_does_not_grow_fixes_fewer_candidates() -> None:
    reranking = Reranking(GivenScores(), 30)
    reranking.take(RANKED, TEXTS)
    assert not reranking.is_fixed
    reranking.take(RANKED, TEXTS)
    assert reranking.is_fixed and list(reranking.candidates) == ["a", "b", "d", "f"]
