"""Compares a collection with PostgreSQL, bucket by bucket, and judges what differs. Changes nothing.

Both sides of a bucket fit in memory: ids are uniform, so a range of keys is a bucket. While Milvus reads one,
PostgreSQL computes what it should hold, and the one before is compared: it takes about as long as reading all ids.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime, timedelta
from itertools import zip_longest

from rag_assets.partitions import partition_key
from rag_assets.pipeline.drift import Claim, Drift, judge, suspects
from rag_assets.pipeline.vectors import Kind
from resources.milvus.reads import buckets
from resources.milvus.rows import EVERYTHING, Span, of_no_source, of_source, row_ids, spans
from resources.milvus.store import MilvusStore
from resources.postgres.connection import Connection, writing
from resources.postgres.registry.sources import SourceRow, list_sources
from resources.postgres.vectors.collections import Collection
from resources.postgres.vectors.vectors import (
    claimed_rows,
    claims_in_range,
    claims_of_chunks,
    leaving_chunks,
)

#: Seconds between the clock of PostgreSQL's acknowledgement and the scan: an ack this close is not held against it.
_SETTLED_SECONDS = 1.0

#: Suspects that are judged at a time.
JUDGED_ROWS = 10_000


def compare_collection(
    connection: Connection,
    store: MilvusStore,
    collection: Collection,
    source: SourceRow,
    *,
    strict: bool = False,
) -> Drift:
    """The full comparison of one source's rows in one collection. `connection` must be in autocommit mode.

    Rows of sources that there are not are orphans of every source. `strict`: what was acknowledged until now must be
    there, even a moment ago.
    """
    if not store.has_collection(collection.name):
        lost = _expected(connection, collection, source, EVERYTHING)
        return Drift(checked=len(lost), missing=sorted(lost))
    ranges = buckets(claimed_rows(connection, collection, source.id))
    drift = _compare_once(connection, store, collection, source, ranges, strict)
    if not drift.uncounted:
        return drift
    # Rows were written since they were shown, or a scan hid some. Once more, by other ranges.
    partition = partition_key(source.name)
    epoch, _ = writing(connection, partition)
    drift = _compare_once(connection, store, collection, source, spans(len(ranges) + 1), strict)
    if drift.uncounted and writing(connection, partition) != (epoch, False):
        # Counts prove nothing while a writer works: two scans had to agree instead.
        drift.uncounted = 0
    return drift


def _compare_once(
    connection: Connection,
    store: MilvusStore,
    collection: Collection,
    source: SourceRow,
    ranges: Sequence[Span],
    strict: bool,
) -> Drift:
    name, started = collection.name, _now(connection)
    if strict:
        started += timedelta(seconds=_SETTLED_SECONDS)
    drift, shown = Drift(), 0
    suspicious: set[str] = set()
    twice: set[str] = set()
    for span, scanned in _scan_ahead(store, name, ranges, of_source(source.name)):
        expected = _expected(connection, collection, source, span)
        rows = scanned.result()
        differing, repeated = suspects(expected, rows)
        suspicious |= differing
        twice |= repeated
        shown += len({row_id for row_id, _ in rows})
        drift.checked += len(differing.union(expected))
        # Some thousands at a time: on Milvus Lite the first key of a read costs as much as all others.
        if len(suspicious) + len(twice) > JUDGED_ROWS:
            drift.add(_judge(connection, store, collection, suspicious, twice, started))
            suspicious, twice = set(), set()
    drift.add(_judge(connection, store, collection, suspicious, twice, started))
    of_nobody = of_no_source([known.name for known in list_sources(connection)])
    strays = 0
    for bucket in store.scan(name, where=of_nobody):
        ids = {row_id for row_id, _ in bucket}
        strays += len(ids)
        # A live chunk's row, whatever source it says, is judged with the source that the chunk has.
        drift.orphaned += _judge(connection, store, collection, ids, set(), started).orphaned
    if drift.verdict == "consistent" and store.count(name) != shown + strays:
        # Other sources have rows here too, or these were not all.
        drift.uncounted = abs(store.count(name, of_source(source.name)) - shown)
        drift.uncounted += abs(store.count(name, of_nobody) - strays)
    return drift


def compare_range(
    connection: Connection,
    store: MilvusStore,
    collection: Collection,
    source: SourceRow,
    span: Span,
) -> Drift:
    """The comparison of one key range."""
    started = _now(connection)
    expected = _expected(connection, collection, source, span)
    scanned = [
        row
        for bucket in store.scan(collection.name, span, of_source(source.name))
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
    started = _now(connection)
    expected = {
        row_id: fingerprint
        for chunk, fingerprint, count, _ in claims
        for row_id in row_ids(chunk, collection.kind, count)
    }
    found = store.fingerprints(collection.name, sorted(expected))
    suspicious, _ = suspects(expected, found.items())
    drift = _judge(connection, store, collection, suspicious, set(), started)
    drift.checked = len(expected)
    return drift


def _scan_ahead(
    store: MilvusStore, name: str, ranges: Sequence[Span], where: str
) -> Iterator[tuple[Span, Future[list[tuple[str, str]]]]]:
    """(range, its rows to come): Milvus reads a range while its user is at work on it, and on the one before."""

    def read(span: Span) -> list[tuple[str, str]]:
        return [row for bucket in store.scan(name, span, where) for row in bucket]

    with ThreadPoolExecutor(1) as ahead:
        coming = ahead.submit(read, ranges[0])
        for span, following in zip_longest(ranges, ranges[1:]):
            current = coming
            if following is not None:
                coming = ahead.submit(read, following)
            yield span, current


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


def _expected(
    connection: Connection, collection: Collection, source: SourceRow, span: Span
) -> dict[str, str]:
    """id -> fingerprint of the rows of a range that Milvus acknowledged."""
    return {
        row_id: fingerprint
        for chunk, fingerprint, count in claims_in_range(connection, collection, source.id, *span)
        for row_id in row_ids(chunk, collection.kind, count)
    }


def _now(connection: Connection) -> datetime:
    row = connection.execute("SELECT clock_timestamp()").fetchone()
    assert row is not None
    return row[0]
