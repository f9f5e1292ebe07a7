"""Search under load: `python -m tests.benchmarks.search_load [--chunks 100000] [--url URL] [--home DIR] [--json FILE]`.

So many chunks with the dense vectors of `lexical`, made of the paragraphs of the corpora beside the project: real ones,
in new orders until there are enough distinct texts. Then 1, 8 and 32 threads search at once, as a service would, with
questions that are not remembered; every search is embedded, answered by Milvus, hydrated. What is ours is the time of
a search outside the request to Milvus. Without a URL on Milvus Lite. `--home`: an ingested deployment, made or kept.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from rag_assets.deployment import Deployment
from rag_assets.evaluation.known_items import questions
from rag_assets.pipeline.filters import Filters
from rag_assets.search.searcher import Searcher
from resources.postgres.connection import Connection
from resources.postgres.consistency.counts import count_everything
from resources.postgres.registry.sources import get_source
from resources.postgres.search.hydration import hydrate
from tests.benchmarks.ingestion import CORPUS
from tests.benchmarks.rag_command import fresh_home, rag

CLIENTS = (1, 8, 32)
QUESTIONS = 2000  # more than the searcher remembers
K = 10
#: Characters of a distinct chunk of these corpora, and paragraphs of a document that is made of them.
CHUNK_CHARACTERS, PARAGRAPHS = 850, 40
SOURCE = "load"


def write_corpus(folder: Path, chunks: int) -> None:
    """Documents of the corpora's distinct paragraphs, language by language; each round in another order."""
    known: set[str] = set()
    groups: dict[str, list[str]] = {}
    for path in sorted(CORPUS.parent.rglob("*.md")):
        corpus, language, *_ = path.relative_to(CORPUS.parent).parts
        group = groups.setdefault(corpus if corpus == CORPUS.name else f"{corpus}-{language}", [])
        for paragraph in path.read_text(encoding="utf-8", errors="replace").split("\n\n"):
            if 40 <= len(paragraph) <= 4000 and paragraph not in known:
                known.add(paragraph)
                group.append(paragraph)
    wanted, written = chunks * CHUNK_CHARACTERS, 0
    for turn in count():
        for name, paragraphs in groups.items():
            if turn:
                random.Random(f"{name} {turn}").shuffle(paragraphs)
            for start in range(0, len(paragraphs), PARAGRAPHS):
                if written >= wanted:
                    return
                text = "\n\n".join(paragraphs[start : start + PARAGRAPHS])
                path = folder / f"{turn:02}" / name / f"{start}.md"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
                written += len(text)


class TimedClient:
    """A Milvus client that knows how long the searches of a thread took in it."""

    def __init__(self, client: Any) -> None:
        self._client, self.own = client, threading.local()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def search(self, *arguments: Any, **options: Any) -> Any:
        started = time.perf_counter()
        try:
            return self._client.search(*arguments, **options)
        finally:
            self.own.seconds = getattr(self.own, "seconds", 0.0) + time.perf_counter() - started


@dataclass(frozen=True)
class Load:
    """Milliseconds; `ours`: median outside of Milvus, `share`: of all the time."""

    clients: int
    queries_per_second: float
    p50: float
    p95: float
    p99: float
    milvus: float
    ours: float
    share: float


def measure(searcher: Searcher, asked: Sequence[str], clients: int, seconds: float) -> Load:
    timed = TimedClient(searcher.milvus.client)
    searcher.milvus.__dict__["client"] = timed
    numbers, started = count(), time.perf_counter()

    def client() -> list[tuple[float, float]]:
        taken = []
        while (begun := time.perf_counter()) - started < seconds:
            timed.own.seconds = 0.0
            searcher.search(asked[next(numbers) % len(asked)], mode="dense", k=K)
            taken.append((time.perf_counter() - begun, timed.own.seconds))
        return taken

    with ThreadPoolExecutor(clients) as pool:
        jobs = [pool.submit(client) for _ in range(clients)]
        taken = np.array([pair for job in jobs for pair in job.result()]) * 1000
    elapsed = time.perf_counter() - started
    searcher.milvus.__dict__["client"] = timed._client
    whole, inside = taken.T
    p50, p95, p99 = np.percentile(whole, [50, 95, 99]).tolist()
    ours = whole - inside
    return Load(
        clients, len(whole) / elapsed, p50, p95, p99, float(np.median(inside)), float(np.median(ours)),
        float(ours.sum() / whole.sum()),
    )  # fmt: skip


def warm_up(connection: Connection) -> None:
    """Reads every chunk as a search does: PostgreSQL has in memory what a service of some hours has there."""
    with connection.transaction(), connection.cursor(name="chunks") as cursor:
        cursor.execute("SELECT id FROM document_chunks")
        while rows := cursor.fetchmany(K * 10):
            hydrate(connection, [chunk for (chunk,) in rows], Filters())


@contextmanager
def kept(home: Path) -> Iterator[Path]:
    home.mkdir(parents=True, exist_ok=True)
    yield home


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chunks", type=int, default=100_000)
    parser.add_argument("--url", default="", help="of a Milvus server; else Milvus Lite")
    parser.add_argument("--home", type=Path, help="of a deployment that stays; else a new one")
    parser.add_argument("--seconds", type=float, default=20, help="of each number of clients")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    console = Console()
    with kept(options.home) if options.home else fresh_home() as home:
        own = {"embedder": "lexical", "milvus_uri": options.url}
        corpus = home / "corpus"
        if not corpus.is_dir():
            write_corpus(corpus, options.chunks)
            rag(home, "ingest", str(corpus), "--name", SOURCE, **own)  # pyright: ignore[reportArgumentType]
        own |= {"home": str(home), "vectors": "dense"}
        os.environ |= {f"RAG_{name.upper()}": value for name, value in own.items()}
        deployment = Deployment.from_environment()
        deployment.start()
        with deployment.postgres().connect(autocommit=True) as connection:
            counts = count_everything(connection)
            warm_up(connection)
            texts = questions(connection, get_source(connection, SOURCE), QUESTIONS)
        asked = [text for _, text in texts]
        loads = []
        with deployment.searcher() as searcher:
            version = searcher.milvus.client.get_server_version()
            console.print(f"Milvus {version}, {counts}, {len(asked)} questions")
            searcher.milvus.rest()
            for text in asked[:50]:
                searcher.search(text, mode="dense", k=K)
            for clients in CLIENTS:
                loads.append(measure(searcher, asked, clients, options.seconds))
                console.print(loads[-1])
    table = Table("clients", "QPS", "p50 ms", "p95", "p99", "Milvus p50", "ours p50", "our share")
    for each in loads:
        figures = (each.queries_per_second, each.p50, each.p95, each.p99, each.milvus, each.ours)
        table.add_row(str(each.clients), *(f"{figure:.1f}" for figure in figures), f"{each.share:.0%}")  # fmt: skip
    console.print(table)
    if options.json:
        found = {"server": version, "counts": counts, "loads": [asdict(each) for each in loads]}
        options.json.write_text(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
