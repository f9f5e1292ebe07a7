"""The embedded vector search compared with other embedded indexes: `python -m tests.benchmarks.embedded_peers
[--rows 100000] [--rounds 5] [--vectors FILE.npy] [--only SIDE ...] [--json FILE]`.

The dense vectors of `lexical` (1,024 numbers) of distinct chunks of `real_text`; 500 further chunks are the queries.
Each side has its own process and interpreter (`make peers`). Its settings are raised until it finds RECALL of the ten
nearest rows; then all sides answer the same 200 queries in turns, one by one. Ours is a server, so its searches include
gRPC; the others search in their own process, and some on all processors. Filters, durability and hydration are not
compared. `--vectors`: keep the vectors for the next run.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import psutil
from rich.console import Console
from rich.table import Column, Table

from resources.embedded.stack import stop
from tests.benchmarks import baselines
from tests.benchmarks.claims import number
from tests.benchmarks.peer_index import QUERIES
from tests.benchmarks.peer_sides import OURS, SIDES, Parameters, Side
from tests.benchmarks.peer_vectors import Truth, make_vectors
from tests.benchmarks.rag_command import ROOT
from tests.benchmarks.report import machine, out, say
from tests.benchmarks.usage import disk_bytes, memory

RECALL = 0.98
#: Queries of a round.
TURN = 200
#: Maximum seconds of a build, and of all searches of one request.
BUILD, SEARCHES = 1800, 600
MIB = 2**20


@dataclass
class Result:
    """`rounds`: (p50, p95) of each, in milliseconds. `reached`: whether the recall is at least RECALL."""

    version: str
    build: Parameters
    effort: Parameters
    build_seconds: float
    recall: float
    disk_bytes: int
    memory_bytes: int = 0
    rounds: list[tuple[float, float]] = field(default_factory=list)

    @property
    def reached(self) -> bool:
        return self.recall >= RECALL


class Worker:
    """The process of one built index."""

    def __init__(self, side: Side, vectors: Path, folder: Path) -> None:
        python = baselines.python_of(side.environment) if side.environment else sys.executable
        script = Path(__file__).with_name("peer_index.py")
        environment = {key: os.environ[key] for key in os.environ if not key.startswith("RAG_")}
        self.folder = folder
        self.pids: list[int] = []
        self._process = subprocess.Popen(
            [python, "-P", script, side.index, vectors, folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=(folder / "log").open("w"),
            text=True,
            env=environment | {"PYTHONPATH": str(ROOT), "GRPC_VERBOSITY": "NONE"},
        )

    def ask(self, limit: float, **request: Any) -> dict[str, Any]:
        """Send a request. Raises SystemExit if the process ends, or gives no answer in `limit` seconds."""
        assert self._process.stdin and self._process.stdout
        late = threading.Event()
        timer = threading.Timer(limit, lambda: (late.set(), self._process.kill()))
        timer.daemon = True
        timer.start()
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        finally:
            timer.cancel()
        if not line:
            log = (self.folder / "log").read_text(errors="replace").strip().rpartition("\n")[2]
            raise SystemExit(
                f"not finished in {limit:g} s" if late.is_set() else f"ended: {log[-300:]}"
            )
        return json.loads(line)

    def memory_bytes(self) -> int:
        return memory(*(psutil.Process(pid) for pid in self.pids))

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        stop(self.folder, timeout=120)


def prepare(name: str, file: Path, truth: Truth, stack: ExitStack) -> tuple[Worker, Result]:
    """Build the index of a side until it reaches RECALL. Raises SystemExit if it cannot be built.

    The last one, of the highest parameters, stays if none does.
    """
    side = SIDES[name]
    if side.environment and (reason := baselines.missing(side.environment, side.modules, "peers")):
        raise SystemExit(reason)
    for attempt, build in enumerate(side.builds):
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rag-bench-")))
        worker = Worker(side, file, folder)
        # Before the folder is removed.
        stack.callback(worker.close)
        answer = worker.ask(BUILD, build=build, effort=side.efforts[0])
        worker.pids = answer["pids"]
        for effort in side.efforts:
            found = worker.ask(SEARCHES, search=list(range(QUERIES)), effort=effort)
            result = Result(
                answer["version"], build, effort, answer["seconds"], truth.recall(found["ids"]),
                disk_bytes(folder),
            )  # fmt: skip
            say(f"{name}: {json.dumps(asdict(result))}, p50 {median(found['milliseconds']):.2f} ms")
            if result.reached:
                return worker, result
        if attempt + 1 < len(side.builds):
            worker.close()
    return worker, result  # pyright: ignore[reportPossiblyUnboundVariable]


@dataclass
class Comparison:
    """All results so far. `failed`: side -> reason."""

    results: dict[str, Result] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    def measure(
        self, file: Path, names: Sequence[str], rounds: int, save: Callable[[], None]
    ) -> None:
        """Build the indexes, then search in turns; `save` is called after each step."""
        truth = Truth(file)
        with ExitStack() as stack:
            workers: dict[str, Worker] = {}
            for name in names:
                try:
                    workers[name], self.results[name] = prepare(name, file, truth, stack)
                except SystemExit as error:
                    self._fail(name, error)
                save()
            for turn in range(rounds):
                first = turn % max(1, len(workers))
                for name in [*workers][first:] + [*workers][:first]:
                    try:
                        self._search(turn, name, workers[name])
                    except SystemExit as error:
                        self._fail(name, error)
                        del workers[name]
                save()

    def _fail(self, name: str, error: SystemExit) -> None:
        # After SIGTERM, the code is a number.
        if not isinstance(error.code, str):
            raise error
        self.failed[name] = error.code
        say(f"{name}: {error.code}")

    def _search(self, turn: int, name: str, worker: Worker) -> None:
        result = self.results[name]
        queries = [(turn * TURN + at) % QUERIES for at in range(TURN)]
        # First without the clock, as in the midst of many searches.
        worker.ask(SEARCHES, search=queries[:20], effort=result.effort)
        found = worker.ask(SEARCHES, search=queries, effort=result.effort)
        p50, p95 = np.percentile(found["milliseconds"], [50, 95]).tolist()
        result.rounds.append((p50, p95))
        result.memory_bytes = worker.memory_bytes()
        say(f"round {turn + 1}, {name}: p50 {p50:.2f} ms, p95 {p95:.2f}")


def show(comparison: Comparison) -> None:
    columns = (
        "recall", "build s", "memory MiB", "disk MiB", "p50 ms", "p95 ms", "ours / it, p50", "spread", "p95",
    )  # fmt: skip
    table = Table("side", "settings", *(Column(name, justify="right") for name in columns))
    measured = {name: result for name, result in comparison.results.items() if result.rounds}
    ours = measured[OURS].rounds if OURS in measured else []
    for name, result in measured.items():
        sizes = (result.memory_bytes / MIB, result.disk_bytes / MIB)
        p50, p95 = (median(values) for values in zip(*result.rounds))
        ratios = [[a[at] / b[at] for a, b in zip(ours, result.rounds)] for at in range(2)]
        spread = [number(limit(ratios[0])) for limit in (min, max)] if ours else []
        table.add_row(
            f"{name} ({result.version})",
            ", ".join(f"{key} {value}" for key, value in {**result.build, **result.effort}.items()),
            f"{result.recall:.3f}{'' if result.reached else ', too low'}",
            *(number(value) for value in (result.build_seconds, *sizes, p50, p95)),
            number(median(ratios[0])) if ours else "",
            " to ".join(spread),
            number(median(ratios[1])) if ours else "",
        )
    # A file or a pipe has no width.
    (out if out.is_terminal else Console(highlight=False, width=190)).print(table)
    for name, reason in comparison.failed.items():
        out.print(f"{name}: {reason}", markup=False, soft_wrap=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--vectors", type=Path, help="written if it is missing or has another size")
    parser.add_argument("--only", nargs="+", choices=SIDES, default=list(SIDES))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    # SystemExit on SIGTERM, so that the servers are stopped.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    comparison = Comparison()

    def save() -> None:
        if options.json:
            figures = {"rows": options.rows, "machine": machine(), **asdict(comparison)}
            options.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")

    with tempfile.TemporaryDirectory(prefix="rag-bench-vectors-") as folder:
        file = options.vectors or Path(folder) / "vectors.npy"
        if not file.exists() or len(np.load(file, mmap_mode="r")) != options.rows + QUERIES:
            make_vectors(file, options.rows)
        comparison.measure(file, options.only, options.rounds, save)
    show(comparison)


if __name__ == "__main__":
    main()
