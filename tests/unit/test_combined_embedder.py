"""Dense vectors from one embedder and sparse ones from another: who is asked, who fails, and what identifies both."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import pytest

from rag_assets.pipeline.identity import model_fingerprint
from rag_assets.pipeline.term_statistics import TermStatistics, WeighsQueries
from rag_assets.pipeline.vectors import Embedder, Embeddings, Kind
from resources.embedders.checked import wrong_rows, wrong_shapes
from resources.embedders.combined import CombinedEmbedder, for_kinds
from resources.embedders.lexical import LexicalEmbedder
from resources.embedders.registry import create_embedder
from resources.errors import ConfigError
from tests.support.embedders import CountingEmbedder, RefusingEmbedder


class Recording(RefusingEmbedder):
    """Records the kinds of each call."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, list[Kind]]] = []

    def embed(self, texts: Sequence[str], kinds: Collection[Kind]) -> Embeddings:
        self.calls.append(("texts", list(kinds)))
        return super().embed(texts, kinds)

    def embed_queries(self, texts: Sequence[str], kinds: Collection[Kind]) -> Embeddings:
        self.calls.append(("queries", list(kinds)))
        return super().embed(texts, kinds)


def test_a_part_is_called_only_for_its_own_kinds() -> None:
    dense, sparse = Recording(), Recording()
    combined: Embedder = CombinedEmbedder(dense, sparse)
    combined.embed(["a"], ["dense", "sparse", "multi"])
    combined.embed_queries(["a"], ["sparse"])
    combined.embed_queries(["a"], ["dense"])
    assert dense.calls == [("texts", ["dense", "multi"]), ("queries", ["dense"])]
    assert sparse.calls == [("texts", ["sparse"]), ("queries", ["sparse"])]


def test_the_vectors_are_those_of_the_parts_and_a_failure_of_one_empties_both() -> None:
    combined, dense, words = (
        CombinedEmbedder(RefusingEmbedder(), LexicalEmbedder()),
        CountingEmbedder(),
        LexicalEmbedder(),
    )
    kinds: list[Kind] = ["dense", "sparse", "multi"]
    texts = ["one word", " ", "REFUSE this", "another word"]
    result = combined.embed(texts, kinds)
    assert result.failures == {1: "blank: only white space", 2: "refused by the model"}
    assert wrong_shapes(result, 4, kinds, combined) == [] and not wrong_rows(result, kinds)
    assert result.dense is not None and result.sparse is not None and result.multi is not None
    assert not result.dense[1:3].any()
    assert np.diff(result.sparse.indptr)[1:3].tolist() == [0, 0]
    assert np.diff(result.multi.offsets).tolist() == [1, 0, 0, 1]
    # The model's tokens, not those of the words, although both counted.
    assert result.tokens == len(texts)
    right = [texts[0], texts[3]]
    for part, expected in (
        (combined.embed(right, kinds), dense.embed(right, kinds)),
        (result, dense.embed(right, kinds)),
    ):
        assert part.dense is not None and part.sparse is not None
        np.testing.assert_array_equal(part.dense[[0, -1]], expected.dense)
        from_words = words.embed(right, ["sparse"]).sparse
        assert from_words is not None
        np.testing.assert_array_equal(part.sparse.indices, from_words.indices)
        np.testing.assert_array_equal(part.sparse.values, from_words.values)
    assert combined.embed([], kinds).failures == {}


def test_queries_are_weighted_only_if_the_sparse_part_weighs_them() -> None:
    words, learned = LexicalEmbedder(), CountingEmbedder()
    combined = CombinedEmbedder(CountingEmbedder(), words)
    assert isinstance(combined, WeighsQueries) and combined.vocabulary == words.vocabulary
    query = combined.embed_queries(["rare term"], ["sparse"]).sparse
    assert query is not None
    statistics = TermStatistics(9, query.indices[:1], np.array([9]))
    weighted = combined.weigh_queries(query, statistics)
    assert weighted.values[0] < query.values[0]
    other = CombinedEmbedder(CountingEmbedder(), learned)
    assert not isinstance(other, WeighsQueries) and other.vocabulary is None
    # Its weights are for vectors that are both made of words.
    assert not hasattr(combined, "fusion_weights")


def openai(**options: Any) -> Embedder:
    return create_embedder(
        "openai", base_url="http://127.0.0.1:1/v1", model="m", dimensions=8, **options
    )


def test_sparse_vectors_come_from_words_only_where_the_model_makes_none() -> None:
    # The fingerprint of earlier versions: an upgrade must embed nothing again.
    assert model_fingerprint(for_kinds(openai(), ["dense"]).identity) == "95d84501b407"
    both = for_kinds(openai(), ["dense", "sparse"])
    assert (both.dimension, both.token_dimension) == (8, 0)
    identity, words = dict(both.identity), LexicalEmbedder().identity
    assert identity.pop("sparse_backend") == "lexical" and identity["backend"] == "openai"
    assert identity.pop("sparse_version") == words["version"]
    # The model is not asked: nothing answers at its address.
    assert both.embed_queries(["a word"], ["sparse"]).failures == {}
    for embedder in (LexicalEmbedder(), CountingEmbedder()):
        assert for_kinds(embedder, ["dense", "sparse", "multi"]) is embedder


@pytest.mark.parametrize("kinds", [["sparse"], ["dense", "multi"], ["dense", "sparse", "multi"]])
def test_kinds_that_no_part_makes_are_an_error_with_the_valid_settings(kinds: list[Kind]) -> None:
    message = "dense vectors only, .* set RAG_VECTORS=dense,sparse or RAG_VECTORS=dense"
    with pytest.raises(ConfigError, match=message):
        for_kinds(openai(), kinds)
