"""Search under load: `python -m tests.benchmarks.search_load [--chunks 100000] [--url URL] [--home DIR] [--json FILE]
[--original] [--turns N] [--mode dense]`.

`--chunks` chunks of `real_text` with the dense vectors of `lexical`. Then 1, 8 and 32 threads (`--clients`) search at
once, as a service does, with questions that are not in the cache: each search is embedded, answered by Milvus,
hydrated. "Ours" is the time of a search outside the request to Milvus. Without a URL on Milvus Lite. `--home`: create
or reuse an ingested deployment.

`--original`: measure in turns with Milvus Lite's own executor, one request at a time, and no shared requests. Processor
milliseconds per search are comparable on a machine that others use; other milliseconds are not.
"""

from __future__ import annotations

import argparse
import json
import os
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from rich.console import Console
from rich.table import Table

from rag_assets.deployment import Deployment
from rag_assets.evaluation.known_items import questions
from rag_assets.search.candidates import SearchBatches
from rag_assets.search.request import AccessScope, Filters, Mode, SearchRequest
from rag_assets.search.searcher import Searcher
from resources.embedded.milvus import start_milvus, stop_milvus
from resources.embedded.milvus_server import ORIGINAL_SEARCH
from resources.postgres.connection import Connection
from resources.postgres.consistency.counts import count_everything
from resources.postgres.registry.sources import get_source
from resources.postgres.search.hydration import hydrate
from tests.benchmarks.rag_command import fresh_home, rag
from tests.benchmarks.real_text import write_real_text
from tests.benchmarks.usage import until_idle

CLIENTS = (1, 8, 32)
#: More than the searcher caches.
QUESTIONS = 4000
K = 10
SOURCE = "load"
#: Maximum seconds for the sketches of all rows: 5 at 100,000.
SKETCHES = 300


class TimedClient:
    """A Milvus client that measures the seconds of each thread's searches in it."""

    def __init__(self, client: Any) -> None:
        self._client, self.thread = client, threading.local()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def nearest(self, *arguments: Any, **options: Any) -> Any:
        started = time.perf_counter()
        try:
            return self._client.nearest(*arguments, **options)
        finally:
            elapsed = time.perf_counter() - started
            self.thread.seconds = getattr(self.thread, "seconds", 0.0) + elapsed


@dataclass(frozen=True)
class Load:
    """Milliseconds per search. `ours`: median outside of Milvus; `share`: its share of the total time.

    `searcher` and `server`: processor milliseconds per search, of this process and of the embedded Milvus.
    """

    original: bool
    clients: int
    queries_per_second: float
    p50: float
    p95: float
    p99: float
    milvus: float
    ours: float
    share: float
    searcher: float
    server: float


@dataclass(frozen=True)
class Setting:
    """`server`: the process of the embedded Milvus, None for another server."""

    mode: Mode
    original: bool
    seconds: float
    server: psutil.Process | None

    def processor_seconds(self) -> tuple[float, float]:
        """Seconds of this process and of the server, in user and system mode."""
        processes = (psutil.Process(), self.server)
        own, server = (sum(each.cpu_times()[:2]) if each else 0.0 for each in processes)
        return own, server


def measure(searcher: Searcher, texts: Sequence[str], clients: int, setting: Setting) -> Load:
    timed = TimedClient(searcher.milvus.client)
    searcher.milvus.__dict__["client"] = timed
    before = setting.processor_seconds()
    numbers, started = count(), time.perf_counter()

    def client() -> list[tuple[float, float]]:
        taken = []
        while (begun := time.perf_counter()) - started < setting.seconds:
            timed.thread.seconds = 0.0
            request = SearchRequest(texts[next(numbers) % len(texts)], mode=setting.mode, k=K)
            searcher.search(request, AccessScope.owner())
            taken.append((time.perf_counter() - begun, timed.thread.seconds))
        return taken

    with ThreadPoolExecutor(clients) as pool:
        jobs = [pool.submit(client) for _ in range(clients)]
        taken = np.array([pair for job in jobs for pair in job.result()]) * 1000
    elapsed = time.perf_counter() - started
    own, server = np.subtract(setting.processor_seconds(), before) * 1000 / len(taken)
    searcher.milvus.__dict__["client"] = timed._client
    whole, inside = taken.T
    p50, p95, p99 = np.percentile(whole, [50, 95, 99]).tolist()
    ours = whole - inside
    return Load(
        setting.original, clients, len(whole) / elapsed, p50, p95, p99, float(np.median(inside)),
        float(np.median(ours)), float(ours.sum() / whole.sum()), float(own), float(server),
    )  # fmt: skip


