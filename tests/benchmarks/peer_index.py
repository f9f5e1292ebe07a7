"""An index of `embedded_peers`, in the interpreter that has its library: `peer_index.py SIDE VECTORS.npy FOLDER`.

Each line of stdin is a request in JSON, each answer a line of JSON: {"build": parameters}; or {"search": numbers of
queries, "effort": search parameters}. The first QUERIES vectors of the file are the queries, the others the rows; ids
are numbers of rows. The end of stdin ends the process.
"""
# The libraries are not dependencies of this project:
# pyright: reportMissingImports=false, reportAttributeAccessIssue=false

from __future__ import annotations

import json
import os
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

QUERIES, K, NAME = 500, 10, "benchmark"
BATCH = 1000
#: Maximum seconds for an index of Milvus Lite.
BUILT = 3600


def batches(vectors: np.ndarray) -> Iterator[tuple[range, np.ndarray]]:
    for start in range(0, len(vectors), BATCH):
        part = np.array(vectors[start : start + BATCH])
        yield range(start, start + len(part)), part


class Index:
    """`package`: its version is reported. `pids`: servers beside this process. `waited`: seconds of the build in which
    nothing was built.
    """

    package = ""
    pids: tuple[int, ...] = ()
    waited = 0.0
    effort: Mapping[str, Any] = {}

    def build(self, vectors: np.ndarray, folder: Path, **parameters: Any) -> None:
        raise NotImplementedError

    def prepare(self, **effort: Any) -> None:
        """Set the parameters of the next searches."""
        self.effort = effort

    def search(self, query: np.ndarray) -> list[int]:
        raise NotImplementedError


class Ours(Index):
    """The embedded Milvus with the layout, the writes and the searches of the project. `kind`: of the index, if it is
    not the default.
    """

    package = "milvus-lite"

    def build(self, vectors: np.ndarray, folder: Path, kind: str = "", **params: Any) -> None:
        import psutil

        from rag_assets.settings.load import load_settings
        from resources.embedded.milvus import start_milvus
        from resources.milvus.collections import Layout
        from resources.milvus.rows import RowFields
        from resources.milvus.store import MilvusStore
        from tests.benchmarks.usage import until_idle

        os.environ["RAG_HOME"] = str(folder)
        if kind:
            index = {"index_type": kind, "metric_type": "IP", "params": params}
            os.environ["RAG_DENSE_INDEX"] = json.dumps(index)
        settings = load_settings()
        self.parameters = settings.dense_search
        server = start_milvus(folder)
        self.pids = (server.pid,)
        self.store = MilvusStore(server.uri, search_consistency=settings.search_consistency)
        layout = Layout("dense", vectors.shape[1], settings.dense_index, settings.milvus_shards)
        self.store.ensure_collection(NAME, layout)
        document = uuid.UUID(int=0)
        for numbers, part in batches(vectors):
            rows = [
                RowFields(
                    uuid.UUID(int=number), f"{number:032x}", document, "folder", NAME, "en", number,
                    0, "text", None, None, [],
                )
                for number in numbers
            ]  # fmt: skip
            self.store.upsert_dense(NAME, rows, part)
        self.store.wait_for_flush()
        # The index is built after the flush, the sketches after the first search.
        for _ in range(2):
            if not until_idle([psutil.Process(server.pid)], BUILT):
                raise SystemExit(f"the index was not built in {BUILT} s")
            self.waited += 3.0
            self.search(np.array(vectors[0]))

    def prepare(self, **effort: Any) -> None:
        self.parameters = {**self.parameters, **effort}

    def search(self, query: np.ndarray) -> list[int]:
        hits = self.store.search(NAME, query, limit=K, params=self.parameters)
        return [uuid.UUID(hit["id"].partition("_")[0]).int for hit in hits]


class Chroma(Index):
    package = "chromadb"

    def build(self, vectors: np.ndarray, folder: Path, **parameters: Any) -> None:
        self.folder = folder
        self.client = self._open()
        self.collection = self.client.create_collection(
            NAME, configuration={"hnsw": {"space": "ip", **parameters}}, embedding_function=None
        )
        for numbers, part in batches(vectors):
            self.collection.add([str(number) for number in numbers], embeddings=part)

    def prepare(self, **effort: Any) -> None:
        if effort == self.effort:
            return
        self.effort = effort
        self.collection.modify(configuration={"hnsw": effort})
        # An index that is loaded keeps the parameters with which it was loaded.
        self.client.close()
        self.client = self._open()
        self.collection = self.client.get_collection(NAME, embedding_function=None)

    def search(self, query: np.ndarray) -> list[int]:
        found = self.collection.query(query_embeddings=[query], n_results=K, include=[])
        return [int(row) for row in found["ids"][0]]

    def _open(self) -> Any:
        import chromadb

        settings = chromadb.Settings(anonymized_telemetry=False)
        return chromadb.PersistentClient(str(self.folder), settings)


