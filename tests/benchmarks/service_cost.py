"""What HTTP adds to a search: `python -m tests.benchmarks.service_cost CORPUS [--seconds 20] [--clients 8] [--json F]`.

The same questions, in turns: by threads that call the use-case in one process, and by `wrk` over HTTP with an API key:
authentication, limits, the audit and the log included. The service has one worker, then two. `--pause`: milliseconds
between two searches of a client; 0 loads the machine fully, so that the time of a search is the inverse of its rate.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from rag_assets.deployment import Deployment
from rag_assets.pipeline.access import AccessScope
from rag_assets.search.request import SearchRequest
from rag_assets.settings.load import Settings
from tests.benchmarks.rag_command import RAG, fresh_home, rag

QUESTIONS = 200
_SCRIPT = """
local bodies = {%s}
local n = math.random(#bodies)
wrk.method = "POST"
wrk.headers["Authorization"] = "Bearer %s"
wrk.headers["Content-Type"] = "application/json"
delay = function() return %d end
request = function()
  n = n %% #bodies + 1
  return wrk.format(nil, nil, nil, bodies[n])
end
done = function(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format("RESULT %%f %%f %%f %%d %%d %%f\\n", latency:percentile(50), latency:percentile(95),
    latency:percentile(99), summary.requests, errors.status + errors.connect + errors.read + errors.timeout,
    summary.duration))
end
"""


@dataclass(frozen=True)
class Row:
    """Milliseconds of a search, and searches a second."""

    way: str
    p50: float
    p95: float
    p99: float
    rate: float
    errors: int


def questions(corpus: Path) -> list[str]:
    """Return parts of sentences of the corpus."""
    texts = " ".join(
        path.read_text("utf-8", "replace") for path in sorted(corpus.rglob("*.md"))[:200]
    )
    words = re.findall(r"\w+", texts)
    chosen = random.Random(7)
    starts = [chosen.randrange(len(words) - 9) for _ in range(QUESTIONS)]
    return [" ".join(words[start : start + 8]) for start in starts]


def plain(home: Path, texts: Sequence[str], clients: int, seconds: float, pause: int) -> Row:
    """Call the use-case from threads of this process."""
    taken: list[float] = []
    scope, end = AccessScope.owner(), time.monotonic() + seconds
    with Deployment(Settings(home=home)).searcher() as searcher:
        for text in texts:
            searcher.answer(SearchRequest(text), scope)

        def ask(number: int) -> None:
            while time.monotonic() < end:
                number += 1
                time.sleep(pause / 1000)
                started = time.perf_counter()
                searcher.answer(SearchRequest(texts[number % len(texts)]), scope)
                taken.append((time.perf_counter() - started) * 1000)

        end = time.monotonic() + seconds
        threads = [threading.Thread(target=ask, args=(n * 20,)) for n in range(clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    p50, p95, p99 = np.percentile(taken, [50, 95, 99])
    return Row("use-case, one process", p50, p95, p99, len(taken) / seconds, 0)


@contextmanager
def service(home: Path, *options: str) -> Iterator[str]:
    """Run `rag serve` without limits of its users. Yields its URL."""
    process = subprocess.Popen(
        [RAG, "serve", "--port", "0", *options],
        env={**os.environ, "RAG_HOME": str(home), "RAG_USER_REQUESTS_PER_MINUTE": "1000000"},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    try:
        yield process.stdout.readline().split()[1]
    finally:
        process.terminate()
        process.wait(60)


def over_http(
    url: str, key: str, texts: Sequence[str], clients: int, seconds: float, pause: int, way: str
) -> Row:
    bodies = ",".join(json.dumps(json.dumps({"query": text})) for text in texts)
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(_SCRIPT % (bodies, key, pause))
        script.flush()
        # The first run fills the caches.
        for length in (4, seconds):
            command = ["wrk", "-t2", f"-c{clients}", f"-d{length:g}s", "-s", script.name]
            output = subprocess.run(
                [*command, f"{url}/v1/search"], capture_output=True, text=True, check=True
            ).stdout
    found = re.search(r"RESULT (\S+) (\S+) (\S+) (\d+) (\d+) (\S+)", output)
    assert found, output
    p50, p95, p99, requests, errors, duration = map(float, found.groups())
    return Row(way, p50 / 1e3, p95 / 1e3, p99 / 1e3, requests / duration * 1e6, int(errors))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--pause", type=int, default=0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    texts = questions(options.corpus)
    rows: list[Row] = []
    with fresh_home() as home:
        rag(
            home,
            "ingest",
            str(options.corpus),
            "--json",
            vectors="dense,sparse",
            embedder="lexical",
        )
        rag(home, "users", "add", "load@example.com", "--username", "load", "--role", "super_admin")
        made = rag(
            home,
            "keys",
            "add",
            "--user",
            "load",
            "--name",
            "load",
            "--rate-limit",
            "1000000",
            "--json",
        ).json()
        for _ in range(options.turns):
            rows.append(plain(home, texts, options.clients, options.seconds, options.pause))
            for workers in (1, 2):
                with service(home, "--workers", str(workers)) as url:
                    way = f"HTTP, {workers} worker{'s' * (workers > 1)}"
                    rows.append(
                        over_http(
                            url,
                            made["key"],
                            texts,
                            options.clients,
                            options.seconds,
                            options.pause,
                            way,
                        )
                    )
    table = Table("", "p50 ms", "p95 ms", "p99 ms", "a second", "errors")
    for row in rows:
        numbers = (row.p50, row.p95, row.p99, row.rate)
        table.add_row(row.way, *(f"{number:.1f}" for number in numbers), str(row.errors))
    Console(width=100).print(table)
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=1))


if __name__ == "__main__":
    main()
