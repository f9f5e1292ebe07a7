"""Measures indexes on real vectors and real questions: of the collection that serves, and of others beside it.

What is best is said in `pipeline.index_choice`; nothing is changed but trial collections, which are gone at the end.
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
from resources.milvus.trials import TrialStore
from resources.postgres.connection import Connection
from resources.postgres.evaluation.retrieval_sets import list_sets, queries_of
from resources.postgres.registry.sources import SourceRow
from resources.postgres.vectors.collections import Collection

#: Neighbours that are looked for.
K = 10
#: To measure queries per second: clients that ask at a time, for how many seconds, each query how often at most.
CLIENTS, SECONDS, TURNS = 8, 5.0, 20

#: A query's vector and search parameters -> ids, best first.
Search = Callable[[NDArray[np.float32], Mapping[str, Any]], list[str]]
#: (ids, float32 [ids, dimension]), some at a time, as often as they are asked for.
Rows = Iterable[tuple[list[str], NDArray[np.float32]]]


@dataclass(frozen=True)
class Embedded:
    """The dense vectors of sources, from Parquet; `share` below 1: a sample by the ids of chunks, always the same."""

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
                # Ids are hashes.
                kept = [at for at, chunk in enumerate(ids) if uuid.UUID(chunk).time_low < bound]
                if kept:
                    yield [ids[at] for at in kept], unit_vectors(table)[kept]


def ask(
    connection: Connection, embedder: Embedder, sources: Sequence[SourceRow], limit: int
) -> tuple[NDArray[np.float32], str]:
    """Vectors of at most so many real questions, and where they are from: the sources' retrieval sets, else sentences
    of their own chunks."""
    each = -(-limit // max(1, len(sources)))
    texts: list[str] = []
    origins = set()
    for source in sources:
        sets = list_sets(connection, source=source.name)
        asked = [text for known in sets for _, text in queries_of(connection, known.id)[:each]]
        origins.add("retrieval sets" if asked else "sentences of the chunks")
        texts += asked[:each] or [text for _, text in questions(connection, source, each)]
    texts = texts[:limit]
    vectors = embedder.embed_queries(texts, ["dense"]) if texts else None
    if vectors is None or vectors.dense is None:
        raise ConfigError("There is no indexed text to ask for. First: rag ingest")
    kept = [at for at in range(len(texts)) if at not in vectors.failures]
    return vectors.dense[kept], " and ".join(sorted(origins))


def measure(
    search: Search,
    queries: NDArray[np.float32],
    tried: Sequence[Mapping[str, Any]],
    rows: Rows,
    name: str,
) -> list[Trial]:
    """Each query with all parameters in turn, so that whatever else the machine does meets them alike."""
    found: list[list[list[str]]] = [[] for _ in tried]
    taken = np.zeros((len(tried), len(queries)))
    for params in tried:  # connections are opened, indexes loaded
        search(queries[0], params)
    for number, query in enumerate(queries):
        for place in range(len(tried)):
            at = (place + number) % len(tried)
            started = time.perf_counter()
            ids = search(query, tried[at])
            taken[at, number] = (time.perf_counter() - started) * 1000
            found[at].append(ids)
        progress.report("queries", name, number + 1, len(queries))
    recalls = [Recall(each, K) for each in found]
    for ids, vectors in rows:
        scores = dense_scores(queries, vectors)
        for recall in recalls:
            recall.add(ids, scores)
    trials = [
        Trial(params, recall.value() or 0.0, *np.percentile(ms, [50, 95]).tolist())
        for params, recall, ms in zip(tried, recalls, taken)
    ]
    best = pareto([(trial.recall, trial.p50) for trial in trials])
    return [replace(trial, best=each) for trial, each in zip(trials, best)]


@dataclass(frozen=True)
class Compared:
    """One kind of index. `memory_bytes` by its formula; `file_bytes` of its files, where they can be seen.
    `queries_per_second` of `chosen`, with several clients."""

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
    """Each kind on the same rows, of which there are about `total`, in one collection that is gone at the end; and
    kind -> why it was not to be had."""
    compared: list[Compared] = []
    refused: dict[str, str] = {}
    with store.trial() as name:
        ids = _fill(store, name, rows, total, queries.shape[1])
        for number, kind in enumerate(kinds):
            progress.report("built", "indexes", number, len(kinds))
            try:
                compared.append(_compare(store, name, kind, rows, ids, queries, recall))
            except StoreUnavailable as error:
                refused[kind.name] = str(error)
        progress.report("built", "indexes", len(kinds), len(kinds))
    return compared, refused


def _fill(store: TrialStore, name: str, rows: Rows, total: int, dimension: int) -> list[str]:
    """Writes the rows. Returns their ids; a row's number is its place."""
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

    def search(query: NDArray[np.float32], how: Mapping[str, Any]) -> list[str]:
        return [ids[hit["id"]] for hit in store.search(name, query, limit=K, params=how)]

    written = [size for path, size in store.index_files().items() if path not in before]
    trials = measure(search, queries, kind.trials(params, K), rows, kind.name)
    chosen = choose(trials, recall)
    return Compared(
        kind,
        params,
        len(ids),
        seconds,
        kind.bytes_per_row(dimension, params) * len(ids),
        sum(written) or None,
        trials,
        chosen,
        _per_second(search, queries, chosen.search),
    )


def _per_second(search: Search, queries: NDArray[np.float32], how: Mapping[str, Any]) -> float:
    """Queries answered in a second, of CLIENTS that ask one after another."""
    numbers, started = iter(range(TURNS * len(queries))), time.perf_counter()

    def client() -> int:
        done = 0
        while time.perf_counter() - started < SECONDS and (at := next(numbers, None)) is not None:
            search(queries[at % len(queries)], how)
            done += 1
        return done

    with ThreadPoolExecutor(CLIENTS) as pool:
        done = sum(each.result() for each in [pool.submit(client) for _ in range(CLIENTS)])
    return done / (time.perf_counter() - started)
