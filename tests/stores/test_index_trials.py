"""Index trials: the measurements are right, and every trial drops its collection, also after an error.

On Milvus Lite; also on another server (such as Milvus 2.3.5) if RAG_TEST_MILVUS_URL names one.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from rag_assets.evaluation.abandoned_trials import COMPARISON, drop_abandoned_trial, trial_owner
from rag_assets.evaluation.index_trials import K, compare, measure
from rag_assets.pipeline import progress
from rag_assets.pipeline.index_kinds import KINDS
from resources.milvus.store import MilvusStore
from resources.milvus.trials import PREFIX, TimeLimit, TrialStore, trial_name
from resources.postgres.connection import Postgres, try_session_lock

Rows = list[tuple[list[str], NDArray[np.float32]]]


@pytest.fixture(scope="module")
def rows() -> Rows:
    """Two batches of vectors around 20 centres."""
    chance = np.random.default_rng(0)
    centres = chance.standard_normal((20, 32))
    vectors = centres[chance.integers(0, 20, 1500)] + chance.standard_normal((1500, 32)) / 2
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    ids = [f"row {number}" for number in range(1500)]
    return [(ids[:900], vectors[:900]), (ids[900:], vectors[900:])]


@pytest.fixture
def queries(rows: Rows) -> NDArray[np.float32]:
    noise = np.random.default_rng(1).standard_normal((6, 32)).astype(np.float32) / 10
    vectors = rows[1][1][::100] + noise
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture
def trials(store: MilvusStore) -> Iterator[TrialStore]:
    trials = TrialStore(store.uri)
    yield trials
    trials.close()


def test_recall_is_measured_against_an_exact_search(
    rows: Rows, queries: NDArray[np.float32]
) -> None:
    """The search returns the nearest ten, the nearest five and five others, or only others."""
    ids = [chunk for chunks, _ in rows for chunk in chunks]
    scores = queries @ np.concatenate([vectors for _, vectors in rows]).T
    order = {query.tobytes(): np.argsort(-line) for query, line in zip(queries, scores)}

    def search(query: NDArray[np.float32], params: object) -> list[str]:
        assert isinstance(params, dict)
        right = params["right"]
        places = order[query.tobytes()]
        return [ids[at] for at in [*places[:right], *places[len(places) - (K - right) :]]]

    trials = measure(search, queries, [{"right": right} for right in (10, 5, 0)], rows, "three")
    assert [trial.recall for trial in trials] == [1.0, 0.5, 0.0]
    assert all(0 < trial.p50 <= trial.p95 for trial in trials)


def test_a_comparison_measures_each_kind_and_drops_its_collection(
    store: MilvusStore, trials: TrialStore, rows: Rows, queries: NDArray[np.float32]
) -> None:
    store.client.create_collection("other", dimension=4)
    kinds = [KINDS["FLAT"], KINDS["IVF_FLAT"]]
    (flat, inverted), failures = compare(trials, kinds, rows, 1500, queries, 0.9)
    assert failures == {}
    assert flat.rows == inverted.rows == 1500
    assert flat.chosen.recall == 1.0 and flat.memory_bytes == 1500 * 32 * 4
    assert inverted.chosen.recall >= 0.9
    # The first trial reads one list, the last one all lists.
    assert inverted.trials[0].recall < 1.0 == inverted.trials[-1].recall
    assert inverted.queries_per_second > 0
    assert store.collection_names() == ["other"]


def test_an_interrupted_trial_drops_its_collection(
    store: MilvusStore, trials: TrialStore, rows: Rows, queries: NDArray[np.float32]
) -> None:
    seen: list[list[str]] = []

    def interrupt(step: str, *_: object) -> None:
        if step == "queries":
            seen.append(store.collection_names())
            raise KeyboardInterrupt

    with progress.listening(interrupt), pytest.raises(KeyboardInterrupt):
        compare(trials, [KINDS["FLAT"]], rows, 1500, queries, 0.9)
    assert seen == [[f"{PREFIX}0"]]
    assert store.collection_names() == []


def test_a_trial_drops_the_collection_of_a_killed_trial(
    store: MilvusStore, trials: TrialStore
) -> None:
    store.client.create_collection(f"{PREFIX}0", dimension=4)
    with trials.trial() as name:
        assert store.collection_names() == []
        assert name.startswith(PREFIX)


def test_a_killed_trial_is_dropped_by_the_next_command_unless_one_runs(
    store: MilvusStore, postgres_url: str
) -> None:
    owner, postgres = trial_owner(postgres_url), Postgres(postgres_url)
    store.client.create_collection(trial_name(owner), dimension=4)
    store.client.create_collection(trial_name("other"), dimension=4)
    with postgres.connect(autocommit=True) as running:
        assert try_session_lock(running, COMPARISON)
        assert drop_abandoned_trial(store, postgres, owner) == []
    assert drop_abandoned_trial(store, postgres, owner) == [trial_name(owner)]
    assert drop_abandoned_trial(store, postgres, owner) == []
    assert store.collection_names() == [trial_name("other")]


def test_the_end_of_the_time_leaves_measured_kinds_and_no_collection(
    store: MilvusStore, rows: Rows, queries: NDArray[np.float32]
) -> None:
    """The second kind takes its share of the time; the third one has the remainder."""
    limit = TimeLimit(time.monotonic() + 600)
    trials, ends = TrialStore(store.uri, limit=limit), limit.ends

    def end(step: str, name: str, *_: object) -> None:
        if (step, name) == ("queries", "IVF_FLAT"):
            assert limit.ends < ends
            limit.ends = 0

    kinds = [KINDS["FLAT"], KINDS["IVF_FLAT"], KINDS["HNSW"]]
    with progress.listening(end):
        compared, failures = compare(trials, kinds, rows, 1500, queries, 0.9)
    assert [item.kind.name for item in compared] == ["FLAT", "HNSW"]
    assert failures == {"IVF_FLAT": "not measured within the time limit"}
    assert limit.ends == ends
    limit.ends = 0
    compared, failures = compare(trials, kinds, rows, 1500, queries, 0.9)
    assert compared == [] and failures.keys() == {"FLAT", "IVF_FLAT", "HNSW"}
    assert store.collection_names() == []
    trials.close()


def test_searches_of_a_trial_do_not_wait_for_earlier_writes(trials: TrialStore) -> None:
    """With Strong, each search of Milvus 2.3.5 takes 200 ms, whatever the index."""
    assert trials.search_consistency == "Bounded"


@pytest.mark.skipif(
    "RAG_TEST_MILVUS_URL" not in os.environ,
    reason="RAG_TEST_MILVUS_URL names no Milvus server; `milvus-server --data DIR` is one",
)
def test_a_server_builds_every_kind_listed_for_it(rows: Rows, queries: NDArray[np.float32]) -> None:
    trials = TrialStore(os.environ["RAG_TEST_MILVUS_URL"], owner="test")
    kinds = [kind for kind in KINDS.values() if trials.server in kind.servers and not kind.on_gpu]
    compared, failures = compare(trials, kinds, rows, 1500, queries, 0.9)
    assert failures == {}
    assert [item.kind for item in compared] == kinds
    assert all(item.chosen.recall > 0.5 for item in compared), [
        (item.kind.name, item.chosen) for item in compared
    ]
    assert not [name for name in trials.collection_names() if name.startswith(PREFIX)]
