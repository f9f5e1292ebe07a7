"""The quick form on real stores: it reports only faults that exist, and claims nothing about the other rows."""

from __future__ import annotations

import random
import uuid

import pytest

from rag_assets.consistency import quick_comparison
from rag_assets.consistency.evidence import drift_evidence
from rag_assets.consistency.quick_comparison import QuickComparison, compare_sample
from resources.milvus.store import MilvusStore
from resources.postgres.connection import Connection
from tests.support.vector_index import CHUNKS, Index, disturbed, orphan_row


@pytest.fixture(params=["dense", "sparse", "multi"])
def index(request: pytest.FixtureRequest, connection: Connection, store: MilvusStore) -> Index:
    return Index(connection, store, request.param)


@pytest.fixture
def dense(connection: Connection, store: MilvusStore) -> Index:
    return Index(connection, store, "dense")


def compare(index: Index, store: MilvusStore | None = None, seed: int = 1) -> QuickComparison:
    return compare_sample(
        index.connection,
        store or index.store,
        [index.collection],
        index.source,
        random.Random(seed),
    )


def test_nothing_found_is_not_called_consistent(index: Index) -> None:
    comparison = compare(index)
    assert (comparison.verdict, comparison.counts, comparison.uncounted) == (
        "nothing found",
        {},
        [],
    )
    assert comparison.drift.checked == comparison.claimed == len(index.ids())
    assert "consistent" not in str(comparison)


def test_all_faults_of_a_small_source_are_found(index: Index) -> None:
    orphan = f"{uuid.uuid4()}_{index.kind}"
    missing, stale = index.ids(0), index.ids(1)
    index.delete(*missing)
    index.write([index.chunks[1]], acknowledge=False, row_fingerprint="0" * 32)
    index.store.client.insert(index.name, [orphan_row(index, orphan)])
    comparison = compare(index)
    assert comparison.verdict == "drifted"
    assert (comparison.drift.missing, comparison.drift.stale) == (missing, stale)
    assert comparison.drift.orphaned == [orphan]
    classes = {"missing": missing, "stale": stale, "orphaned": [orphan]}
    assert comparison.key == {
        f"{index.name} {name} {row_id}" for name, ids in classes.items() for row_id in ids
    }


def test_a_sample_of_a_larger_source_is_compared(
    dense: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quick_comparison, "SAMPLE_ROWS", 4)
    monkeypatch.setattr(quick_comparison, "RANGE_ROWS", 2)
    dense.delete(*dense.ids(0, 5))
    found_by_count, missing = 0, set()
    for seed in range(25):
        comparison = compare(dense, seed=seed)
        assert comparison.drift.checked < len(dense.chunks)
        assert set(comparison.drift.missing) <= set(dense.ids(0, 5))
        # The count differs, whatever the sample is.
        assert comparison.verdict in ("drifted", "undetermined")
        missing |= set(comparison.drift.missing)
        found_by_count += not comparison.drift.missing and comparison.verdict == "undetermined"
    assert missing == set(dense.ids(0, 5))
    # Not every sample contains the missing rows.
    assert found_by_count


def test_a_differing_count_alone_is_undetermined(
    dense: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    stranger = orphan_row(dense, f"{uuid.uuid4()}_dense", "an unknown source")
    dense.store.client.insert(dense.name, [stranger])
    comparison = compare(dense)
    assert (comparison.verdict, comparison.drift.verdict) == ("undetermined", "consistent")
    assert comparison.inconsistency == "orphaned_chunks"
    # The other source has one row.
    rows = len(dense.chunks) + 1
    assert comparison.counts == {dense.name: (rows, rows + 1)}


def test_counts_are_not_compared_while_work_is_under_way(dense: Index) -> None:
    dense.connection.execute("DELETE FROM documents WHERE id = %s", [dense.documents[0]])
    # The outbox has not been drained.
    comparison = compare(dense)
    assert (comparison.verdict, comparison.uncounted) == ("nothing found", [dense.name])
    # One more than the outbox contains.
    dense.delete(*dense.ids(*range(CHUNKS + 1)))
    comparison = compare(dense)
    assert comparison.drift.missing == dense.ids(CHUNKS)
    # Work under way does not explain so few rows.
    assert comparison.counts


def test_contradicting_reads_are_undetermined(dense: Index) -> None:
    comparison = compare(dense, disturbed(dense, misread=lambda rows: rows[1:]))
    assert comparison.verdict == "undetermined"
    assert not any(comparison.drift.counts.values())


def test_a_lost_collection_is_drift(dense: Index) -> None:
    dense.store.drop_collection(dense.name)
    comparison = compare(dense)
    assert set(comparison.drift.missing) <= set(dense.ids())
    assert comparison.verdict == "drifted"


def test_evidence_names_the_document_of_every_row(index: Index) -> None:
    index.delete(*index.ids(0))
    dead, live = uuid.uuid4(), index.chunks[1]
    orphans = {
        f"{dead}_{index.kind}": {"document_id": str(index.documents[1])},
        # The chunk is live, but this row is not one of its rows.
        f"{live}_other": {"document_id": ""},
        'quo"te': {"document_id": "no document", "source": "elsewhere"},
    }
    index.store.client.insert(
        index.name, [orphan_row(index, row_id) | fields for row_id, fields in orphans.items()]
    )
    rows = drift_evidence(index.connection, index.store, index.collection, index.compare())
    evidence = {str(row[0]): tuple(row[1:]) for row in rows}
    reason = "of no live chunk"
    assert evidence == {
        **dict.fromkeys(index.ids(0), ("missing", "0", "acknowledged, not there")),
        f"{dead}_{index.kind}": ("orphaned", "1", reason),
        f"{live}_other": ("orphaned", "0", reason),
        'quo"te': ("orphaned", "none; it names no document of elsewhere", reason),
    }
