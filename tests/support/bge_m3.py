"""Comparisons of the BGE-M3 embedder's vectors, and faults of its model: a hook makes the forward pass fail."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rag_assets.pipeline.vectors import Embeddings
from resources.embedders import bge_m3_model
from resources.embedders.bge_m3 import BgeM3Embedder
from tests.support.tiny_bge_m3 import MAX_LENGTH

TOLERANCE = 1e-5


def embedder_of(folder: Path, **options: Any) -> BgeM3Embedder:
    options = {"max_length": MAX_LENGTH, "device": "cpu", "precision": "fp32"} | options
    return BgeM3Embedder(str(folder), **options)


def terms(embeddings: Embeddings, i: int) -> dict[str, float]:
    """Return a sparse row in FlagEmbedding's form."""
    assert embeddings.sparse is not None
    row = slice(*embeddings.sparse.indptr[i : i + 2])
    indices = embeddings.sparse.indices[row]
    assert np.all(np.diff(indices.astype(np.int64)) > 0)
    return dict(zip(map(str, indices), embeddings.sparse.values[row].tolist(), strict=True))


def tokens_of(embeddings: Embeddings, i: int) -> np.ndarray:
    assert embeddings.multi is not None
    return embeddings.multi.vectors[slice(*embeddings.multi.offsets[i : i + 2])]


def assert_equal(actual: Embeddings, expected: Embeddings) -> None:
    """Assert equality in all three kinds; a term in only one of them is a difference."""
    assert actual.dense is not None and expected.dense is not None
    np.testing.assert_allclose(actual.dense, expected.dense, atol=TOLERANCE, rtol=0)
    for i in range(len(expected.dense)):
        assert terms(actual, i) == pytest.approx(terms(expected, i), abs=TOLERANCE)
        np.testing.assert_allclose(
            tokens_of(actual, i), tokens_of(expected, i), atol=TOLERANCE, rtol=0
        )


def assert_failed(result: Embeddings, failed: list[int], texts: list[str], expected: Embeddings):
    """Assert that the failed rows are zero or empty, and that the other rows equal `expected`."""
    assert list(result.failures) == failed
    assert result.dense is not None
    for i in failed:
        assert not result.dense[i].any() and not terms(result, i) and not len(tokens_of(result, i))
    others = [i for i in range(len(texts)) if i not in failed]
    assert expected.dense is not None
    np.testing.assert_allclose(result.dense[others], expected.dense, atol=TOLERANCE, rtol=0)
    for row, i in enumerate(others):
        assert terms(result, i) == pytest.approx(terms(expected, row), abs=TOLERANCE)
        np.testing.assert_allclose(
            tokens_of(result, i), tokens_of(expected, row), atol=TOLERANCE, rtol=0
        )


def loaded(embedder: BgeM3Embedder) -> bge_m3_model.BgeM3Model:
    """Return the loaded model that the embedder uses."""
    return bge_m3_model.load(
        embedder._source.model, embedder.identity["revision"], embedder._device, embedder._precision
    )


@contextmanager
def fault(embedder: BgeM3Embedder, effect: Callable[[Any, Any], Any]) -> Iterator[list[int]]:
    """Apply `effect(input ids, output)` to each forward pass; yield the numbers of rows of the passes."""
    model = loaded(embedder)
    rows = []

    def hook(_module: Any, inputs: Any, output: Any) -> Any:
        rows.append(len(inputs[0]["input_ids"]))
        return effect(inputs[0]["input_ids"], output)

    handle = model._module.register_forward_hook(hook)
    try:
        yield rows
    finally:
        handle.remove()


def rows_with(text: str, embedder: BgeM3Embedder) -> Callable[[Any], Any]:
    """Return a function that selects the rows of a batch with the token of a one-character text."""
    model = loaded(embedder)
    token = model._tokenizer.convert_tokens_to_ids(text)
    assert token != model._tokenizer.unk_token_id
    return lambda ids: (ids == token).any(dim=1)
