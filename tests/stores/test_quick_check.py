"""The quick form on real stores: what it finds is there, what it cannot know it does not say."""

from __future__ import annotations

import random
import uuid

import pytest

from rag_assets.checks import quick
from rag_assets.checks.quick import QuickLook, look
from rag_assets.consistency.evidence import evidence
from resources.milvus.store import MilvusStore
from resources.postgres.connection import Connection
from tests.stores.test_consistency import CHUNKS, Index, disturbed, row_of_nobody


@pytest.fixture(params=["dense", "sparse", "multi"])
def index(request: pytest.FixtureRequest, connection: Connection, store: MilvusStore) -> Index:
    return Index(connection, store, request.param)


@pytest.fixture
def dense(connection: Connection, store: MilvusStore) -> Index:
    return Index(connection, store, "dense")


def looked(index: Index, store: MilvusStore | None = None, seed: int = 1) -> QuickLook:
    return look(
        index.connection,
        store or index.store,
        [index.collection],
        index.source,
        random.Random(seed),
    )


def test_nothing_found_is_not_consistent(index: Index) -> None:
    found = looked(index)
    assert (found.verdict, found.counts, found.uncounted) == ("nothing found", {}, [])
    assert found.drift.checked == found.claimed == len(index.ids())
    assert "consistent" not in str(found)


def test_what_is_wrong_in_a_small_source_is_all_found(index: Index) -> None:
    orphan = f"{uuid.uuid4()}_{index.kind}"
    missing, stale = index.ids(0), index.ids(1)
    index.delete(*missing)
    index.write([index.chunks[1]], acknowledge=False, row_fingerprint="0" * 32)
    index.store.client.insert(index.name, [row_of_nobody(index, orphan)])
    found = looked(index)
    assert found.verdict == "drifted"
    assert (found.drift.missing, found.drift.stale) == (missing, stale)
    assert found.drift.orphaned == [orphan]


def test_of_a_larger_source_a_sample_is_looked_at(
    dense: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quick, "SAMPLE_ROWS", 4)
    monkeypatch.setattr(quick, "RANGE_ROWS", 2)
    dense.delete(*dense.ids(0, 5))
    counted, found = 0, set()
    for seed in range(60):
        one = looked(dense, seed=seed)
        assert one.drift.checked < len(dense.chunks)
        assert set(one.drift.missing) <= set(dense.ids(0, 5))  # and nothing that is not so
        assert one.verdict in (
            "drifted",
            "undetermined",
        )  # the count differs whatever the sample is
        found |= set(one.drift.missing)
        counted += not one.drift.missing and one.verdict == "undetermined"
    assert found == set(dense.ids(0, 5))
    assert counted  # not every sample holds them


def test_a_count_that_differs_is_only_undetermined(
    dense: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    stranger = row_of_nobody(dense, f"{uuid.uuid4()}_dense", "a source that there is not")
    dense.store.client.insert(dense.name, [stranger])
    found = looked(dense)
    assert (found.verdict, found.drift.verdict) == ("undetermined", "consistent")
    rows = len(dense.chunks) + 1  # and the other source's
    assert found.counts == {dense.name: (rows, rows + 1)}


def test_counts_are_not_compared_while_work_is_under_way(dense: Index) -> None:
    dense.connection.execute("DELETE FROM documents WHERE id = %s", [dense.documents[0]])
    found = looked(dense)  # the outbox has not been drained
    assert (found.verdict, found.uncounted) == ("nothing found", [dense.name])
    dense.delete(*dense.ids(*range(CHUNKS + 1)))  # one more than the outbox says
    found = looked(dense)
    assert found.drift.missing == dense.ids(CHUNKS)
    assert found.counts  # so few it cannot be


def test_reads_that_contradict_each_other_are_undetermined(dense: Index) -> None:
    found = looked(dense, disturbed(dense, misread=lambda rows: rows[1:]))  # pyright: ignore[reportArgumentType]
    assert found.verdict == "undetermined"
    assert not any(found.drift.counts.values())


def test_a_lost_collection_is_drift(dense: Index) -> None:
    dense.store.drop_collection(dense.name)
    assert set(looked(dense).drift.missing) <= set(dense.ids())
    assert looked(dense).verdict == "drifted"


def test_evidence_names_the_document_of_every_row(index: Index) -> None:
    index.delete(*index.ids(0))
    dead, live = uuid.uuid4(), index.chunks[1]
    orphans = {
        f"{dead}_{index.kind}": {"document_id": str(index.documents[1])},
        f"{live}_other": {"document_id": ""},  # the chunk lives, this row is not its own
        'quo"te': {"document_id": "no document", "source": "elsewhere"},
    }
    index.store.client.insert(
        index.name, [row_of_nobody(index, row_id) | says for row_id, says in orphans.items()]
    )
    rows = evidence(index.connection, index.store, index.collection, index.compare())
    named = {str(row[0]): (row[1], row[2], row[4]) for row in rows}
    nobody = "no live chunk has this id"
    assert named == {
        **dict.fromkeys(index.ids(0), ("missing", "0", "Milvus acknowledged it and lacks it")),
        f"{dead}_{index.kind}": ("orphaned", "1", nobody),
        f"{live}_other": ("orphaned", "0", nobody),
        'quo"te': ("orphaned", "none; the row says no document of source elsewhere", nobody),
    }
