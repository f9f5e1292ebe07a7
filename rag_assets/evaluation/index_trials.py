"""Measures indexes on real vectors and real questions: the index of the serving collection, and others beside it.

`pipeline.index_choice` decides which is best. Only trial collections are written, and dropped at the end.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rag_assets.evaluation.embedded_rows import embedded_rows, unit_vectors
from rag_assets.evaluation.known_items import questions
from rag_assets.pipeline import progress
from rag_assets.pipeline.index_choice import Trial, choose, pareto
from rag_assets.pipeline.index_kinds import IndexKind
from rag_assets.pipeline.nearest import Recall, dense_scores
from rag_assets.pipeline.vectors import Embedder
from resources.errors import ConfigError, StoreUnavailable
from resources.files import FileStore
from resources.milvus.trials import TimeLimitReached, TrialStore
from resources.postgres.connection import Connection
from resources.postgres.evaluation.retrieval_sets import list_sets, queries_of
from resources.postgres.registry.sources import SourceRow
from resources.postgres.vectors.collections import Collection

#: Neighbours per query.
K = 10
#: For queries per second: concurrent clients, maximum seconds, maximum repetitions of each query.
CLIENTS, SECONDS, TURNS = 8, 5.0, 20
#: Part of the remaining time that one kind of index may take.
SHARE = 0.5
_TOO_LATE = "not measured within the time limit"

#: A query's vector and search parameters -> ids, best first.
Search = Callable[[NDArray[np.float32], Mapping[str, Any]], list[str]]
#: Batches of (ids, float32 [ids, dimension]); can be iterated several times.
Rows = Iterable[tuple[list[str], NDArray[np.float32]]]


@dataclass(frozen=True)
class Embedded:
    """The dense vectors of sources, from Parquet. `share` below 1: a sample by chunk ids, the same each time."""

    connection: Connection
    files: FileStore
    collection: Collection
    sources: Sequence[SourceRow]
    share: float = 1.0

    def __iter__(self) -> Iterator[tuple[list[str], NDArray[np.float32]]]:
        bound = round(self.share * 16**8)
        for source in self.sources:
            for ids, table in embedded_rows(
                self.connection, self.files, self.collection, source.id
            ):
                # Ids are hashes, so their first 32 bits are uniformly distributed.
                sample = [at for at, chunk in enumerate(ids) if uuid.UUID(chunk).time_low < bound]
                if sample:
                    yield [ids[at] for at in sample], unit_vectors(table)[sample]


def ask(
    connection: Connection, embedder: Embedder, sources: Sequence[SourceRow], limit: int
) -> tuple[NDArray[np.float32], str]:
    """Vectors of at most `limit` real questions, and their origin: the sources' retrieval sets, otherwise sentences of
    their own chunks. Raises ConfigError if there is no indexed text."""
    per_source = -(-limit // max(1, len(sources)))
    texts: list[str] = []
    origins = set()
    for source in sources:
        sets = list_sets(connection, source=source.name)
        queries = [
            text for item in sets for _, text in queries_of(connection, item.id)[:per_source]
        ]
        origins.add("retrieval sets" if queries else "sentences of the chunks")
        texts += queries[:per_source] or [
            text for _, text in questions(connection, source, per_source)
        ]
    texts = texts[:limit]
    vectors = embedder.embed_queries(texts, ["dense"]) if texts else None
    if vectors is None or vectors.dense is None:
        raise ConfigError("There is no indexed text to take questions from. First: rag ingest")
    embedded = [at for at in range(len(texts)) if at not in vectors.failures]
    return vectors.dense[embedded], " and ".join(sorted(origins))


def measure(
    search: Search,
    queries: NDArray[np.float32],
    candidates: Sequence[Mapping[str, Any]],
    rows: Rows,
    name: str,
) -> list[Trial]:
    """Time and recall of each candidate (search parameters). Each query runs with all candidates in turn, so that other
    load on the machine affects them equally."""
    results: list[list[list[str]]] = [[] for _ in candidates]
    milliseconds = np.zeros((len(candidates), len(queries)))
    # Warm up: open connections, load indexes.
    for params in candidates:
        search(queries[0], params)
    for number, query in enumerate(queries):
        for place in range(len(candidates)):
            at = (place + number) % len(candidates)
            started = time.perf_counter()
            ids = search(query, candidates[at])
            milliseconds[at, number] = (time.perf_counter() - started) * 1000
            results[at].append(ids)
        progress.report("queries", name, number + 1, len(queries))
    recalls = [Recall(hits, K) for hits in results]
    for ids, vectors in rows:
        scores = dense_scores(queries, vectors)
        for recall in recalls:
            recall.add(ids, scores)
    trials = [
        Trial(params, recall.value() or 0.0, *np.percentile(ms, [50, 95]).tolist())
        for params, recall, ms in zip(candidates, recalls, milliseconds)
    ]
    best = pareto([(trial.recall, trial.p50) for trial in trials])
    return [replace(trial, best=is_best) for trial, is_best in zip(trials, best)]


@dataclass(frozen=True)
class Compared:
    """Measurements of one index kind. `memory_bytes`: by the formula of the kind. `file_bytes`: size of its files, None
    if they are not visible. `queries_per_second`: of `chosen`, with several clients."""

    kind: IndexKind
    params: Mapping[str, Any]
    rows: int
    build_seconds: float
    memory_bytes: float
    file_bytes: int | None
    trials: Sequence[Trial]
    chosen: Trial
    queries_per_second: float

    def as_dict(self) -> dict[str, Any]:
        return {
            "index_type": self.kind.name,
            "params": dict(self.params),
            "rows": self.rows,
            "build_seconds": round(self.build_seconds, 2),
            "memory_bytes": round(self.memory_bytes),
            "file_bytes": self.file_bytes,
            "chosen": self.chosen.as_dict(),
            "queries_per_second": round(self.queries_per_second, 1),
            "trials": [trial.as_dict() for trial in self.trials],
        }


def compare(
    store: TrialStore,
    kinds: Sequence[IndexKind],
    rows: Rows,
    total: int,
    queries: NDArray[np.float32],
    recall: float,
) -> tuple[list[Compared], dict[str, str]]:
    """Measure each kind on the same rows (about `total`) in one trial collection, which is dropped at the end. Returns
    the measurements, and kind -> the reason why there is none: the server could not build it, or the time was over."""
    compared: list[Compared] = []
    failures: dict[str, str] = {}
    with store.trial() as name:
        try:
            ids = _fill(store, name, rows, total, queries.shape[1])
        except TimeLimitReached:
            return [], dict.fromkeys((kind.name for kind in kinds), _TOO_LATE)
        for number, kind in enumerate(kinds):
            progress.report("measured", "indexes", number, len(kinds))
            is_last = number + 1 == len(kinds)
            try:
                # One slow kind must not take the time of all others.
                with store.limit.share(1 if is_last else SHARE):
                    result = _compare(store, name, kind, rows, ids, queries, recall)
                    compared.append(result)
            except TimeLimitReached:
                failures[kind.name] = _TOO_LATE
            except StoreUnavailable as error:
                failures[kind.name] = str(error)
        progress.report("measured", "indexes", len(kinds), len(kinds))
    return compared, failures


def _fill(store: TrialStore, name: str, rows: Rows, total: int, dimension: int) -> list[str]:
    """Write the rows. Returns their ids; the number of a row is its position in this list."""
    ids: list[str] = []

    def batches() -> Iterator[NDArray[np.float32]]:
        for chunks, vectors in rows:
            ids.extend(chunks)
            yield vectors

    for done in store.fill(name, dimension, batches()):
        progress.report("written", "rows", done, max(done, total))
    return ids


def _compare(
    store: TrialStore,
    name: str,
    kind: IndexKind,
    rows: Rows,
    ids: list[str],
    queries: NDArray[np.float32],
    recall: float,
) -> Compared:
    dimension = queries.shape[1]
    params = kind.build_defaults(len(ids), dimension)
    before = store.index_files()
    seconds = store.build(name, {"index_type": kind.name, "metric_type": "IP", "params": params})

    def search(query: NDArray[np.float32], search_params: Mapping[str, Any]) -> list[str]:
        store.limit.remaining()
        hits = store.search(name, query, limit=K, params=search_params)
        return [ids[hit["id"]] for hit in hits]

    new_files = [size for path, size in store.index_files().items() if path not in before]
    trials = measure(search, queries, kind.trials(params, K), rows, kind.name)
    chosen = choose(trials, recall)
    return Compared(
        kind,
        params,
        len(ids),
        seconds,
        kind.bytes_per_row(dimension, params) * len(ids),
        sum(new_files) or None,
        trials,
        chosen,
        _per_second(search, queries, chosen.search),
    )


def _per_second(search: Search, queries: NDArray[np.float32], params: Mapping[str, Any]) -> float:
    """Queries per second of CLIENTS concurrent clients, each sending one query after another."""
    numbers, started = iter(range(TURNS * len(queries))), time.perf_counter()

    def client() -> int:
        done = 0
        while time.perf_counter() - started < SECONDS and (at := next(numbers, None)) is not None:
            search(queries[at % len(queries)], params)
            done += 1
        return done

    with ThreadPoolExecutor(CLIENTS) as pool:
        done = sum(future.result() for future in [pool.submit(client) for _ in range(CLIENTS)])
    return done / (time.perf_counter() - started)
