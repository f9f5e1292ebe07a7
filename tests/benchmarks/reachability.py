"""Which rows does each index find? `python -m tests.benchmarks.reachability [CORPUS] [--url URL] [--json FILE]`

Every chunk of a corpus, with the dense vectors of `lexical`, in collections that differ only in their index. Each row
searches for itself: it is reached if it, or a row with an equal vector, comes first. Also measured: recall@10 of 500
real queries (a sentence of a chunk) against exact search, and the median of their milliseconds, one by one. Without a
URL on Milvus Lite; for the real server: `milvus-server --data DIR --proxy-port 19531`, and `--url
http://127.0.0.1:19531`.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import psycopg
from pymilvus import DataType, MilvusClient
from rich.console import Console
from rich.table import Table

from resources.embedded.stack import running
from resources.embedders.lexical import LexicalEmbedder
from tests.benchmarks.ingestion import CORPUS
from tests.benchmarks.rag_command import fresh_home, rag

#: Index type, parameters of the index, parameters of the search.
CHOICES: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("FLAT", {}, {}),
    ("HNSW", {"M": 16, "efConstruction": 256}, {"ef": 64}),
    ("HNSW", {"M": 16, "efConstruction": 256}, {"ef": 128}),
    ("HNSW", {"M": 16, "efConstruction": 256}, {"ef": 1024}),
    ("IVF_FLAT", {"nlist": 128}, {"nprobe": 32}),
    ("IVF_FLAT", {"nlist": 128}, {"nprobe": 64}),
    ("IVF_FLAT", {"nlist": 1024}, {"nprobe": 64}),
]
QUERIES = 500
#: Query vectors per request.
SEARCHED = 500
#: Inner products of equal vectors may differ by this much.
TOLERANCE = 1e-5


@dataclass(frozen=True)
class Result:
    """`reached`: the reached share of all rows; `unique`: of the rows whose text no other row has."""

    index: str
    params: dict[str, Any]
    search: dict[str, Any]
    seconds: float
    reached: float
    unique: float
    recall: float
    milliseconds: float


@dataclass(frozen=True)
class Rows:
    """`vectors`: float32 [texts, dimension] of norm 1. `text_of`: int [rows], the index of each row's text."""

    vectors: np.ndarray
    text_of: np.ndarray
    queries: np.ndarray


def read(corpus: Path, copies: int) -> Rows:
    """The corpus's chunks as the product makes them. `copies`: further rows for each of 30 texts."""
    with fresh_home() as home:
        rag(home, "ingest", str(corpus))
        with psycopg.connect(running(home)["postgres"]) as connection:
            chunks = connection.execute(
                "SELECT content FROM document_chunks ORDER BY id"
            ).fetchall()
    number: dict[str, int] = {}
    text_of = [number.setdefault(content, len(number)) for (content,) in chunks]
    texts = list(number)
    random_source = random.Random(1)
    text_of += [text for text in random_source.sample(range(len(texts)), 30) for _ in range(copies)]
    sentences = []
    while len(sentences) < QUERIES:
        parts = [part for part in re.split(r"[.\n]", random_source.choice(texts)) if len(part) > 40]
        sentences += [random_source.choice(parts)] if parts else []
    model = LexicalEmbedder()
    embedded = model.embed(texts, ["dense"]).dense
    queries = model.embed_queries(sentences, ["dense"]).dense
    assert embedded is not None and queries is not None
    return Rows(np.asarray(embedded, np.float32), np.array(text_of), np.asarray(queries, np.float32))  # fmt: skip


def fill(client: MilvusClient, name: str, rows: Rows, index: str, params: dict[str, Any]) -> float:
    """Write the rows and build the index. Returns the seconds from the first row until the index is built."""
    schema = client.create_schema(auto_id=False)
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=rows.vectors.shape[1])
    indexes = client.prepare_index_params()
    indexes.add_index("vector", index_type=index, metric_type="IP", params=params)
    client.create_collection(name, schema=schema, consistency_level="Bounded")
    started = time.perf_counter()
    for start in range(0, len(rows.text_of), 500):
        batch = rows.text_of[start : start + 500]
        data = [{"id": start + at, "vector": rows.vectors[text]} for at, text in enumerate(batch)]
        client.insert(name, data)
    client.flush(name)
    client.create_index(name, indexes)
    while client.describe_index(name, "vector").get("pending_index_rows") or 0:
        time.sleep(0.5)
    client.load_collection(name)
    return time.perf_counter() - started


