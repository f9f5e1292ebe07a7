"""A model is recognised by its vectors of known texts, whatever its precision."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from rag_assets.pipeline.model_probe import (
    PROBE_TEXTS,
    Probe,
    compare,
    other_model_message,
    probes_of,
    tells_texts_apart,
)
from rag_assets.pipeline.vectors import KINDS, Embeddings, Multi, Sparse
from resources.embedders.lexical import LexicalEmbedder
from tests.support.embedders import CountingEmbedder


def probes(vectors: Embeddings) -> dict[str, Probe]:
    return probes_of(PROBE_TEXTS, vectors)


def counted() -> Embeddings:
    return CountingEmbedder().embed(PROBE_TEXTS, KINDS)


def rounded(vectors: Embeddings, dtype: str, noise: float = 0.0) -> Embeddings:
    """Return the vectors as another precision, batch or device has them."""
    rng = np.random.default_rng(7)

    def numbers(values: np.ndarray | None) -> np.ndarray:
        assert values is not None
        values = values * (1 + noise * rng.standard_normal(values.shape))
        if dtype == "bfloat16":
            bits = values.astype(np.float32).view(np.uint32) & 0xFFFF0000
            return bits.astype(np.uint32).view(np.float32)
        if dtype == "int8":
            scale = np.abs(values).max() / 127
            return (np.round(values / scale) * scale).astype(np.float32)
        return values.astype(dtype).astype(np.float32)

    assert vectors.sparse is not None and vectors.multi is not None
    return Embeddings(
        numbers(vectors.dense),
        Sparse(vectors.sparse.indptr, vectors.sparse.indices, numbers(vectors.sparse.values)),
        Multi(vectors.multi.offsets, numbers(vectors.multi.vectors)),
    )


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "int8", "float32"])
def test_rounding_is_not_another_model(dtype: str) -> None:
    comparison = compare(probes(counted()), probes(rounded(counted(), dtype, noise=0.01)), KINDS)
    assert comparison.is_same_model and comparison.texts == len(PROBE_TEXTS)


@pytest.mark.parametrize("kind", KINDS)
def test_other_vectors_of_any_kind_are_another_model(kind: str) -> None:
    present = counted()
    other = CountingEmbedder().embed([text[::-1] + "!" for text in PROBE_TEXTS], KINDS)
    changed = Embeddings(
        other.dense if kind == "dense" else present.dense,
        other.sparse if kind == "sparse" else present.sparse,
        other.multi if kind == "multi" else present.multi,
    )
    comparison = compare(probes(present), probes(changed), KINDS)
    assert not comparison.is_same_model and comparison.kind == kind
    message = other_model_message(comparison, {"backend": "openai", "model": "bge"})
    assert "'bge'" in message and "RAG_OPENAI_REVISION" in message and "--accept-model" in message


def test_other_weights_rotation_and_permutation_are_another_model() -> None:
    known = counted()
    assert known.dense is not None
    rotation, _ = np.linalg.qr(np.random.default_rng(1).standard_normal((64, 64)))
    for dense in (known.dense @ rotation, known.dense[:, ::-1], -known.dense):
        other = Embeddings(dense=dense.astype(np.float32))
        assert not compare(probes(known), probes(other), KINDS).is_same_model


def test_words_hashed_with_another_key_are_another_model() -> None:
    def hashed(key: bytes) -> Embeddings:
        dense = np.zeros((len(PROBE_TEXTS), 64), np.float32)
        for row, text in enumerate(PROBE_TEXTS):
            for word in text.lower().split():
                dense[row, hashlib.blake2b(word.encode(), key=key).digest()[0] % 64] += 1
        return Embeddings(dense=dense)

    for key in (b"one", b"two", b"three"):
        assert compare(probes(hashed(key)), probes(hashed(key)), KINDS).is_same_model
        assert not compare(probes(hashed(b"zero")), probes(hashed(key)), KINDS).is_same_model


def test_only_common_texts_and_kinds_are_compared() -> None:
    known = probes(LexicalEmbedder().embed(PROBE_TEXTS, ("dense", "sparse")))
    assert compare(known, known, KINDS).is_same_model
    assert compare(known, {}, KINDS).cosine is None and compare(known, {}, KINDS).is_same_model
    failed = probes_of(PROBE_TEXTS, Embeddings(failures=dict.fromkeys(range(3), "refused")))
    assert failed == {}
    one = {PROBE_TEXTS[0]: known[PROBE_TEXTS[0]]}
    assert compare(known, one, ("sparse",)).texts == 1


def test_one_vector_for_all_texts_tells_none_apart() -> None:
    vectors = counted()
    assert vectors.dense is not None and vectors.multi is not None
    assert tells_texts_apart(probes(vectors).values())
    # Equal up to their length; two equal ones of three, as of a model that knows one script only.
    scaled = np.outer([1, 2, 0.5], vectors.dense[0]).astype(np.float32)
    assert not tells_texts_apart(probes(Embeddings(dense=scaled)).values())
    assert tells_texts_apart(probes(Embeddings(dense=vectors.dense[[0, 1, 1]])).values())
    multi = Multi(vectors.multi.offsets, vectors.multi.vectors[[0, 0, 0]])
    assert not tells_texts_apart(probes(Embeddings(vectors.dense, multi=multi)).values())
    one = list(probes(vectors).values())[:1]
    assert tells_texts_apart(one) and tells_texts_apart([])


def test_a_vector_that_vanished_is_another_model() -> None:
    empty = Sparse(np.zeros(4, np.int64), np.zeros(0, np.uint32), np.zeros(0, np.float32))
    known, none = probes(counted()), probes(Embeddings(sparse=empty))
    assert not compare(known, none, ("sparse",)).is_same_model
    assert compare(none, none, ("sparse",)).is_same_model