def warm_up(connection: Connection) -> None:
    """Read every chunk as a search does, so that PostgreSQL has them in memory, as after hours of service."""
    with connection.transaction(), connection.cursor(name="chunks") as cursor:
        cursor.execute("SELECT id::text FROM document_chunks")
        while rows := cursor.fetchmany(K * 10):
            hydrate(connection, [chunk for (chunk,) in rows], Filters(), AccessScope.owner())


@contextmanager
def existing_home(home: Path) -> Iterator[Path]:
    """Yield the folder, created if it is missing. Unlike `fresh_home`, it stays."""
    home.mkdir(parents=True, exist_ok=True)
    yield home


def measure_all(
    deployment: Deployment,
    home: Path | None,
    texts: Sequence[str],
    mode: Mode,
    seconds: float,
    original: bool,
    clients: Sequence[int],
) -> tuple[str, list[Load]]:
    """Return the server's version and the loads. With a `home`, its Milvus is started for it."""
    server = None
    if home is not None:
        os.environ.pop(ORIGINAL_SEARCH, None)
        if original:
            os.environ[ORIGINAL_SEARCH] = "1"
        stop_milvus(home, 60)
        server = psutil.Process(start_milvus(home).pid)
    setting = Setting(mode, original, seconds, server)
    # Of one request each: never shared.
    batches: SearchBatches = SearchBatches(largest=1) if original else SearchBatches()
    with deployment.searcher() as made:
        searcher = replace(made, batches=batches)
        version = searcher.milvus.client.get_server_version()
        searcher.milvus.wait_for_flush()
        for text in texts[:50]:
            searcher.search(SearchRequest(text, mode=mode, k=K), AccessScope.owner())
        # The first search began to make sketches.
        until_idle([server] if server else [], SKETCHES)
        return version, [measure(searcher, texts, number, setting) for number in clients]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chunks", type=int, default=100_000)
    parser.add_argument("--url", default="", help="of a Milvus server (default: Milvus Lite)")
    parser.add_argument("--home", type=Path, help="of a deployment to keep (default: a new one)")
    parser.add_argument("--seconds", type=float, default=20, help="for each number of clients")
    parser.add_argument("--clients", type=int, nargs="+", default=CLIENTS)
    parser.add_argument("--mode", choices=("dense", "sparse", "hybrid"), default="dense")
    parser.add_argument("--original", action="store_true", help="measure before and after in turns")
    parser.add_argument("--turns", type=int, default=1)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    console = Console()
    vectors = "dense" if options.mode == "dense" else "dense,sparse"
    with existing_home(options.home) if options.home else fresh_home() as home:
        settings = {"embedder": "lexical", "milvus_uri": options.url, "vectors": vectors}
        corpus = home / "corpus"
        if not corpus.is_dir():
            write_real_text(corpus, options.chunks)
            rag(home, "ingest", str(corpus), "--name", SOURCE, **settings)  # pyright: ignore[reportArgumentType]
        settings |= {"home": str(home)}
        os.environ |= {f"RAG_{name.upper()}": value for name, value in settings.items()}
        deployment = Deployment.from_environment()
        deployment.start()
        with deployment.postgres().connect(autocommit=True) as connection:
            counts = count_everything(connection)
            warm_up(connection)
            items = questions(connection, get_source(connection, SOURCE), QUESTIONS)
        texts = [text for _, text in items]
        embedded = None if options.url else home
        loads: list[Load] = []
        for _ in range(options.turns):
            for original in (True, False) if options.original and embedded else (False,):
                version, measured = measure_all(
                    deployment, embedded, texts, options.mode, options.seconds, original,
                    options.clients,
                )  # fmt: skip
                loads += measured
        console.print(f"Milvus {version}, {counts}, {len(texts)} questions")
    table = Table(
        "original", "clients", "QPS", "p50 ms", "p95", "p99", "Milvus p50", "ours p50", "our share",
        "CPU searcher", "CPU Milvus",
    )  # fmt: skip
    for load in loads:
        figures = (load.queries_per_second, load.p50, load.p95, load.p99, load.milvus, load.ours)
        cpu = (load.searcher, load.server)
        table.add_row(
            "yes" if load.original else "", str(load.clients), *(f"{figure:.1f}" for figure in figures),
            f"{load.share:.0%}", *(f"{figure:.2f}" for figure in cpu),
        )  # fmt: skip
    console.print(table)
    if options.json:
        results = {"server": version, "counts": counts, "loads": [asdict(load) for load in loads]}
        options.json.write_text(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
