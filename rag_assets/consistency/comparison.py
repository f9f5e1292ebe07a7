"""Comparison of a collection with PostgreSQL, bucket by bucket, and the judgement of differing rows. Changes nothing.

Both sides of a bucket fit in memory: ids are uniform, so a range of keys is a bucket. While Milvus reads one bucket,
PostgreSQL computes its expected rows, and the previous one is compared: it takes about as long as reading all ids.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime, timedelta
from itertools import zip_longest

from rag_assets.pipeline.drift import Claim, Drift, judge, suspects
from rag_assets.pipeline.vectors import Kind
from resources.milvus.reads import buckets
from resources.milvus.rows import (
    EVERYTHING,
    Span,
    row_ids,
    source_filter,
    spans,
    unknown_source_filter,
)
from resources.milvus.store import MilvusStore
from resources.partition_keys import partition_key
from resources.postgres.connection import Connection, server_time, writer_state
from resources.postgres.consistency.quick_check import SampledClaim
from resources.postgres.registry.sources import SourceRow, list_sources
from resources.postgres.vectors.claims import (
    Acknowledgement,
    claimed_rows,
    claims_in_range,
    claims_of_chunks,
)
from resources.postgres.vectors.collections import Collection
from resources.postgres.vectors.outbox import leaving_chunks

#: Seconds by which an acknowledgement must precede the scan before a missing row counts as drift.
_SETTLED_SECONDS = 1.0

#: Suspects per judgement.
JUDGED_ROWS = 10_000


def compare_collection(
    connection: Connection,
    store: MilvusStore,
    collection: Collection,
    source: SourceRow,
    *,
    strict: bool = False,
) -> Drift:
    """Compare all rows of one source in one collection. `connection` must be in autocommit mode.

    Rows of unknown sources count as orphans of every source. `strict`: rows acknowledged only a moment ago
    must be there too.
    """
    if not store.has_collection(collection.name):
        expected = _expected(connection, collection, source, EVERYTHING)
        return Drift(checked=len(expected), missing=sorted(expected))
    ranges = buckets(claimed_rows(connection, collection, source.id))
    drift = _compare_once(connection, store, collection, source, ranges, strict)
    if not drift.uncounted:
        return drift
    # Rows were written after the scan, or the scan hid some. Scan again, by other ranges.
    partition = partition_key(source.name)
    epoch = writer_state(connection, partition).epoch
    drift = _compare_once(connection, store, collection, source, spans(len(ranges) + 1), strict)
    if drift.uncounted and writer_state(connection, partition) != (epoch, False):
        # Counts prove nothing while a writer works; two scans found no drift.
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
    name, started = collection.name, server_time(connection)
    if strict:
        started += timedelta(seconds=_SETTLED_SECONDS)
    drift, scanned_rows = Drift(), 0
    suspicious: set[str] = set()
    repeated: set[str] = set()
    own_rows = source_filter(source.name)
    for span, scan in _scan_ahead(store, name, ranges, own_rows):
        expected = _expected(connection, collection, source, span)
        rows = scan.result()
        differing, repeated_ids = suspects(expected, rows)
        suspicious |= differing
        repeated |= repeated_ids
        scanned_rows += len({row_id for row_id, _ in rows})
        drift.checked += len(differing.union(expected))
        # Thousands at a time: on Milvus Lite the first key of a read costs as much as all others.
        if len(suspicious) + len(repeated) > JUDGED_ROWS:
            drift.add(_judge(connection, store, collection, suspicious, repeated, started))
            suspicious, repeated = set(), set()
    drift.add(_judge(connection, store, collection, suspicious, repeated, started))
    unknown_rows = unknown_source_filter([item.name for item in list_sources(connection)])
    strays = 0
    for bucket in store.scan(name, where=unknown_rows):
        ids = {row_id for row_id, _ in bucket}
        strays += len(ids)
        # The row of a live chunk is judged with the chunk's source, whatever source the row names.
        drift.orphaned += _judge(connection, store, collection, ids, set(), started).orphaned
    if drift.verdict == "consistent" and store.count(name) != scanned_rows + strays:
        # Either other sources have rows here too, or the scan was incomplete.
        drift.uncounted = abs(store.count(name, own_rows) - scanned_rows)
        drift.uncounted += abs(store.count(name, unknown_rows) - strays)
    return drift


def compare_range(
    connection: Connection,
    store: MilvusStore,
    collection: Collection,
    source: SourceRow,
    span: Span,
) -> Drift:
    """Compare the rows of one source in one range of keys."""
    started = server_time(connection)
    expected = _expected(connection, collection, source, span)
    own_rows = source_filter(source.name)
    scanned = [row for bucket in store.scan(collection.name, span, own_rows) for row in bucket]
    suspicious, repeated = suspects(expected, scanned)
    drift = _judge(connection, store, collection, suspicious, repeated, started)
    drift.checked = len(expected.keys() | {row_id for row_id, _ in scanned})
    return drift


def compare_keys(
    connection: Connection,
    store: MilvusStore,
    collection: Collection,
    claims: Sequence[SampledClaim],
) -> Drift:
    """Find the missing and stale rows of some chunks by reading their keys."""
    started = server_time(connection)
    expected = {
        row_id: claim.fingerprint
        for claim in claims
        for row_id in row_ids(claim.chunk_id, collection.kind, claim.rows)
    }
    fingerprints = store.fingerprints(collection.name, sorted(expected))
    suspicious, _ = suspects(expected, fingerprints.items())
    drift = _judge(connection, store, collection, suspicious, set(), started)
    drift.checked = len(expected)
    return drift


def _scan_ahead(
    store: MilvusStore, name: str, ranges: Sequence[Span], where: str
) -> Iterator[tuple[Span, Future[list[tuple[str, str]]]]]:
    """Yield (range, its rows as a future); Milvus reads a range while the caller works on it and the previous one."""

    def read(span: Span) -> list[tuple[str, str]]:
        return [row for bucket in store.scan(name, span, where) for row in bucket]

    with ThreadPoolExecutor(1) as pool:
        following_scan = pool.submit(read, ranges[0])
        for span, following in zip_longest(ranges, ranges[1:]):
            scan = following_scan
            if following is not None:
                following_scan = pool.submit(read, following)
            yield span, scan


def still_orphaned(
    connection: Connection, store: MilvusStore, collection: Collection, ids: Iterable[str]
) -> list[str]:
    """Return those of `ids` that are in Milvus and belong to no live chunk at this moment."""
    started = server_time(connection)
    return _judge(connection, store, collection, set(ids), set(), started).orphaned


def _judge(
    connection: Connection,
    store: MilvusStore,
    collection: Collection,
    suspicious: set[str],
    repeated: set[str],
    started: datetime,
) -> Drift:
    if not suspicious and not repeated:
        return Drift()
    fingerprints = store.fingerprints(collection.name, sorted(suspicious))
    copies = store.copies(collection.name, sorted(repeated))
    # Read after Milvus, so that changes since the scan are seen.
    claims = _claims(connection, collection, suspicious, started)
    drift = judge(suspicious, repeated, fingerprints, copies, claims)
    # A row whose chunk was deleted, and whose deletion Milvus confirmed, between the two reads is gone by now; a row
    # that was written again since has a live chunk. (A chunk deleted, drained, created, written, deleted and drained
    # between these reads, milliseconds apart, would still be named; a repair has the writer, which excludes it.)
    remaining = store.fingerprints(collection.name, drift.orphaned)
    claims = _claims(connection, collection, remaining, started)
    drift.orphaned = [
        row_id
        for row_id in drift.orphaned
        if row_id in claims and not claims[row_id].live and not claims[row_id].leaving
    ]
    return drift


def _claims(
    connection: Connection, collection: Collection, rows: Iterable[str], started: datetime
) -> dict[str, Claim]:
    """Return id -> PostgreSQL's current claim about the row."""
    ids = list(rows)
    chunks = sorted({chunk_of(row_id) for row_id in ids})
    claims = claims_of_chunks(connection, collection, chunks)
    leaving = leaving_chunks(connection, collection.kind, chunks)
    return {row_id: _claim(row_id, collection.kind, claims, leaving, started) for row_id in ids}


