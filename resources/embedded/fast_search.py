"""Milvus Lite's searches without Python for each row: the same answers from what `live_rows` keeps.

In Milvus Lite 3.2.2 a search of 20,000 rows took 33 ms, of which the index took 6: the remainder is Python for every
row (which rows are live, in dictionaries) and for every field of every hit (1,024 floats each). Here the live rows are
a mask that is kept, filters are kept by segment, a hit is read by the fields asked for, and the queries of a request
are searched together. docs/explanation/embedded-search.md has the measurements.

Milvus Lite's own executors still run where the snapshot is not one of `live_rows`, for BM25, and for values that only
they can read. `install` does nothing with another version of Milvus Lite than the one it was compared with. The tests
compare the answers with those of the replaced executors. Loaded only in the process of Milvus Lite.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Mapping
from typing import Any
from weakref import WeakKeyDictionary

import faiss
import numpy as np

from resources.embedded import milvus_lite_internals as lite
from resources.embedded.live_rows import CollectionRows, Segments, count_changes
from resources.embedded.search_hits import Source, make_hits
from resources.embedded.search_messages import replace_messages

#: Any: its names are made at import, where pyright does not see them.
_faiss: Any = faiss

#: The search parameter that asks for sketches: the number of rows whose exact score is computed. Milvus Lite's own
#: executor ignores it.
CANDIDATES = "candidates"
#: Bytes of scores that an exact search has in memory at once.
SCORES = 32 << 20
#: An exact search reads only the rows of the mask if they are fewer than this share: copying them costs more than rows
#: that are read in vain.
FEW = 0.2

#: Distances and row numbers of each query, best first, [queries, at most top_k]; the number is -1 behind the last row.
Nearest = tuple[np.ndarray, np.ndarray]


def install() -> bool:
    """Replace the executors of Milvus Lite in this process. Return False with a version that is not known."""
    if lite.fingerprint(lite.SEARCH_CODE) != lite.KNOWN_SEARCH:
        return False
    count_changes(lite.MemTable, "apply_insert", "apply_delete")
    count_changes(lite.DeltaIndex, "add_batch", "gc_below")
    collections: WeakKeyDictionary[Any, CollectionRows] = WeakKeyDictionary()
    compiling = threading.Lock()
    cls: Any = lite.Collection
    compile_filter: Callable[..., Any] = cls._compile_filter

    def read_snapshot(self: Any) -> tuple[Segments, Any]:
        with self._maintenance_lock:
            if (rows := collections.get(self)) is None:
                rows = collections[self] = CollectionRows()
            return rows.snapshot(self)

    def compile_filter_alone(self: Any, *arguments: Any, **options: Any) -> Any:
        # Its cache is not safe in threads.
        with compiling:
            return compile_filter(self, *arguments, **options)

    cls._read_snapshot = read_snapshot
    cls._compile_filter = compile_filter_alone
    lite.engine_collection.execute_search_with_index = functools.partial(
        search_dense, original=lite.engine_collection.execute_search_with_index
    )
    replace_messages()
    search_sparse_alone = cls._search_sparse
    cls._search_sparse = lambda self, **request: search_sparse(
        self, original=search_sparse_alone, **request
    )
    return True


def _use_one_processor() -> None:
    """Keep faiss in the thread of the request: the other processors serve other requests."""
    _faiss.omp_set_num_threads(1)


def search_dense(*, original: Callable[..., list[list[dict]]], **request: Any) -> list[list[dict]]:
    """`execute_search_with_index` of Milvus Lite, which describes the arguments."""
    segments, queries, top_k = request["segments"], request["query_vectors"], request["top_k"]
    if (
        not _is_known(segments, request["delta_index"])
        or request.get("project_record_fn") is None
        or queries.ndim != 2
        or not len(queries)
        or top_k <= 0
    ):
        return original(**request)
    _use_one_processor()
    queries = np.ascontiguousarray(queries, np.float32)
    field, metric, params = (
        request["vector_field"],
        request["metric_type"],
        request["search_params"],
    )
    compiled, plan = request["compiled_filter"], request["indexed_filter_plan"]
    live = segments.live(request["memtable"], request["partition_names"], sparse=False)
    sources: list[Source] = []
    nearest: list[Nearest] = []
    for rows, mask in live.segments:
        vectors, not_null = rows.segment.vector_data(field)
        mask = _and(mask, compiled and rows.filter_mask(compiled, plan), not_null)
        if mask.any():
            index = rows.segment.indexes.get(field)
            mask = None if mask.all() else mask
            found = None
            if metric == "IP" and (candidates := (params or {}).get(CANDIDATES)):
                if (sketch := rows.sketch(field)) is not None:
                    found = sketch.nearest(queries, top_k, mask, max(int(candidates), 4 * top_k))
                if found is None and mask is not None:
                    # Without a sketch, or with few rows in scope: exact rather than by an approximate index.
                    index = None
            sources.append(Source(rows))
            nearest.append(found or _nearest(index, vectors, queries, top_k, mask, metric, params))
    if live.memory.pks:
        mask = _and(live.memory_mask, compiled and live.memory.filter_mask(compiled, by_row=False))
        if mask.any():
            sources.append(Source(live.memory))
            vectors = live.memory.vectors(field)
            nearest.append(_nearest(None, vectors, queries, top_k, mask, metric, params))
    project = request["project_record_fn"]
    return [
        make_hits(sources, [(ids[at], distances[at]) for distances, ids in nearest], top_k,
              request["output_fields"], project, request["pk_field"])
        for at in range(len(queries))
    ]  # fmt: skip


def search_sparse(
    collection: Any, *, original: Callable[..., list[list[dict]]], **request: Any
) -> list[list[dict]]:
    """`Collection._search_sparse` of Milvus Lite."""
    field, top_k = request["vector_field"], request["top_k"]
    segments, deletions = collection._read_snapshot()
    if request["metric_type"] != "IP" or not _is_known(segments, deletions) or top_k <= 0:
        return original(collection, **request)
    output_fields, expr = request["output_fields"], request["expr"]
    live = segments.live(collection._memtable, request["partition_names"], sparse=True)
    postings = [rows.postings(field) for rows, _ in live.segments]
    if live.memory.pks:
        postings.append(live.memory.postings(field))
    if any(each is None for each in postings):
        return original(collection, **request)
    plan = lite.build_projection_plan(output_fields, collection.schema, api_kind="search")
    queries = collection._prepare_sparse_queries(request["query_vectors"], field)
    compiled = collection._compile_filter(expr, timezone=request.get("timezone")) if expr else None
    indexed = collection._indexed_filter_plan(compiled)
    masks = [
        _and(mask, compiled and rows.filter_mask(compiled, indexed)) for rows, mask in live.segments
    ]
    sources = [Source(rows) for rows, _ in live.segments]
    if live.memory.pks:
        mask = _and(live.memory_mask, compiled and live.memory.filter_mask(compiled, by_row=True))
        masks.append(mask)
        sources.append(Source(live.memory))
    used = [
        (source, each, None if mask.all() else mask)
        for source, each, mask in zip(sources, postings, masks, strict=True)
        if each is not None and mask.any()
    ]

    def project(record: dict[str, Any]) -> dict[str, Any]:
        return lite.project_record(record, collection.schema, plan)

    sources = [source for source, _, _ in used]
    return [
        make_hits(sources, [each.nearest(query, top_k, mask) for _, each, mask in used], top_k,
              output_fields, project, collection.pk_field, ranked=True)
        for query in queries
    ]  # fmt: skip


def _is_known(segments: object, deletions: object) -> bool:
    return (
        isinstance(segments, Segments)
        and segments.deletions is deletions
        and segments.have_distinct_ids
    )


def _and(mask: np.ndarray, *others: np.ndarray | None) -> np.ndarray:
    for other in others:
        if other is not None:
            mask = mask & other
    return mask


def _nearest(
    index: Any,
    vectors: np.ndarray,
    queries: np.ndarray,
    top_k: int,
    mask: np.ndarray | None,
    metric: str,
    params: Mapping[str, Any] | None,
) -> Nearest:
    """Return distances and rows as the index does. Without an index, or with one that compares all rows: all rows."""
    if isinstance(index, lite.FAISS_INDEXES):
        return _by_faiss(index, queries, top_k, mask, params or {})
    if index is None or type(index) is lite.BruteForceIndex:
        if metric == "IP" and (index is None or index.metric == metric):
            return _exact(vectors, queries, top_k, mask)
        index = index or lite.BruteForceIndex.build(vectors, metric)
    ids, distances = index.search(queries, top_k, valid_mask=mask, params=params)
    return distances, ids


def _by_faiss(
    index: Any, queries: np.ndarray, top_k: int, mask: np.ndarray | None, params: Mapping[str, Any]
) -> Nearest:
    """Search an index of faiss as its class in Milvus Lite does.

    It sets nprobe or ef for this call alone, not in the index, where another thread may search with others.
    """
    bits = None if mask is None else np.packbits(mask, bitorder="little")
    options = {} if bits is None else {"sel": _faiss.IDSelectorBitmap(bits)}
    if isinstance(index, lite.IVF_INDEXES):
        search = _faiss.SearchParametersIVF(nprobe=int(params.get("nprobe", 10)), **options)
    else:
        search = _faiss.SearchParametersHNSW(efSearch=int(params.get("ef", 64)), **options)
    if index.metric == "COSINE":
        queries = np.ascontiguousarray(lite.normalize(queries), np.float32)
    values, ids = index._index.search(queries, top_k, params=search)
    # A row of -1, or with an infinite distance, ends the rows.
    ended = np.logical_or.accumulate((ids < 0) | (values >= 1e30), axis=1)
    values = values.astype(np.float64)
    if index.metric == "L2":
        values = np.sqrt(np.maximum(values, 0.0))
    else:
        values = 1.0 - values if index.metric == "COSINE" else -values
    return np.where(ended, np.inf, values).astype(np.float32), np.where(ended, -1, ids)


def _exact(
    vectors: np.ndarray, queries: np.ndarray, top_k: int, mask: np.ndarray | None
) -> Nearest:
    """Return the rows with the highest inner products; of equal ones, the first."""
    rows = None
    if mask is not None and mask.mean() < FEW:
        rows = np.flatnonzero(mask)
        vectors, mask = vectors[rows], None
    kept = min(top_k, len(vectors))
    ids = np.empty((len(queries), 0), np.int64)
    distances = np.empty((len(queries), 0), np.float32)
    size = max(1, SCORES // (4 * len(queries)))
    for start in range(0, len(vectors), size):
        part = vectors[start : start + size]
        found = -(part @ queries[0])[np.newaxis] if len(queries) == 1 else -(queries @ part.T)
        if mask is not None:
            found[:, ~mask[start : start + size]] = np.inf
        if kept < found.shape[1]:
            places = np.argpartition(found, kept - 1, axis=1)[:, :kept]
        else:
            places = np.broadcast_to(np.arange(found.shape[1]), found.shape)
        ids = np.concatenate([ids, places + start], axis=1)
        distances = np.concatenate([distances, np.take_along_axis(found, places, 1)], axis=1)
    order = np.lexsort((ids, distances), axis=1)[:, :kept]
    ids = np.take_along_axis(ids, order, 1)
    distances = np.take_along_axis(distances, order, 1)
    ended = np.isinf(distances)
    if rows is not None:
        ids = rows[ids]
    return distances, np.where(ended, -1, ids)