class Qdrant(Index):
    """Local mode compares all rows."""

    package = "qdrant-client"

    def build(self, vectors: np.ndarray, folder: Path, **parameters: Any) -> None:
        from qdrant_client import QdrantClient, models

        self.client = QdrantClient(**(parameters or {"path": str(folder)}))
        space = models.VectorParams(size=vectors.shape[1], distance=models.Distance.DOT)
        self.client.create_collection(NAME, vectors_config=space)
        for numbers, part in batches(vectors):
            self.client.upload_collection(NAME, vectors=part, ids=list(numbers))

    def search(self, query: np.ndarray) -> list[int]:
        answer = self.client.query_points(NAME, query=query, limit=K, with_payload=False)
        return [int(point.id) for point in answer.points]


class Lance(Index):
    """Without parameters it has no index and compares all rows."""

    package = "lancedb"

    def build(self, vectors: np.ndarray, folder: Path, **parameters: Any) -> None:
        import lancedb
        import pyarrow as pa

        dimension = vectors.shape[1]

        def tables() -> Iterator[pa.RecordBatch]:
            for numbers, part in batches(vectors):
                column = pa.FixedSizeListArray.from_arrays(pa.array(part.ravel()), dimension)
                yield pa.record_batch([pa.array(numbers, pa.int64()), column], schema)

        schema = pa.schema({"id": pa.int64(), "vector": pa.list_(pa.float32(), dimension)})
        self.table = lancedb.connect(folder).create_table(NAME, tables(), schema)
        if parameters:
            self.table.create_index("dot", vector_column_name="vector", **parameters)

    def search(self, query: np.ndarray) -> list[int]:
        search = self.table.search(query, "vector").distance_type("dot").limit(K)
        # Without _distance, each search writes a warning.
        search = search.select(["id", "_distance"])
        for name, value in self.effort.items():
            search = getattr(search, name)(value)
        return search.to_arrow()["id"].to_pylist()


class Faiss(Index):
    package = "faiss-cpu"

    def build(self, vectors: np.ndarray, folder: Path, M: int, efConstruction: int) -> None:  # noqa: N803
        import faiss

        self.index = faiss.IndexHNSWFlat(vectors.shape[1], M, faiss.METRIC_INNER_PRODUCT)
        self.index.hnsw.efConstruction = efConstruction
        for _, part in batches(vectors):
            self.index.add(part)

    def prepare(self, **effort: Any) -> None:
        self.index.hnsw.efSearch = effort["ef"]

    def search(self, query: np.ndarray) -> list[int]:
        return self.index.search(query[np.newaxis], K)[1][0].tolist()


SIDES: dict[str, type[Index]] = {
    each.__name__: each for each in (Ours, Chroma, Qdrant, Lance, Faiss)
}


def main(side: str, file: Path, folder: Path) -> None:
    # Libraries print to stdout too.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    vectors = np.load(file, mmap_mode="r")
    queries, index = np.array(vectors[:QUERIES]), SIDES[side]()
    for line in sys.stdin:
        request = json.loads(line)
        if "build" in request:
            started = time.perf_counter()
            index.build(vectors[QUERIES:], folder, **request["build"])
            index.prepare(**request["effort"])
            # Some libraries index during the first search.
            index.search(queries[0])
            seconds = time.perf_counter() - started - index.waited
            # Its pages would count as memory of this process.
            del vectors
            used = {"version": version(index.package), "pids": [os.getpid(), *index.pids]}
            answer: dict[str, Any] = {"seconds": seconds, **used}
        else:
            index.prepare(**request["effort"])
            ids, milliseconds = [], []
            for number in request["search"]:
                started = time.perf_counter()
                ids.append(index.search(queries[number]))
                milliseconds.append((time.perf_counter() - started) * 1000)
            answer = {"ids": ids, "milliseconds": milliseconds}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
