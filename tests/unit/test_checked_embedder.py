"""Answers of embedders, checked row by row: a wrong one fails its text alone."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from rag_assets.pipeline.vectors import KINDS, Embeddings, Kind, Multi, Sparse
from resources.embedders.checked import CheckedEmbedder
from resources.errors import ConfigError, EmbedderUnavailable
from tests.support.embedders import CountingEmbedder

TEXTS = [f"text number {n}" for n in range(9)]
BAD, HARMLESS = "text number 6", "harmless"
#: An answer, and the row to damage.
Damage = Callable[[Embeddings, int], Any]


def _with_dense(value: float) -> Damage:
    def damage(answer: Embeddings, row: int) -> Embeddings:
        assert answer.dense is not None
        answer.dense[row] = value
        return answer

    return damage


def _short_dense(answer: Embeddings, row: int) -> Embeddings:
    assert answer.dense is not None
    return replace(answer, dense=np.delete(answer.dense, row, 0))


def _narrow_dense(answer: Embeddings, row: int) -> Embeddings:
    assert answer.dense is not None
    return replace(answer, dense=answer.dense[:, :48])


def _objects(answer: Embeddings, row: int) -> Embeddings:
    assert answer.dense is not None
    rows = np.empty(len(answer.dense), object)
    rows[:] = list(answer.dense)
    return replace(answer, dense=rows)


def _with_weight(value: float) -> Damage:
    def damage(answer: Embeddings, row: int) -> Embeddings:
        assert answer.sparse is not None
        answer.sparse.values[row] = value
        return answer

    return damage


def _bad_layout(answer: Embeddings, row: int) -> Embeddings:
    assert answer.sparse is not None
    indptr = answer.sparse.indptr.copy()
    indptr[-1] += 1
    return replace(answer, sparse=Sparse(indptr, answer.sparse.indices, answer.sparse.values))


def _no_tokens(answer: Embeddings, row: int) -> Embeddings:
    assert answer.multi is not None
    offsets = answer.multi.offsets.copy()
    offsets[row + 1 :] -= 1
    return replace(answer, multi=Multi(offsets, np.delete(answer.multi.vectors, row, 0)))


def _bad_token(answer: Embeddings, row: int) -> Embeddings:
    assert answer.multi is not None
    answer.multi.vectors[row] = np.inf
    return answer


def _raise(answer: Embeddings, row: int) -> Embeddings:
    raise ValueError("cannot convert it")


DAMAGES: Mapping[str, Damage] = {
    "NaN": _with_dense(np.nan),
    "zeros": _with_dense(0),
    "an overflow": _with_dense(1e30),
    "a row too few": _short_dense,
    "another dimension": _narrow_dense,
    "objects": _objects,
    "no dense vectors": lambda answer, row: replace(answer, dense=None),
    "a NaN weight": _with_weight(np.nan),
    "a negative weight": _with_weight(-1),
    "offsets beyond the end": _bad_layout,
    "no token vectors": _no_tokens,
    "an infinite token vector": _bad_token,
    "an unknown failure": lambda answer, row: replace(answer, failures={99: "?"}),
    "no answer": lambda answer, row: None,
    "an exception": _raise,
}


@dataclass
class Damaging(CountingEmbedder):
    """Damages the answer for some texts, and records the texts of each call."""

    damage: Damage
    bad: Collection[str] = (BAD,)
    calls: list[list[str]] = field(default_factory=list)

    def embed(self, texts: Sequence[str], kinds: Collection[Kind]) -> Embeddings:
        self.calls.append(list(texts))
        answer = super().embed(texts, kinds)
        # From the end: a damage may remove the row.
        for row, text in reversed(list(enumerate(texts))):
            if text in self.bad:
                answer = self.damage(answer, row)
        return answer


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_text_that_is_answered_wrongly_fails_alone(damage: Damage) -> None:
    model = Damaging(damage)
    answer = CheckedEmbedder(model, HARMLESS).embed(TEXTS, KINDS)
    assert answer.failures.keys() == {6} and answer.failures[6]
    right = CountingEmbedder().embed(TEXTS, KINDS)
    others = [row for row in range(9) if row != 6]
    assert answer.dense is not None and right.dense is not None
    assert answer.sparse is not None and right.sparse is not None
    assert answer.multi is not None and right.multi is not None
    np.testing.assert_array_equal(answer.dense[others], right.dense[others])
    np.testing.assert_array_equal(np.diff(answer.sparse.indptr), [1] * 6 + [0, 1, 1])
    np.testing.assert_array_equal(answer.sparse.indices, right.sparse.indices[others])
    np.testing.assert_array_equal(np.diff(answer.multi.offsets), [1] * 6 + [0, 1, 1])
    np.testing.assert_array_equal(answer.multi.vectors, right.multi.vectors[others])
    assert model.calls.count([HARMLESS]) == 1 and [BAD] in model.calls


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
@pytest.mark.parametrize("harmless", [HARMLESS, None])
def test_a_model_that_answers_a_harmless_text_wrongly_is_at_fault(
    damage: Damage, harmless: str | None
) -> None:
    with pytest.raises((ConfigError, ValueError)):
        CheckedEmbedder(Damaging(damage, [*TEXTS, HARMLESS]), harmless).embed(TEXTS, KINDS)


def test_right_answers_are_passed_on_without_another_call() -> None:
    model = Damaging(_raise, ())
    checked = CheckedEmbedder(model, HARMLESS)
    assert checked.embed(TEXTS, KINDS).failures == {}
    assert checked.embed([], KINDS).failures == {}
    assert model.calls == [TEXTS, []]


def test_failures_of_the_model_count_if_it_embeds_any_text() -> None:
    class Failing(Damaging):
        def embed(self, texts: Sequence[str], kinds: Collection[Kind]) -> Embeddings:
            failures = {row: "refused" for row, text in enumerate(texts) if text in self.bad}
            return replace(super().embed(texts, kinds), failures=failures)

    def keep(answer: Embeddings, row: int) -> Embeddings:
        return answer

    assert CheckedEmbedder(Failing(keep), HARMLESS).embed(TEXTS, KINDS).failures == {6: "refused"}
    all_refused = CheckedEmbedder(Failing(keep, TEXTS), HARMLESS).embed(TEXTS, KINDS)
    assert len(all_refused.failures) == 9
    with pytest.raises(ConfigError, match="even for the harmless text 'harmless': refused"):
        CheckedEmbedder(Failing(keep, [*TEXTS, HARMLESS]), HARMLESS).embed(TEXTS, KINDS)


def test_an_unavailable_server_fails_no_text() -> None:
    def unavailable(answer: Embeddings, row: int) -> Embeddings:
        raise EmbedderUnavailable("no response")

    with pytest.raises(EmbedderUnavailable):
        CheckedEmbedder(Damaging(unavailable), HARMLESS).embed(TEXTS, KINDS)


def test_terms_beyond_the_vocabulary_are_wrong() -> None:
    model = Damaging(_raise, ())
    model.vocabulary = 14  # pyright: ignore[reportAttributeAccessIssue]
    answer = CheckedEmbedder(model, HARMLESS).embed(["short", "a text that is longer"], ["sparse"])
    assert answer.failures == {1: "sparse vector: expected terms below 14, found others"}
