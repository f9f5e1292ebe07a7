"""compare_collection on real stores: it reports exactly the changes made to either side; work under way is no drift."""

from __future__ import annotations

import uuid

import pytest

from rag_assets.consistency import comparison
from rag_assets.consistency.comparison import chunk_of
from resources.milvus import reads as reads_module
from resources.milvus.rows import row_ids
from resources.milvus.store import MilvusStore
from resources.postgres.connection import Connection
from tests.support.milvus_rows import foreign
from tests.support.vector_index import CHUNKS, Index, disturbed, orphan_row


@pytest.fixture(params=["dense", "sparse", "multi"])
def index(request: pytest.FixtureRequest, connection: Connection, store: MilvusStore) -> Index:
    return Index(connection, store, request.param)


@pytest.fixture
def dense(connection: Connection, store: MilvusStore) -> Index:
    return Index(connection, store, "dense")


def test_each_class_is_reported_exactly(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    index.assert_drift()
    assert index.compare().checked == len(index.ids())
    missing, stale = index.ids(1)[-1:] + index.ids(5), index.ids(2)
    index.delete(*missing)
    index.write([index.chunks[2]], acknowledge=False, row_fingerprint="0" * 32)
    live, unknown = index.chunks[3], uuid.uuid4()
    orphaned = [
        *row_ids(unknown, index.kind, 1),
        # Ids that begin with a live chunk, but are none of its rows.
        f"{live}_other",
        f"{live}_multi_00099",
        f"{live}_multi_x",
        *("zzz", "!x", 'quo"te', "it's", "back\\slash", "東京"),
    ]
    strangers = [*row_ids(uuid.uuid4(), index.kind, 1), "of an unknown source"]
    rows = [orphan_row(index, row_id) for row_id in orphaned]
    rows += [orphan_row(index, row_id, "no such source") for row_id in strangers]
    index.store.client.insert(index.name, rows)
    expected = {"missing": missing, "stale": stale, "orphaned": [*orphaned, *strangers]}
    index.assert_drift(**expected)
    # The result is the same in many small buckets.
    monkeypatch.setattr(reads_module, "BUCKET_ROWS", 10)
    monkeypatch.setattr(comparison, "JUDGED_ROWS", 5)
    index.assert_drift(**expected)
    index.delete(*orphaned[:4], *strangers)
    index.write([index.chunks[n] for n in (1, 2, 5)], acknowledge=False)
    index.assert_drift(orphaned=orphaned[4:])


def test_a_row_inserted_again_replaces_the_first_in_milvus_lite(dense: Index) -> None:
    """So the row is right or stale there, never twice. (test_milvus_crashes tests ids that are there twice.)"""
    (row,) = dense.store.client.get(dense.name, dense.ids(0), output_fields=["*"])
    dense.store.client.insert(dense.name, [dict(row)])
    dense.assert_drift()
    dense.store.client.insert(dense.name, [dict(row) | {"row_fingerprint": "other"}])
    dense.assert_drift(stale=dense.ids(0))


def test_a_lost_collection_lacks_everything(index: Index) -> None:
    index.store.drop_collection(index.name)
    index.assert_drift(missing=index.ids())


def test_deleted_chunks_are_orphans_only_when_no_deletion_waits(index: Index) -> None:
    index.connection.execute("DELETE FROM documents WHERE id = %s", [index.documents[0]])
    index.assert_drift()
    index.connection.execute("DELETE FROM vector_deletions")
    index.assert_drift(orphaned=index.ids(0, 1, 2, 3))


def test_unacknowledged_rows_may_be_there_stale_or_missing(index: Index) -> None:
    document, chunks = index.documents[0], index.chunks[:CHUNKS]
    index.connection.execute(
        "UPDATE documents SET indexing_status = 'pending' WHERE id = %s", [document]
    )
    index.connection.execute("DELETE FROM vector_rows WHERE chunk_id = ANY(%s)", [chunks])
    index.assert_drift()
    index.write(chunks[:1], acknowledge=False, row_fingerprint="0" * 32)
    index.assert_drift()
    index.delete(*index.ids(0, 1))
    index.assert_drift()


def test_after_an_edit_the_old_rows_are_right_until_new_ones_are_acknowledged(index: Index) -> None:
    index.connection.execute(
        "UPDATE documents SET language = 'de' WHERE id = %s", [index.documents[0]]
    )
    index.assert_drift()
    index.delete(*index.ids(0))
    index.assert_drift(missing=index.ids(0))
    # The rows of a completed document must match its current columns.
    index.connection.execute("UPDATE documents SET indexing_status = 'completed'")
    index.assert_drift(missing=index.ids(0), stale=index.ids(1, 2, 3))


def test_a_row_acknowledged_after_the_scan_began_is_not_missing(dense: Index) -> None:
    dense.delete(*dense.ids(0))
    chunk = dense.chunks[0]
    dense.connection.execute(
        "UPDATE vector_rows SET acknowledged_at = now() + interval '1 minute' WHERE chunk_id = %s",
        [chunk],
    )
    dense.assert_drift()
    dense.connection.execute(
        "UPDATE vector_rows SET acknowledged_at = now() - interval '1 minute' WHERE chunk_id = %s",
        [chunk],
    )
    dense.assert_drift(missing=dense.ids(0))


@pytest.mark.parametrize(
    "misread", [lambda rows: rows[1:], lambda rows: [*rows, *rows[:1]], lambda rows: []]
)
def test_a_scan_that_misreads_is_undetermined(dense: Index, misread) -> None:
    drift = dense.compare(disturbed(dense, misread))
    assert drift.verdict == "undetermined" and sum(drift.counts.values()) == 0


def test_a_deletion_that_ends_between_two_reads_leaves_no_orphan(dense: Index) -> None:
    row_id = f"{uuid.uuid4()}_dense"
    dense.store.client.insert(dense.name, [foreign(row_id)])
    drift = dense.compare(disturbed(dense, after_first_read=lambda: dense.delete(row_id)))
    assert drift.verdict == "consistent"


def test_foreign_ids_belong_to_no_chunk() -> None:
    chunk = uuid.uuid4()
    assert chunk_of(f"{chunk}_dense") == chunk_of(f"{chunk}_multi_00001") == chunk
    assert chunk_of("zzz") != chunk_of("!x")
