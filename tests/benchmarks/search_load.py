"""Search under load: `python -m tests.benchmarks.search_load [--chunks 100000] [--url URL] [--home DIR] [--json FILE]`.

`--chunks` chunks with the dense vectors of `lexical`, made of real paragraphs of the corpora beside the project,
reordered until there are enough distinct texts. Then 1, 8 and 32 threads search at once, as a service does, with
questions that are not in the cache: each search is embedded, answered by Milvus, hydrated. "Ours" is the time of a
search outside the request to Milvus. Without a URL on Milvus Lite. `--home`: create or reuse an ingested deployment.
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
from rag_assets.search.request import AccessScope, Filters, SearchRequest
from rag_assets.search.searcher import Searcher
from resources.postgres.connection import Connection
from resources.postgres.consistency.counts import count_everything
from resources.postgres.registry.sources import get_source
from resources.postgres.search.hydration import hydrate
from tests.benchmarks.ingestion import CORPUS
from tests.benchmarks.rag_command import fresh_home, rag

CLIENTS = (1, 8, 32)
#: More than the searcher caches.
QUESTIONS = 2000
K = 10
#: Characters per distinct chunk of these corpora, and paragraphs per generated document.
CHUNK_CHARACTERS, PARAGRAPHS = 850, 40
SOURCE = "load"


def write_corpus(folder: Path, chunks: int) -> None:
    """Write documents of the corpora's distinct paragraphs, by language; each round in another order."""
    seen: set[str] = set()
    groups: dict[str, list[str]] = {}
    for path in sorted(CORPUS.parent.rglob("*.md")):
        corpus, language, *_ = path.relative_to(CORPUS.parent).parts
        group = groups.setdefault(corpus if corpus == CORPUS.name else f"{corpus}-{language}", [])
        for paragraph in path.read_text(encoding="utf-8", errors="replace").split("\n\n"):
            if 40 <= len(paragraph) <= 4000 and paragraph not in seen:
                seen.add(paragraph)
                group.append(paragraph)
    size, written = chunks * CHUNK_CHARACTERS, 0
    for turn in count():
        for name, paragraphs in groups.items():
            if turn:
                random.Random(f"{name} {turn}").shuffle(paragraphs)
            for start in range(0, len(paragraphs), PARAGRAPHS):
                if written >= size:
                    return
                text = "\n\n".join(paragraphs[start : start + PARAGRAPHS])
                path = folder / f"{turn:02}" / name / f"{start}.md"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
                written += len(text)


class TimedClient:
    """A Milvus client that measures the seconds of each thread's searches in it."""

    def __init__(self, client: Any) -> None:
        self._client, self.thread = client, threading.local()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def search(self, *arguments: Any, **options: Any) -> Any:
        started = time.perf_counter()
        try:
            return self._client.search(*arguments, **options)
        finally:
            elapsed = time.perf_counter() - started
            self.thread.seconds = getattr(self.thread, "seconds", 0.0) + elapsed


@dataclass(frozen=True)
class Load:
    """Milliseconds per search. `ours`: median outside of Milvus; `share`: its share of the total time."""

    clients: int
    queries_per_second: float
    p50: float
    p95: float
    p99: float
    milvus: float
    ours: float
    share: float


def measure(searcher: Searcher, texts: Sequence[str], clients: int, seconds: float) -> Load:
    timed = TimedClient(searcher.milvus.client)
    searcher.milvus.__dict__["client"] = timed
    numbers, started = count(), time.perf_counter()

    def client() -> list[tuple[float, float]]:
        taken = []
        while (begun := time.perf_counter()) - started < seconds:
            timed.thread.seconds = 0.0
            request = SearchRequest(texts[next(numbers) % len(texts)], mode="dense", k=K)
            searcher.search(request, AccessScope.owner())
            taken.append((time.perf_counter() - begun, timed.thread.seconds))
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
    """Read every chunk as a search does, so that PostgreSQL has them in memory, as after hours of service."""
    with connection.transaction(), connection.cursor(name="chunks") as cursor:
        cursor.execute("SELECT id FROM document_chunks")
        while rows := cursor.fetchmany(K * 10):
            hydrate(connection, [chunk for (chunk,) in rows], Filters(), AccessScope.owner())


@contextmanager
def existing_home(home: Path) -> Iterator[Path]:
    """Yield the folder, created if it is missing. Unlike `fresh_home`, it stays."""
    home.mkdir(parents=True, exist_ok=True)
    yield home


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chunks", type=int, default=100_000)
    parser.add_argument("--url", default="", help="of a Milvus server (default: Milvus Lite)")
    parser.add_argument("--home", type=Path, help="of a deployment to keep (default: a new one)")
    parser.add_argument("--seconds", type=float, default=20, help="for each number of clients")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    console = Console()
    with existing_home(options.home) if options.home else fresh_home() as home:
        settings = {"embedder": "lexical", "milvus_uri": options.url}
        corpus = home / "corpus"
        if not corpus.is_dir():
            write_corpus(corpus, options.chunks)
            rag(home, "ingest", str(corpus), "--name", SOURCE, **settings)  # pyright: ignore[reportArgumentType]
        settings |= {"home": str(home), "vectors": "dense"}
        os.environ |= {f"RAG_{name.upper()}": value for name, value in settings.items()}
        deployment = Deployment.from_environment()
        deployment.start()
        with deployment.postgres().connect(autocommit=True) as connection:
            counts = count_everything(connection)
            warm_up(connection)
            items = questions(connection, get_source(connection, SOURCE), QUESTIONS)
        texts = [text for _, text in items]
        loads = []
        with deployment.searcher() as searcher:
            version = searcher.milvus.client.get_server_version()
            console.print(f"Milvus {version}, {counts}, {len(texts)} questions")
            searcher.milvus.wait_for_flush()
            for text in texts[:50]:
                searcher.search(SearchRequest(text, mode="dense", k=K), AccessScope.owner())
            for clients in CLIENTS:
                loads.append(measure(searcher, texts, clients, options.seconds))
                console.print(loads[-1])
    table = Table("clients", "QPS", "p50 ms", "p95", "p99", "Milvus p50", "ours p50", "our share")
    for load in loads:
        figures = (load.queries_per_second, load.p50, load.p95, load.p99, load.milvus, load.ours)
        table.add_row(str(load.clients), *(f"{figure:.1f}" for figure in figures), f"{load.share:.0%}")  # fmt: skip
    console.print(table)
    if options.json:
        results = {"server": version, "counts": counts, "loads": [asdict(load) for load in loads]}
        options.json.write_text(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