def _claim(
    row_id: str,
    kind: Kind,
    claims: Mapping[uuid.UUID, Acknowledgement],
    leaving: set[uuid.UUID],
    started: datetime,
) -> Claim:
    chunk = chunk_of(row_id)
    if chunk not in claims:
        return Claim(None, live=False, leaving=chunk in leaving)
    fingerprint, rows, acknowledged = claims[chunk]
    if fingerprint is not None:
        belongs = rows > 0 and row_id in row_ids(chunk, kind, rows)
    # Not acknowledged, rows may still exist; the number of rows of a multi-vector is then unknown.
    elif kind == "multi":
        belongs = row_id.startswith(f"{chunk}_{kind}")
    else:
        belongs = row_id == f"{chunk}_{kind}"
    if not belongs:
        return Claim(None, live=False, leaving=chunk in leaving)
    predates_scan = (
        acknowledged is not None and (started - acknowledged).total_seconds() > _SETTLED_SECONDS
    )
    return Claim(fingerprint, predates_scan=predates_scan, leaving=chunk in leaving)


def chunk_of(row_id: str) -> uuid.UUID:
    """Return the chunk of a row from the row's id; for a foreign id, a UUID that no chunk has."""
    try:
        return uuid.UUID(row_id.split("_", 1)[0])
    except ValueError:
        return uuid.uuid5(uuid.NAMESPACE_OID, row_id)


def _expected(
    connection: Connection, collection: Collection, source: SourceRow, span: Span
) -> dict[str, str]:
    """Return id -> fingerprint of the rows in a range that Milvus acknowledged."""
    return {
        row_id: fingerprint
        for chunk, fingerprint, count in claims_in_range(connection, collection, source.id, *span)
        for row_id in row_ids(chunk, collection.kind, count)
    }
