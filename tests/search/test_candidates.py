"""The first stages of a hybrid run at the same time. The fake store only holds requests back or fails them."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from rag_assets.pipeline.access import AccessScope
from rag_assets.pipeline.filters import Filters
from rag_assets.pipeline.vectors import Embeddings, Kind, Multi, Sparse
from rag_assets.search.candidates import Candidates, Ranking
from rag_assets.search.fusion import FusionRule
from rag_assets.search.request import MODES, Mode
from resources.errors import StoreUnavailable
from resources.milvus.collections import ALIASES
from resources.milvus.search_request import Nearest
from resources.milvus.store import MilvusStore

CHUNK = "5b9711b0-c0af-5209-957e-99be00000000"


class FakeStore(MilvusStore):
    """Answers each search with one chunk, after `before(collection)`."""

    def __init__(self, before: Callable[[str], object]) -> None:
        super().__init__("http://nowhere")
        self.__dict__.update(before=before, client=None)

    def nearest(
        self, name: str, kind: Kind, queries: Sequence[bytes], **request: Any
    ) -> list[Nearest]:
        return [self.rows(name, **request) for _ in queries]

    def rows(self, name: str, **_: Any) -> Nearest:
        self.__dict__["before"](name)
        return [(f"{CHUNK}_{name.split('_')[0]}", 0.5)]


@pytest.fixture
def executor() -> Iterator[Executor]:
    with ThreadPoolExecutor(1) as executor:
        yield executor


QUERY = Embeddings(
    dense=np.ones((1, 2), np.float32),
    sparse=Sparse(np.array([0, 1]), np.array([7], np.uint32), np.ones(1, np.float32)),
    multi=Multi(np.array([0, 2]), np.ones((2, 2), np.float32)),
)


def hybrid(before: Callable[[str], object], executor: Executor) -> Ranking:
    candidates = Candidates(
        FakeStore(before), ALIASES, QUERY, {}, Filters(), AccessScope.owner(), executor
    )
    return candidates.rank("hybrid", 10, rule=FusionRule("rrf"), rerank=False)


def test_dense_and_sparse_candidates_are_requested_at_the_same_time(executor: Executor) -> None:
    both = threading.Barrier(2, timeout=30)
    ranking = hybrid(lambda _: both.wait(), executor)
    assert [stage.name for stage in ranking.stages] == ["dense", "sparse", "fusion"]
    assert [chunk for chunk, _ in ranking.scored] == [CHUNK]


def test_each_stage_has_its_own_duration(executor: Executor) -> None:
    seconds = {"dense_collection": 0.05, "sparse_collection": 0.3}
    started = time.perf_counter()
    dense, sparse, _ = hybrid(lambda name: time.sleep(seconds[name]), executor).stages
    elapsed = (time.perf_counter() - started) * 1000
    assert 50 <= dense.milliseconds < 300 <= sparse.milliseconds <= elapsed
    assert elapsed < dense.milliseconds + sparse.milliseconds


def test_a_request_that_gets_no_thread_is_made_in_the_own_one(executor: Executor) -> None:
    release = threading.Event()
    executor.submit(release.wait)
    threads: list[str] = []
    try:
        ranking = hybrid(lambda _: threads.append(threading.current_thread().name), executor)
    finally:
        release.set()
    assert ranking.scored and threads == [threading.current_thread().name] * 2


@pytest.mark.parametrize("kind", ["dense", "sparse"])
def test_an_error_of_either_request_is_raised(executor: Executor, kind: str) -> None:
    def fail(name: str) -> None:
        if name.startswith(kind):
            raise StoreUnavailable(f"{name} does not answer")

    with pytest.raises(StoreUnavailable, match=f"{kind}_collection does not answer"):
        hybrid(fail, executor)


@pytest.mark.parametrize("mode", MODES)
def test_every_request_has_the_condition_of_the_scope(executor: Executor, mode: Mode) -> None:
    conditions: list[str] = []

    class RecordingStore(FakeStore):
        def rows(self, name: str, **request: Any) -> Nearest:
            conditions.append(request["filter"])
            return []

    store, scope = RecordingStore(lambda _: None), AccessScope("a", frozenset({"south", "north"}))
    for filters in (Filters(), Filters(source=("north", "vault"), tags=("t",))):
        Candidates(store, ALIASES, QUERY, {}, filters, scope, executor).rank(
            mode, 10, rule=FusionRule("rrf"), rerank=False
        )
    assert set(conditions) == {
        'source in ["north", "south"]',
        'source in ["north"] and array_contains_any(tags, ["t"])',
    }


@pytest.mark.parametrize("mode", MODES)
def test_equal_scores_keep_their_order(executor: Executor, mode: Mode) -> None:
    """So pages follow one another without a gap or a repetition."""
    chunks = [f"{n:08d}-c0af-5209-957e-99be00000000" for n in range(9)]

    class ShuffledStore(FakeStore):
        def rows(self, name: str, **_: Any) -> Nearest:
            suffix = "multi_00000" if name.startswith("multi") else "dense"
            return [(f"{chunk}_{suffix}", 0.5) for chunk in random.sample(chunks, len(chunks))]

        def token_vectors(self, name: str, chunks: Sequence[str]) -> dict[str, Any]:
            shuffled = random.sample(chunks, len(chunks))
            return {chunk: np.ones((1, 2), np.float32) for chunk in shuffled}

    store = ShuffledStore(lambda _: None)
    candidates = Candidates(store, ALIASES, QUERY, {}, Filters(), AccessScope.owner(), executor)
    for _ in range(5):
        scored = candidates.rank(mode, 10, rule=FusionRule("rrf"), rerank=True).scored
        assert [chunk for chunk, _ in scored] == chunks
