"""Rows on a real Milvus Lite: writes, reads, foreign rows, aliases."""

from __future__ import annotations

import uuid

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_assets.pipeline.vectors import Multi, Sparse
from resources.errors import ConfigError, VectorError
from resources.milvus import reads as reads_module
from resources.milvus.rows import (
    EVERYTHING,
    Span,
    normalised,
    row_ids,
    source_filter,
    span_filter,
    spans,
    unknown_source_filter,
)
from resources.milvus.store import MilvusStore
from tests.support.milvus_rows import DENSE, MULTI, SPARSE, fields, foreign, scanned, vectors

FOREIGN = ["zzz", "!x", "f!", "F0", "~", 'quo"te', "it's", "back\\slash", "új", "東京", "00"]


def test_rows_are_upserted_read_and_deleted(store: MilvusStore) -> None:
    store.ensure_collection("a", DENSE)
    rows, matrix = fields(600), vectors(600)
    assert store.upsert_dense("a", rows, matrix) == [1] * 600
    ids = [f"{row.chunk_id}_dense" for row in rows]
    assert store.fingerprints("a", [*ids, "not there"]) == dict.fromkeys(ids, "a" * 32)
    assert sorted(scanned(store, "a")) == sorted(ids)
    # Upserting changed rows replaces them.
    store.upsert_dense("a", fields(600, fingerprint="b")[:10], matrix[:10])
    fingerprints = store.fingerprints("a", ids)
    assert [fingerprints[row_id][0] for row_id in ids] == ["b"] * 10 + ["a"] * 590
    assert store.copies("a", ids[:3]) == dict.fromkeys(ids[:3], 1)
    store.delete_chunks(
        "a", "dense", {row.chunk_id: 1 for row in rows[:300]} | {uuid.uuid4(): None}
    )
    assert sorted(scanned(store, "a")) == sorted(ids[300:])
    (hit, *_) = store.search("a", matrix[400], limit=3, params={"ef": 64})
    assert hit["id"] == ids[400] and hit["distance"] == pytest.approx(1, abs=1e-3)


def test_a_filter_separates_sources(store: MilvusStore) -> None:
    store.ensure_collection("a", DENSE)
    store.upsert_dense("a", fields(3, source="docs", seed=1), vectors(3))
    store.upsert_dense("a", fields(4, source="文書 2", seed=2), vectors(4))
    store.client.insert("a", foreign("x", source='any"thing'))
    assert len(scanned(store, "a", where=source_filter("docs"))) == 3
    assert len(scanned(store, "a", where=source_filter("文書 2"))) == 4
    assert scanned(store, "a", where=unknown_source_filter(["docs", "文書 2"])) == ["x"]
    assert len(scanned(store, "a", where=unknown_source_filter(["docs"]))) == 5
    assert (
        len(store.search("a", vectors(1)[0], limit=9, params={}, filter=source_filter("docs"))) == 3
    )


def test_foreign_ids_are_scanned_read_and_counted(store: MilvusStore) -> None:
    store.ensure_collection("a", DENSE)
    store.client.insert("a", [foreign(row_id) for row_id in FOREIGN])
    assert sorted(scanned(store, "a")) == sorted(FOREIGN)
    assert store.fingerprints("a", FOREIGN) == dict.fromkeys(FOREIGN, "x")
    assert store.copies("a", FOREIGN) == dict.fromkeys(FOREIGN, 1)


def test_foreign_ids_are_rewritten_and_deleted_without_touching_other_rows(
    store: MilvusStore,
) -> None:
    hostile = "x'] or id not in ['y"
    store.ensure_collection("a", DENSE)
    store.client.insert("a", [foreign(row_id) for row_id in [*FOREIGN, hostile]])
    store.rewrite("a", FOREIGN)
    assert store.vectors("a", FOREIGN, 8).keys() == set(FOREIGN)
    store.delete_ids("a", [hostile])
    assert sorted(scanned(store, "a")) == sorted(FOREIGN)
    store.delete_ids("a", FOREIGN[1:])
    assert scanned(store, "a") == FOREIGN[:1]