def search(
    client: MilvusClient, name: str, queries: np.ndarray, params: dict[str, Any]
) -> list[Any]:
    return client.search(
        name, data=list(queries), limit=10, anns_field="vector",
        search_params={"metric_type": "IP", "params": params},
    )  # fmt: skip


def measure(
    client: MilvusClient, name: str, rows: Rows, best: np.ndarray, params: dict[str, Any]
) -> tuple[float, float, float, float]:
    """Reached share of all rows and of the unique ones, recall@10, median milliseconds of a search.

    `best`: the tenth best score of each query.
    """
    firsts: list[int] = []
    for start in range(0, len(rows.text_of), SEARCHED):
        for hits in search(
            client, name, rows.vectors[rows.text_of[start : start + SEARCHED]], params
        ):
            firsts.append(hits[0]["id"] if hits else -1)
    first_texts = rows.text_of[np.array(firsts)]
    scores = np.einsum("ij,ij->i", rows.vectors[rows.text_of], rows.vectors[first_texts])
    reached = (np.array(firsts) >= 0) & (scores > 1 - TOLERANCE)
    unique = np.bincount(rows.text_of)[rows.text_of] == 1
    milliseconds, recalls = [], []
    for query, tenth in zip(rows.queries, best):
        started = time.perf_counter()
        (hits,) = search(client, name, query[None], params)
        milliseconds.append((time.perf_counter() - started) * 1000)
        recalls.append(sum(hit["distance"] >= tenth - TOLERANCE for hit in hits) / 10)
    return (
        float(reached.mean()),
        float(reached[unique].mean()),
        float(np.mean(recalls)),
        median(milliseconds),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpus", type=Path, nargs="?", default=CORPUS)
    parser.add_argument("--url", help="of a Milvus server (default: Milvus Lite)")
    parser.add_argument("--copies", type=int, default=0, help="further rows of each of 30 texts")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    console = Console()
    rows = read(options.corpus, options.copies)
    scores = rows.queries @ rows.vectors.T
    # The tenth best score of each query among all rows; each of several equal rows counts.
    best = np.array([np.partition(line[rows.text_of], -10)[-10] for line in scores])
    console.print(f"{len(rows.text_of):,} rows, {len(rows.vectors):,} distinct texts")
    results = []
    with fresh_home() as home:
        url = options.url
        if url is None:
            rag(home, "up")
            url = running(home)["milvus"]
        client = MilvusClient(uri=url)
        console.print(f"Milvus {client.get_server_version()}")
        built: dict[str, tuple[str, float]] = {}
        for index, params, search_params in CHOICES:
            key = json.dumps([index, params])
            if key not in built:
                name = f"reach_{len(built)}"
                if client.has_collection(name):
                    client.drop_collection(name)
                built[key] = (name, fill(client, name, rows, index, params))
            name, seconds = built[key]
            reached, unique, recall, milliseconds = measure(client, name, rows, best, search_params)
            results.append(
                Result(index, params, search_params, seconds, reached, unique, recall, milliseconds)
            )
            console.print(results[-1])
    table = Table("index", "search", "seconds to build", "reached", "of unique", "recall@10", "ms")
    for result in results:
        table.add_row(
            f"{result.index} {result.params or ''}", str(result.search or ""), f"{result.seconds:.1f}",
            f"{result.reached:.3%}", f"{result.unique:.3%}", f"{result.recall:.3f}", f"{result.milliseconds:.1f}",
        )  # fmt: skip
    console.print(table)
    if options.json:
        options.json.write_text(json.dumps([asdict(result) for result in results], indent=2))


if __name__ == "__main__":
    main()
