"""Compares a collection with PostgreSQL, bucket by bucket, and judges what differs. Changes nothing.

Both sides of a bucket fit in memory: ids are uniform hexadecimal, so a prefix of them is a bucket.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from rag_assets.pipeline.drift import Claim, Drift, judge, suspects
from rag_assets.pipeline.vectors import Kind
from resources.milvus.rows import HEX, of_no_source, of_source, row_ids
from resources.milvus.store import BUCKET_ROWS, MilvusStore
from resources.postgres.connection import Connection
from resources.postgres.sources import SourceRow, list_sources
from resources.postgres.vectors import Collection, claims_in_range, claims_of_chunks, leaving_chunks

#: Seconds between the clock of PostgreSQL's acknowledgement and the scan: an ack this close is not held against it.
_SETTLED_SECONDS = 1.0


def compare_collection(
    connection: Connection, store: MilvusStore, collection: Collection, source: SourceRow
) -> Drift:
    """The full comparison of one source's rows in one collection. `connection` must be in autocommit mode.

    Rows of sources that there are not are orphans of every source.
    """
    drift = Drift()
    if not store.has_collection(collection.name):
        lost = _expected(collection.kind, claims_in_range(connection, collection, source.id, ""))
        return Drift(checked=len(lost), missing=sorted(lost))
    for prefix in _prefixes(connection, collection, source):
        drift.add(compare_bucket(connection, store, collection, source, prefix))
    started, names = _now(connection), [known.name for known in list_sources(connection)]
    for bucket in store.scan(collection.name, where=of_no_source(names)):
        strays = {row_id for row_id, _ in bucket}
        # A live chunk's row, whatever source it says, is judged with the source that the chunk has.
        drift.orphaned += _judge(connection, store, collection, strays, set(), started).orphaned
    return drift


def compare_bucket(
    connection: Connection,
    store: MilvusStore,
    collection: Collection,
    source: SourceRow,
    prefix: str,
) -> Drift:
    """The comparison of one key range."""
    started = _now(connection)
    expected = _expected(
        collection.kind, claims_in_range(connection, collection, source.id, prefix)
    )
    scanned = [
        row
        for bucket in store.scan(collection.name, prefix, of_source(source.name))
        for row in bucket
    ]
    suspicious, twice = suspects(expected, scanned)
    drift = _judge(connection, store, collection, suspicious, twice, started)
    drift.checked = len(expected.keys() | {row_id for row_id, _ in scanned})
    return drift


def compare_keys(
    connection: Connection,
    store: MilvusStore,
    collection: Collection,
    claims: Sequence[tuple[uuid.UUID, str, int, datetime]],
) -> Drift:
    """Missing and stale rows among those of some chunks, by key."""
    started, expected = _now(connection), _expected(collection.kind, claims)
    found = store.fingerprints(collection.name, sorted(expected))
    suspicious, _ = suspects(expected, found.items())
    drift = _judge(connection, store, collection, suspicious, set(), started)
    drift.checked = len(expected)
    return drift


def still_orphaned(
    connection: Connection, store: MilvusStore, collection: Collection, ids: Iterable[str]
) -> list[str]:
    """Those of `ids` that no live chunk has, by both stores' word at this moment."""
    return _judge(connection, store, collection, set(ids), set(), _now(connection)).orphaned


def _judge(
    connection: Connection,
    store: MilvusStore,
    collection: Collection,
    suspicious: set[str],
    twice: set[str],
    started: datetime,
) -> Drift:
    if not suspicious and not twice:
        return Drift()
    found = store.fingerprints(collection.name, sorted(suspicious))
    copies = store.copies(collection.name, sorted(twice))
    # Read after Milvus: what changed meanwhile is seen here.
    chunks = sorted({chunk_of(row_id) for row_id in suspicious})
    claims = claims_of_chunks(connection, collection, chunks)
    leaving = leaving_chunks(connection, collection.kind, chunks)
    drift = judge(
        suspicious,
        twice,
        found,
        copies,
        {
            row_id: _claim(row_id, collection.kind, claims, leaving, started)
            for row_id in suspicious
        },
    )
    # What PostgreSQL had deleted and Milvus confirmed between the two reads is gone by now; what was made again since
    # has a live chunk. (Deleted, drained, made again, written, deleted and drained between these reads, milliseconds
    # apart, would still be named; a repair holds the writer, so there it cannot be.)
    there = store.fingerprints(collection.name, drift.orphaned)
    chunks = sorted({chunk_of(row_id) for row_id in there})
    claims = claims_of_chunks(connection, collection, chunks)
    leaving = leaving_chunks(connection, collection.kind, chunks)
    dead = {row_id: _claim(row_id, collection.kind, claims, leaving, started) for row_id in there}
    drift.orphaned = [
        row_id
        for row_id in drift.orphaned
        if row_id in dead and not dead[row_id].live and not dead[row_id].leaving
    ]
    return drift


def _claim(
    row_id: str,
    kind: Kind,
    claims: Mapping[uuid.UUID, tuple[str | None, int, datetime | None]],
    leaving: set[uuid.UUID],
    started: datetime,
) -> Claim:
    chunk = chunk_of(row_id)
    if chunk not in claims:
        return Claim(None, live=False, leaving=chunk in leaving)
    fingerprint, rows, acknowledged = claims[chunk]
    if fingerprint is not None:
        known = rows > 0 and row_id in row_ids(chunk, kind, rows)
    else:  # it may hold rows all the same, of multi-vectors it is not known how many
        known = (
            row_id.startswith(f"{chunk}_{kind}") if kind == "multi" else row_id == f"{chunk}_{kind}"
        )
    if not known:
        return Claim(None, live=False, leaving=chunk in leaving)  # no row of this chunk has this id
    settled = (
        acknowledged is not None and (started - acknowledged).total_seconds() > _SETTLED_SECONDS
    )
    return Claim(fingerprint, settled=settled, leaving=chunk in leaving)


def chunk_of(row_id: str) -> uuid.UUID:
    """The chunk that a row belongs to, by its id. A foreign id gets a UUID that no chunk has."""
    try:
        return uuid.UUID(row_id.split("_", 1)[0])
    except ValueError:
        return uuid.uuid5(uuid.NAMESPACE_OID, row_id)


def _expected(kind: Kind, claims: Iterable[tuple[uuid.UUID, str, int, datetime]]) -> dict[str, str]:
    return {
        row_id: fingerprint
        for chunk, fingerprint, count, _ in claims
        for row_id in row_ids(chunk, kind, count)
    }


def _prefixes(connection: Connection, collection: Collection, source: SourceRow) -> list[str]:
    """So many hexadecimal digits that a bucket holds fewer than BUCKET_ROWS rows; no digit: one bucket."""
    row = connection.execute(
        """SELECT coalesce(sum(r.row_count), 0) FROM documents d JOIN document_chunks c ON c.document_id = d.id
           JOIN vector_rows r ON r.collection = %s AND r.chunk_id = c.id WHERE d.source_uuid = %s""",
        [collection.name, source.id],
    ).fetchone()
    assert row is not None
    prefixes = [""]
    while row[0] / len(prefixes) > BUCKET_ROWS * 0.8:
        prefixes = [prefix + digit for prefix in prefixes for digit in HEX]
    return prefixes


def _now(connection: Connection) -> datetime:
    row = connection.execute("SELECT clock_timestamp()").fetchone()
    assert row is not None
    return row[0]