def test_a_full_bucket_is_split_without_losing_rows(
    store: MilvusStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.ensure_collection("a", DENSE)
    rows = fields(300)
    store.upsert_dense("a", rows, vectors(300))
    store.client.insert("a", [foreign(row_id) for row_id in FOREIGN])
    ids = [f"{row.chunk_id}_dense" for row in rows] + FOREIGN
    # With 21 rows per bucket, some of the 16 buckets are split and others are not.
    for limit, ranges in ((21, [EVERYTHING]), (12, [EVERYTHING]), (100, spans(16))):
        monkeypatch.setattr(reads_module, "BUCKET_ROWS", limit)
        scanned_ids = [row_id for span in ranges for row_id in scanned(store, "a", span)]
        assert sorted(scanned_ids) == sorted(ids), limit


def test_foreign_ids_outside_the_number_ranges_are_split_at_ids(
    store: MilvusStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.ensure_collection("a", DENSE)
    ids = [f"{start}{n:02}" for n in range(20) for start in ("zzz", "", '"', "00000000-", "é\\")]
    store.client.insert("a", [foreign(row_id) for row_id in ids])
    monkeypatch.setattr(reads_module, "BUCKET_ROWS", 4)
    assert sorted(scanned(store, "a")) == sorted(ids)
    monkeypatch.setattr(reads_module, "BUCKET_ROWS", 1)
    with pytest.raises(ConfigError, match="1 rows or more have the id"):
        scanned(store, "a")


@given(
    st.text(max_size=4) | st.text("0123456789abcdef" + "!/:`gz~", max_size=9),
    st.integers(1, 40),
    st.sets(st.integers(0, 39)),
)
def test_each_id_is_in_exactly_one_bucket_after_any_splits(
    row_id: str, count: int, split: set[int]
) -> None:
    """Evaluates the filter expressions as Milvus does, by comparing bytes."""

    def contains(span: Span) -> bool:
        data = row_id.encode("utf-8", "surrogatepass")
        for condition in filter(None, span_filter(span).split(" and ")):
            _, operator, bound = condition.split(" ")
            limit = bound.strip('"').encode()
            if not (data >= limit if operator == ">=" else data < limit):
                return False
        return True

    whole = spans(count)
    leaves = [
        part
        for number, span in enumerate(whole)
        for part in (spans(4, span) if number in split else [span])
    ]
    assert sum(contains(span) for span in leaves) == 1


def test_sparse_vectors_without_terms_take_no_row(store: MilvusStore) -> None:
    store.ensure_collection("s", SPARSE)
    rows = fields(3)
    weights = Sparse(
        np.array([0, 2, 2, 3]),
        np.array([1, 4_000_000_000, 7], np.uint32),
        np.array([0.5, 1, 2], np.float32),
    )
    assert store.upsert_sparse("s", rows, weights) == [1, 0, 1]
    assert sorted(scanned(store, "s")) == sorted(f"{rows[n].chunk_id}_sparse" for n in (0, 2))
    (hit,) = store.search(
        "s", {4_000_000_000: 1.0}, limit=5, params={}, output_fields=["vocabulary_size"]
    )
    assert hit["id"] == f"{rows[0].chunk_id}_sparse" and hit["entity"]["vocabulary_size"] == 2
    empty = Sparse(np.zeros(4, np.int64), np.zeros(0, np.uint32), np.zeros(0, np.float32))
    assert store.upsert_sparse("s", rows, empty) == [0, 0, 0]


def test_a_chunk_has_one_multi_row_per_token_and_they_are_deleted_together(
    store: MilvusStore,
) -> None:
    store.ensure_collection("m", MULTI)
    rows, tokens = fields(3), vectors(6)
    assert store.upsert_multi("m", rows, Multi(np.array([0, 2, 2, 6]), tokens)) == [2, 0, 4]
    first, empty, last = (row.chunk_id for row in rows)
    assert row_ids(first, "multi", 2) == [f"{first}_multi_00000", f"{first}_multi_00001"]
    assert sorted(scanned(store, "m")) == sorted(
        row_ids(first, "multi", 2) + row_ids(last, "multi", 4)
    )
    by_chunk = store.token_vectors("m", [str(chunk) for chunk in (first, empty, last)])
    assert {chunk: len(matrix) for chunk, matrix in by_chunk.items()} == {
        str(first): 2,
        str(last): 4,
    }
    assert by_chunk[str(first)].sum() == pytest.approx(tokens[:2].sum(), abs=1e-3)
    # Without a known number of rows, they are deleted by filter.
    store.delete_chunks("m", "multi", {last: None})
    assert sorted(scanned(store, "m")) == row_ids(first, "multi", 2)
    store.delete_chunks("m", "multi", {first: 2})
    assert scanned(store, "m") == []


def test_an_invalid_vector_is_rejected_and_its_chunk_is_named(store: MilvusStore) -> None:
    for name, layout in (("a", DENSE), ("m", MULTI), ("s", SPARSE)):
        store.ensure_collection(name, layout)
    rows = fields(4)
    for value in (np.nan, np.inf, -np.inf, 0.0):
        matrix = vectors(4)
        matrix[2] = value
        with pytest.raises(VectorError, match=str(rows[2].chunk_id)):
            store.upsert_dense("a", rows, matrix)
        # The last three tokens belong to the fourth chunk.
        with pytest.raises(VectorError, match=str(rows[3].chunk_id)):
            store.upsert_multi("m", rows, Multi(np.array([0, 1, 1, 1, 4]), matrix))
        if value != 0:
            values = np.array([1, 1, value], np.float32)
            weights = Sparse(np.array([0, 0, 2, 3, 3]), np.arange(3, dtype=np.uint32), values)
            with pytest.raises(VectorError, match=str(rows[2].chunk_id)):
                store.upsert_sparse("s", rows, weights)
    # The valid rows of the batch are not written either.
    assert all(scanned(store, name) == [] for name in "ams")


def test_vectors_with_a_norm_near_1_are_normalised() -> None:
    matrix = vectors(3)
    assert normalised(matrix, ["a", "b", "c"]) is matrix
    rounded = matrix.astype(np.float16).astype(np.float32) * 1.01
    norms = np.linalg.norm(normalised(rounded, ["a", "b", "c"]), axis=1)
    np.testing.assert_allclose(norms, 1, rtol=1e-6)


def test_a_released_collection_is_loaded_again(store: MilvusStore) -> None:
    store.ensure_collection("a", DENSE)
    rows = fields(2)
    store.upsert_dense("a", rows, vectors(2))
    ids = [f"{row.chunk_id}_dense" for row in rows]
    reads = [
        lambda: len(scanned(store, "a")),
        lambda: len(store.fingerprints("a", ids)),
        lambda: len(store.copies("a", ids)),
        lambda: len(store.search("a", vectors(1)[0], limit=2, params={})),
    ]
    for read in reads:
        store.client.release_collection("a")
        assert read() == 2


def test_an_alias_is_created_and_moved(store: MilvusStore) -> None:
    store.ensure_collection("one", DENSE)
    store.ensure_collection("two", DENSE)
    assert store.alias_target("dense") is None
    store.point_alias("dense", "one")
    store.point_alias("dense", "one")
    assert store.alias_target("dense") == "one" and store.alias_target("sparse") is None
    store.point_alias("dense", "two")
    assert store.alias_target("dense") == "two"
    store.drop_collection("one")
    assert not store.has_collection("one")
