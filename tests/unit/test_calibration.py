"""Relevance from the scores of the first stages, and the fusion that it orders. No stores."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_assets.pipeline.ranking import weighted_fusion
from rag_assets.pipeline.term_statistics import TermStatistics
from rag_assets.pipeline.vectors import Kind
from rag_assets.search.calibration import (
    CALIBRATIONS,
    SPARSE_CALIBRATION,
    Calibration,
    FirstStage,
    Judge,
    QueryTerms,
    calibration_of,
)
from rag_assets.search.fusion import FusionRule
from rag_assets.search.request import Mode
from resources.embedders.lexical import LexicalEmbedder

LEXICAL = LexicalEmbedder().identity
MINILM = {"backend": "sentence-transformers", "model": "sentence-transformers/all-MiniLM-L6-v2"}
COMBINED = {"backend": "e5", "sparse_backend": "lexical"}
E5 = CALIBRATIONS["e5"]["hybrid"]


@pytest.mark.parametrize(
    ("identity", "mode", "calibration"),
    [
        (LEXICAL, "hybrid", CALIBRATIONS["lexical"]["hybrid"]),
        (LEXICAL, "sparse", SPARSE_CALIBRATION),
        (LEXICAL, "multi", None),
        (COMBINED, "hybrid", E5),
        (COMBINED, "sparse", SPARSE_CALIBRATION),
        ({"backend": "e5"}, "dense", CALIBRATIONS["e5"]["dense"]),
        # The hybrid was measured with the sparse vectors of `lexical` only.
        ({"backend": "e5", "sparse_backend": "splade"}, "hybrid", None),
        ({"backend": "e5", "sparse_backend": "splade"}, "sparse", None),
        (MINILM, "dense", CALIBRATIONS["sentence-transformers all-MiniLM-L6-v2"]["dense"]),
        ({**MINILM, "model": "folder", "revision": "sha256:0"}, "dense", None),
        ({**MINILM, "dimensions": "128"}, "dense", None),
        ({"backend": "openai", "sparse_backend": "lexical"}, "hybrid", None),
        ({"backend": "openai", "sparse_backend": "lexical"}, "sparse", SPARSE_CALIBRATION),
        ({}, "dense", None),
    ],
)
def test_a_calibration_belongs_to_what_was_measured(
    identity: Mapping[str, str], mode: Mode, calibration: Calibration | None
) -> None:
    assert calibration_of(identity, mode) == calibration


def test_coverage_is_the_share_of_the_greatest_score_that_a_query_allows() -> None:
    embedder = LexicalEmbedder()
    texts = ["generator " * 5000, "The generator burns diesel.", "A note on comets."]
    documents = embedder.embed(texts, ["sparse"]).sparse
    queries = embedder.embed_queries(["generator"], ["sparse"]).sparse
    assert documents is not None and queries is not None
    statistics = TermStatistics.of(len(documents), documents.indices)
    weighted = embedder.weigh_queries(queries, statistics)
    terms = QueryTerms(float(weighted.values.sum()))
    coverages = []
    for start, end in zip(documents.indptr, documents.indptr[1:]):
        weights = dict(zip(documents.indices[start:end].tolist(), documents.values[start:end]))
        pairs = zip(weighted.indices.tolist(), weighted.values)
        coverages.append(terms.coverage(sum(float(w * weights.get(t, 0)) for t, w in pairs)))
    assert coverages[0] == pytest.approx(1, abs=0.01) and coverages[0] <= 1
    assert 0.4 < coverages[1] < 1 and coverages[2] == 0
    assert QueryTerms().coverage(0.0) == 0


def test_a_query_is_familiar_to_a_corpus_that_has_its_terms() -> None:
    shares = {0.0: 0, 0.25: 0, 0.5: 0.5, 0.75: 1, 1.0: 1}
    assert {share: QueryTerms(1.0, share).familiarity for share in shares} == shares


def test_terms_that_no_text_has_are_not_known() -> None:
    statistics = TermStatistics.of(2, np.array([3, 5, 5], np.uint32))
    assert statistics.known_share(np.array([1, 3, 5, 9], np.uint32)) == 0.5
    assert statistics.known_share(np.array([], np.uint32)) == 0
    assert TermStatistics.none().known_share(np.array([1], np.uint32)) == 0


SCORES = st.dictionaries(st.sampled_from("abcdefghij"), st.floats(0, 1), max_size=10)


@given(SCORES, SCORES, st.integers(1, 9))
def test_no_chunk_outside_the_candidates_is_more_relevant_than_one_of_them(
    dense: dict[str, float], sparse: dict[str, float], limit: int
) -> None:
    """So a search may stop as soon as one candidate is below the threshold."""
    judge = Judge(Calibration(-2, dense=3, sparse=4), QueryTerms(1.0, 1.0))
    every = judge.relevances(
        {"dense": FirstStage(_best(dense), True), "sparse": FirstStage(_best(sparse), True)}
    )
    some = judge.relevances(
        {
            "dense": FirstStage(_best(dense)[:limit], len(dense) <= limit),
            "sparse": FirstStage(_best(sparse)[:limit], len(sparse) <= limit),
        }
    )
    others = [relevance for chunk, relevance in every.items() if chunk not in some]
    assert max(others, default=0) <= min(some.values(), default=1) + 1e-12


def test_a_question_in_another_language_is_decided_by_the_cosine() -> None:
    """A name that question and corpus share must not outweigh the answer: its coverage is small, though the best."""
    stages: dict[Kind, FirstStage] = {
        "dense": FirstStage([("answer", 0.82), ("other", 0.74)], False),
        "sparse": FirstStage([("other", 1.2)], True),
    }
    terms = QueryTerms(weight=30.0, known=0.1)
    by_relevance = FusionRule(judge=Judge(E5, terms), terms=terms).fuse(stages)
    unmeasured = FusionRule(terms=terms).fuse(stages)
    assert [chunk for chunk, _ in by_relevance] == [chunk for chunk, _ in unmeasured]
    assert by_relevance[0][0] == "answer" and 0.3 < by_relevance[0][1] < 1
    # Scaled to its best, the sparse list decides as much as the dense one.
    lists = [stage.scored for stage in stages.values()]
    assert weighted_fusion(lists, [0.4, 0.6])[0][0] == "other"


def test_a_hybrid_of_a_model_without_lexical_terms_weighs_both_lists_equally() -> None:
    stages: dict[Kind, FirstStage] = {
        "dense": FirstStage([("a", 0.9), ("b", 0.1)], False),
        "sparse": FirstStage([("b", 7.0), ("c", 1.0)], False),
    }
    fused = FusionRule().fuse(stages)
    assert fused == weighted_fusion([stage.scored for stage in stages.values()], [0.5, 0.5])
    by_ranks = FusionRule("rrf", Judge(E5, QueryTerms())).fuse(stages)
    assert by_ranks[0] == ("b", pytest.approx(1 / 61 + 1 / 62))


def _best(scores: Mapping[str, float]) -> list[tuple[str, float]]:
    return sorted(scores.items(), key=lambda item: (-item[1], item[0]))


def test_frequent_words_of_the_right_language_do_not_come_before_an_answer_in_another() -> None:
    """A Japanese question, its answer in English, and a Japanese passage on another subject."""
    terms = QueryTerms(weight=10.0, known=1.0)
    dense = FirstStage([("answer", 0.37), ("other", 0.23)], complete=True)
    sparse = FirstStage([("other", 10 * 1.8 * 0.13)], complete=True)
    use = CALIBRATIONS["use"]["hybrid"]
    ranked = FusionRule(judge=Judge(use, terms)).fuse({"dense": dense, "sparse": sparse})
    assert [chunk for chunk, _ in ranked] == ["answer", "other"]
    # A passage with half of the question's words is before it.
    sparse = FirstStage([("other", 10 * 1.8 * 0.5)], complete=True)
    ranked = FusionRule(judge=Judge(use, terms)).fuse({"dense": dense, "sparse": sparse})
    assert [chunk for chunk, _ in ranked] == ["other", "answer"]


def test_a_chunk_with_nothing_in_common_has_no_relevance() -> None:
    judge = Judge(CALIBRATIONS["use"]["hybrid"], QueryTerms(weight=10.0))
    stages: dict[Kind, FirstStage] = {
        "dense": FirstStage([("near", 0.12), ("far", 0.05)], complete=True),
        "sparse": FirstStage([], complete=True),
    }
    relevances = judge.relevances(stages)
    assert relevances["near"] > 0.01
    assert relevances["far"] == 0
