"""compare_collection on real stores: what is done to either side is reported exactly; work under way is not drift."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from rag_assets.consistency import comparison
from rag_assets.consistency.comparison import chunk_of, compare_collection
from rag_assets.pipeline.drift import DRIFT_CLASSES, Drift
from rag_assets.pipeline.vectors import Kind, Multi, Sparse
from resources.milvus import reads as reads_module
from resources.milvus.collections import Layout
from resources.milvus.rows import EVERYTHING, RowFields, Span, row_ids
from resources.milvus.store import MilvusStore
from resources.postgres.connection import Connection
from resources.postgres.registry.sources import SourceRow
from resources.postgres.vectors.collections import Collection, register_collection
from resources.postgres.vectors.vectors import FINGERPRINT
from tests.support.milvus_rows import DENSE, MULTI, SPARSE, foreign, vectors
from tests.support.rows import (
    chunks_of,
    collection_of,
    new_acknowledgement,
    new_document,
    new_source,
)

LAYOUTS: dict[Kind, Layout] = {"dense": DENSE, "sparse": SPARSE, "multi": MULTI}
TOKENS = 3
DOCUMENTS, CHUNKS = 6, 4


@dataclass
class Index:
    """Two sources of which one is compared, indexed and acknowledged in both stores."""

    connection: Connection
    store: MilvusStore
    kind: Kind
    collection: Collection = field(init=False)
    source: SourceRow = field(init=False)
    documents: list[uuid.UUID] = field(default_factory=list)
    chunks: list[uuid.UUID] = field(default_factory=list)

    def __post_init__(self) -> None:
        name = collection_of(self.kind).name
        self.collection = collection_of(
            self.kind, self.store.ensure_collection(name, LAYOUTS[self.kind])
        )
        register_collection(self.connection, self.collection)
        self.source, other = new_source(self.connection), new_source(self.connection, "other")
        for number in range(DOCUMENTS):
            texts = [f"text {number} {n}" for n in range(CHUNKS)]
            self.documents.append(new_document(self.connection, self.source, str(number), texts))
        self.chunks = [
            c for document in self.documents for c in chunks_of(self.connection, document)
        ]
        self.write(self.chunks)
        self.write(
            chunks_of(self.connection, new_document(self.connection, other, "x", ["text 0 0"]))
        )

    @property
    def name(self) -> str:
        return self.collection.name

    def ids(self, *numbers: int) -> list[str]:
        """The row ids of some chunks; of all without a number."""
        chosen = [self.chunks[n] for n in numbers] if numbers else self.chunks
        return [row_id for chunk in chosen for row_id in row_ids(chunk, self.kind, TOKENS)]

    def rows(self, chunks: Sequence[uuid.UUID]) -> list[RowFields]:
        found = self.connection.execute(
            f"""SELECT c.id, {FINGERPRINT}, d.id, d.source_type, s.name, d.language, c.position, 0,
                  c.chunk_type, d.author, d.category, d.filter_tags
                FROM document_chunks c JOIN documents d ON d.id = c.document_id JOIN sources s ON s.id = d.source_uuid
                WHERE c.id = ANY(%(chunks)s)""",  # pyright: ignore[reportArgumentType, reportCallIssue]
            {"model": self.collection.model, "chunks": list(chunks)},
        ).fetchall()
        return [RowFields(*row) for row in found]

    def write(
        self, chunks: Sequence[uuid.UUID], *, acknowledge: bool = True, **changes: Any
    ) -> None:
        """Upserts the chunks as PostgreSQL has them now; `changes` alter what the rows say."""
        rows = [RowFields(**{name: changes.get(name, getattr(row, name)) for name in RowFields.__slots__})
                for row in self.rows(chunks)]  # fmt: skip
        count = len(rows)
        if self.kind == "dense":
            counts = self.store.upsert_dense(self.name, rows, vectors(count))
        elif self.kind == "sparse":
            ones = Sparse(
                np.arange(count + 1), np.arange(count, dtype=np.uint32), np.ones(count, np.float32)
            )
            counts = self.store.upsert_sparse(self.name, rows, ones)
        else:
            tokens = Multi(np.arange(count + 1) * TOKENS, vectors(count * TOKENS))
            counts = self.store.upsert_multi(self.name, rows, tokens)
        if acknowledge:
            for row, n in zip(rows, counts):
                self.connection.execute(
                    "DELETE FROM vector_rows WHERE chunk_id = %s", [row.chunk_id]
                )
                new_acknowledgement(
                    self.connection, self.name, row.chunk_id, row.row_fingerprint, n
                )

    def delete(self, *ids: str) -> None:
        self.store.client.delete(self.name, ids=list(ids))

    def compare(self, store: MilvusStore | None = None) -> Drift:
        return compare_collection(
            self.connection, store or self.store, self.collection, self.source
        )

    def assert_drift(self, **classes: Sequence[str]) -> None:
        drift = self.compare()
        found = {name: sorted(getattr(drift, name)) for name in DRIFT_CLASSES}
        assert found == {name: sorted(classes.get(name, [])) for name in DRIFT_CLASSES}
        assert drift.contradictions == []
        assert drift.verdict == ("drifted" if classes else "consistent")


@pytest.fixture(params=["dense", "sparse", "multi"])
def index(request: pytest.FixtureRequest, connection: Connection, store: MilvusStore) -> Index:
    return Index(connection, store, request.param)


@pytest.fixture
def dense(connection: Connection, store: MilvusStore) -> Index:
    return Index(connection, store, "dense")


def row_of_nobody(index: Index, row_id: str, source: str = "docs") -> dict[str, Any]:
    row = foreign(row_id, source)
    if index.kind == "sparse":
        row |= {"vector": {1: 1.0}, "vocabulary_size": 1}
    if index.kind == "multi":
        row |= {"chunk_id": "", "token_count": 1, "token_positions": [0]}
    return row


def test_each_class_is_reported_exactly(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    index.assert_drift()
    assert index.compare().checked == len(index.ids())
    missing, stale = index.ids(1)[-1:] + index.ids(5), index.ids(2)
    index.delete(*missing)
    index.write([index.chunks[2]], acknowledge=False, row_fingerprint="0" * 32)
    live, unknown = index.chunks[3], uuid.uuid4()
    orphaned = [
        *row_ids(unknown, index.kind, 1),
        f"{live}_other",  # a live chunk has no such row
        f"{live}_multi_00099",
        f"{live}_multi_x",
        *("zzz", "!x", 'quo"te', "it's", "back\\slash", "東京"),
    ]
    strangers = [*row_ids(uuid.uuid4(), index.kind, 1), "of an unknown source"]
    rows = [row_of_nobody(index, row_id) for row_id in orphaned]
    rows += [row_of_nobody(index, row_id, "no such source") for row_id in strangers]
    index.store.client.insert(index.name, rows)
    expected = {"missing": missing, "stale": stale, "orphaned": [*orphaned, *strangers]}
    index.assert_drift(**expected)
    # The same in many small buckets.
    monkeypatch.setattr(reads_module, "BUCKET_ROWS", 10)
    monkeypatch.setattr(comparison, "JUDGED_ROWS", 5)
    index.assert_drift(**expected)
    index.delete(*orphaned[:4], *strangers)
    index.write([index.chunks[n] for n in (1, 2, 5)], acknowledge=False)
    index.assert_drift(orphaned=orphaned[4:])


def test_a_row_inserted_again_replaces_the_first_in_milvus_lite(dense: Index) -> None:
    """So it is right or stale there, but never two rows (those are tested in test_milvus_crashes)."""
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


def test_what_is_not_acknowledged_is_not_claimed(index: Index) -> None:
    document, chunks = index.documents[0], index.chunks[:CHUNKS]
    index.connection.execute(
        "UPDATE documents SET indexing_status = 'pending' WHERE id = %s", [document]
    )
    index.connection.execute("DELETE FROM vector_rows WHERE chunk_id = ANY(%s)", [chunks])
    index.assert_drift()  # Milvus may hold them
    index.write(chunks[:1], acknowledge=False, row_fingerprint="0" * 32)
    index.assert_drift()  # or others
    index.delete(*index.ids(0, 1))
    index.assert_drift()  # or none


def test_an_edit_claims_the_old_rows_until_the_new_ones_are_acknowledged(index: Index) -> None:
    index.connection.execute(
        "UPDATE documents SET language = 'de' WHERE id = %s", [index.documents[0]]
    )
    index.assert_drift()
    index.delete(*index.ids(0))
    index.assert_drift(missing=index.ids(0))
    # A document that is said to be complete must have the rows that it says now.
    index.connection.execute("UPDATE documents SET indexing_status = 'completed'")
    index.assert_drift(missing=index.ids(0), stale=index.ids(1, 2, 3))


def test_an_acknowledgement_newer_than_the_scan_is_not_held_against_it(dense: Index) -> None:
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


class DisturbedStore(MilvusStore):
    """A server whose scans misread, or during whose reads something happens."""

    misread: Callable[[list[tuple[str, str]]], list[tuple[str, str]]]
    after_first_read: Callable[[], object] | None

    def scan(self, name: str, span: Span = EVERYTHING, where: str = ""):
        for bucket in super().scan(name, span, where):
            yield self.misread(bucket)

    def fingerprints(self, name: str, ids: Sequence[str]) -> dict[str, str]:
        found = super().fingerprints(name, ids)
        if ids and (happens := self.after_first_read):
            object.__setattr__(self, "after_first_read", None)
            happens()
        return found


def disturbed(index: Index, misread=list, after_first_read=None) -> MilvusStore:
    store = DisturbedStore(index.store.uri)
    object.__setattr__(store, "misread", misread)
    object.__setattr__(store, "after_first_read", after_first_read)
    return store


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
