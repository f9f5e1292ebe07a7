"""An embedder in several processes: the same vectors, evenly distributed work, and recovery from a dead process.

The processes run `lexical`, which starts at once and ignores devices.
"""

from __future__ import annotations

import gc
from collections.abc import Collection, Iterator, Mapping, Sequence

import numpy as np
import psutil
import pytest

from rag_assets.pipeline.vectors import KINDS, Embeddings, Kind
from resources.embedders.devices import Devices
from resources.embedders.lexical import LexicalEmbedder
from resources.errors import ConfigError, EmbedderDied

#: The longest texts come last; then other scripts, one that fails, and one that no encoding accepts.
TEXTS = [
    *(f"text {'and more ' * n}{n}" for n in range(60)),
    "東京タワーは、日本の東京都港区にある電波塔です。",
    "يدعم الفهرس البحث الهجين في المستندات",
    "ค้นหาเอกสารภาษาไทย",
    " ",
    "half a \ud800 pair",
]


class Failing:
    """A user's own embedder that always raises: a ConfigError for the text "config", else its own error."""

    dimension = token_dimension = 8
    identity: Mapping[str, str] = {"backend": "failing"}

    def embed(self, texts: Sequence[str], kinds: Collection[Kind]) -> Embeddings:
        raise ConfigError("not this") if texts[0] == "config" else OwnError("not that")

    embed_queries = embed


class OwnError(Exception):
    def __init__(self, first: str, second: str = "") -> None: ...


def devices(spec: str = "lexical", *, spare: bool = False) -> Devices:
    model = LexicalEmbedder
    return Devices(
        spec,
        [{}, {}],
        batch_bytes=200,
        dimension=model.dimension,
        token_dimension=model.token_dimension,
        spare=spare,
    )


@pytest.fixture(autouse=True)
def processes_must_end() -> Iterator[None]:
    """The processes end with the object that started them."""
    yield
    started = processes()
    gc.collect()
    assert not psutil.wait_procs(started, timeout=10)[1]


def processes() -> list[psutil.Process]:
    return [
        child
        for child in psutil.Process().children()
        if "resources.embedders.device_worker" in child.cmdline()
    ]


def assert_same(actual: Embeddings, expected: Embeddings) -> None:
    for actual_array, expected_array in zip(arrays(actual), arrays(expected), strict=True):
        assert actual_array.dtype == expected_array.dtype
        np.testing.assert_array_equal(actual_array, expected_array)
    assert actual.failures == expected.failures
    assert (actual.tokens, actual.truncated) == (expected.tokens, expected.truncated)


def arrays(result: Embeddings) -> list[np.ndarray]:
    assert result.dense is not None and result.sparse is not None and result.multi is not None
    return [result.dense, *vars(result.sparse).values(), *vars(result.multi).values()]


def test_two_processes_return_the_vectors_of_one_and_survive_a_death(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The seed of this process is another one: vectors must not depend on it.
    monkeypatch.setenv("PYTHONHASHSEED", "1")
    expected = LexicalEmbedder().embed(TEXTS, KINDS)
    assert expected.failures
    both = devices()
    assert_same(both.embed([], KINDS), LexicalEmbedder().embed([], KINDS))
    assert_same(both.embed(TEXTS[:2], KINDS), LexicalEmbedder().embed(TEXTS[:2], KINDS))
    # A small call, such as a query, uses one process.
    assert len(processes()) == 1
    assert_same(both.embed(TEXTS, KINDS), expected)
    started = processes()
    assert len(started) == 2
    started[0].kill()
    assert_same(both.embed(TEXTS, KINDS), expected)
    assert len(processes()) == 2 and started[0] not in processes()
    assert both.embed(TEXTS, ["dense"]).sparse is None


def test_a_query_goes_to_an_idle_process_and_waits_for_none_that_is_busy() -> None:
    expected = LexicalEmbedder().embed_queries(TEXTS[:1], KINDS)
    both = devices(spare=True)
    for started in (1, 1):
        assert_same(both.embed(TEXTS[:1], KINDS, queries=True), expected)
        assert len(processes()) == started
    # As if other threads embedded documents.
    with both._devices[0].lock, both._devices[1].lock:
        assert_same(both.embed(TEXTS[:1], KINDS, queries=True), expected)
    assert len(processes()) == 2
    assert_same(both.embed(TEXTS, KINDS), LexicalEmbedder().embed(TEXTS, KINDS))
    assert len(processes()) == 3


def test_a_process_that_dies_twice_over_the_same_texts_raises_embedder_died(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RAG_FAULT", "text embedding:1")
    both = devices()
    with pytest.raises(EmbedderDied, match=r"died twice \(signal 9\) over .* texts") as error:
        both.embed(TEXTS, KINDS)
    assert error.value.transient
    monkeypatch.delenv("RAG_FAULT")
    assert both.embed(TEXTS[:1], KINDS).tokens == 2


def test_an_error_of_the_embedder_is_raised_in_the_caller() -> None:
    both = devices(f"{__name__}:Failing")
    with pytest.raises(ConfigError, match="not this"):
        both.embed(["config"], KINDS)
    started = processes()
    with pytest.raises(RuntimeError, match="OwnError"):
        both.embed(["else"], KINDS)
    assert processes() == started
