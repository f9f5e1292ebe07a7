"""How the cost grows with the number of chunks: `python -m tests.benchmarks.growth [--chunks 20000 100000 300000]
[--json FILE]`.

Dense and sparse vectors of `lexical`, embedded servers, a fresh home for each size, documents of `real_text`. Measured:
the first load, the servers' work after it, a sync of nothing and of 1 % edited documents, the full check, searches with
1 and 8 clients, memory, disk. Processor seconds are those of the command, of PostgreSQL and of Milvus.

"per chunk" is the cost per chunk at the largest size divided by that at the smallest: above 1, the cost grows faster
than its work. A fixed cost can hide that, so "slope" compares the further cost of a further chunk between the last two
sizes and between the first two. Each step has a time limit (`LIMITS`).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil
from rich.table import Column, Table

from resources.embedded.milvus import find_milvus
from resources.embedded.postgres import postmaster
from tests.benchmarks.claims import number
from tests.benchmarks.rag_command import Finished, NotFinished, fresh_home, rag
from tests.benchmarks.real_text import write_real_text
from tests.benchmarks.report import machine, out, say
from tests.benchmarks.usage import Peaks, disk_bytes, memory, processor_seconds, tree, until_idle
from tests.benchmarks.workload import edit_one_percent

SOURCE = "load"
SETTINGS = {"embedder": "lexical", "vectors": "dense,sparse"}
#: Step -> maximum seconds.
LIMITS = {
    "start": 120, "load": 3600, "after load": 1200, "unchanged": 600, "edited": 1200, "check": 1800,
    "dense": 900, "hybrid": 900,
}  # fmt: skip
#: Numbers of clients that search at once.
CLIENTS = (1, 8)
MIB = 2**20

#: Name -> number. Names that end with "/s" are rates, the others are costs.
Figures = dict[str, float]


@dataclass
class Size:
    """The measurements of one size. `not_measured`: step -> reason."""

    chunks: int = 0
    documents: int = 0
    figures: Figures = field(default_factory=dict)
    not_measured: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Deployed:
    """A home, and how its commands are run."""

    home: Path
    search_seconds: float

    @property
    def corpus(self) -> Path:
        return self.home / "corpus"

    def servers(self) -> dict[str, psutil.Process]:
        """Name -> process of the servers that run."""
        servers = {
            "PostgreSQL": postmaster(self.home / "postgres"),
            "Milvus": find_milvus(self.home),
        }
        return {name: server.process for name, server in servers.items() if server}

    def peaks(self) -> Peaks:
        def server(name: str) -> Callable[[], Sequence[psutil.Process]]:
            return lambda: [process for key, process in self.servers().items() if key == name]

        # The command is the only child of this process.
        own = {"rag": lambda: tree(psutil.Process())[1:2]}
        return Peaks({**own, "PostgreSQL": server("PostgreSQL"), "Milvus": server("Milvus")})

    def run(self, step: str, *arguments: str, **options: Any) -> tuple[Finished, Figures]:
        """Run a command of the step. Returns it with its seconds, processor seconds and highest memory."""
        before = {name: processor_seconds(process) for name, process in self.servers().items()}
        with self.peaks() as peaks:
            finished = rag(self.home, *arguments, limit=LIMITS[step], **SETTINGS, **options)
        figures = {f"{step}, s": finished.seconds, f"{step}, CPU s rag": finished.processor}
        for name, process in self.servers().items():
            used = processor_seconds(process) - before.get(name, 0.0)
            figures[f"{step}, CPU s {name}"] = used
        peaks.bytes["rag"] = max(peaks.bytes["rag"], finished.peak_rss)
        for name, size in peaks.bytes.items():
            figures[f"{step}, peak MiB {name}"] = size / MIB
        return finished, figures

    def ingest(self, step: str, source: str, *options: str) -> tuple[dict[str, Any], Figures]:
        """Run an ingestion. Returns its plan, and its figures with the seconds of each asset."""
        finished, figures = self.run(step, "ingest", source, *options, "--json")
        report = finished.report()
        assets = {f"{step}, s {name}": seconds for name, seconds in report["seconds"].items()}
        return report["plan"], figures | assets

    def load(self, size: Size) -> Figures:
        plan, figures = self.ingest("load", str(self.corpus), "--name", SOURCE)
        size.chunks = plan["dense_vectors"]["inserted"]
        if failed := {
            asset: counts["failed"] for asset, counts in plan.items() if counts["failed"]
        }:
            size.not_measured["failed in the load"] = json.dumps(failed)
        return {"load, chunks/s": size.chunks / figures["load, s"], **figures}

    def after_load(self) -> Figures:
        """The work that the servers do once the load has ended: flushes and indexes of Milvus, vacuum."""
        before = {name: processor_seconds(process) for name, process in self.servers().items()}
        idle = until_idle(self.servers().values(), LIMITS["after load"])
        if not idle:
            raise NotFinished(f"not idle in {LIMITS['after load']} s")
        used = {name: processor_seconds(process) for name, process in self.servers().items()}
        figures = {f"after load, CPU s {name}": used[name] - before[name] for name in used}
        sizes = {name: memory(process) for name, process in self.servers().items()}
        return figures | {f"after load, MiB {name}": size / MIB for name, size in sizes.items()}

    def unchanged(self) -> Figures:
        return self.ingest("unchanged", SOURCE)[1]

    def edited(self) -> Figures:
        edit_one_percent(self.corpus)
        return self.ingest("edited", SOURCE)[1]

    def check(self, size: Size) -> Figures:
        finished, figures = self.run("check", "check", "--json", fails=True)
        report = finished.json()
        failed = [check for check in report["checks"] if not check["passed"]]
        if failed:
            size.not_measured["checks that did not pass"] = json.dumps(failed)[:500]
        return figures

    def search(self, mode: str) -> Figures:
        """Milliseconds of searches. Milvus is started again for them."""
        output = self.home / f"{mode}.json"
        arguments = ["--home", self.home, "--mode", mode, "--seconds", self.search_seconds]
        arguments += ["--json", output, "--clients", *CLIENTS]
        program = (sys.executable, "-m", "tests.benchmarks.search_load")
        self.run(mode, *map(str, arguments), program=program)
        figures = {f"{mode}, MiB Milvus": memory(self.servers()["Milvus"]) / MIB}
        for load in json.loads(output.read_text())["loads"]:
            name = f"{mode}, {load['clients']} clients"
            figures |= {f"{name}, ms {part}": load[part] for part in ("p50", "p95")}
            figures |= {f"{name}, CPU ms {part}": load[part] for part in ("searcher", "server")}
            figures[f"{name}, searches/s"] = load["queries_per_second"]
        return figures

    def disk(self) -> Figures:
        """MiB of the folders of the home. The log of PostgreSQL has an upper limit, so it counts alone."""
        folders = ("postgres", "postgres/pg_wal", "storage", "milvus")
        sizes = {name: disk_bytes(self.home / name) for name in folders}
        sizes["postgres"] -= sizes["postgres/pg_wal"]
        return {f"disk, MiB {name}": size / MIB for name, size in sizes.items()}


def measure(chunks: int, search_seconds: float, size: Size, save: Callable[[], None]) -> None:
    """Measure one size in a fresh home, step by step; `save` is called after each."""
    with fresh_home() as folder:
        deployed = Deployed(folder.resolve(), search_seconds)
        size.documents = write_real_text(deployed.corpus, chunks)
        say(f"{chunks:,} chunks: {size.documents:,} documents written")

        def start() -> Figures:
            rag(deployed.home, "up", limit=LIMITS["start"], **SETTINGS)  # pyright: ignore[reportArgumentType]
            return {}

        steps: dict[str, Callable[[], Figures]] = {
            "start": start,
            "load": lambda: deployed.load(size),
            "after load": deployed.after_load,
            "disk": deployed.disk,
            "unchanged": deployed.unchanged,
            "edited": deployed.edited,
            "check": lambda: deployed.check(size),
            "dense": lambda: deployed.search("dense"),
            "hybrid": lambda: deployed.search("hybrid"),
        }
        for step, run in steps.items():
            try:
                figures = run()
                say(f"{chunks:,} chunks, {step}: {json.dumps(figures)}")
                size.figures |= figures
            except (NotFinished, SystemExit, OSError, ValueError, KeyError) as error:
                # After SIGTERM, the code is a number.
                if isinstance(error, SystemExit) and not isinstance(error.code, str):
                    raise
                size.not_measured[step] = str(error)[-2000:]
                say(f"{chunks:,} chunks, {step}: {error}")
            save()
            if not size.chunks and step == "load":
                return
            if step in ("edited", "check"):
                until_idle(deployed.servers().values(), LIMITS["after load"])


def ratios(name: str, sizes: Sequence[Size]) -> tuple[float | None, float | None]:
    """The cost per chunk, of the largest size to the smallest; and the slope, of the last two to the first two."""
    points = [(size.chunks, size.figures[name]) for size in sizes if name in size.figures]
    if name.endswith("/s") or len(points) < 2 or points[0][1] <= 0:
        return None, None
    (few, small), (many, large) = points[0], points[-1]
    per_chunk = (large / many) / (small / few)
    if len(points) < 3:
        return per_chunk, None
    first, last = ((b[1] - a[1]) / (b[0] - a[0]) for a, b in (points[:2], points[-2:]))
    return per_chunk, last / first if first > 0 else None


def show(sizes: Mapping[int, Size]) -> None:
    measured = [sizes[chunks] for chunks in sorted(sizes) if sizes[chunks].chunks]
    columns = [f"{size.chunks:,}" for size in measured]
    table = Table("", *(Column(name, justify="right") for name in (*columns, "per chunk", "slope")))
    for name in dict.fromkeys(name for size in measured for name in size.figures):
        cells = [number(size.figures[name]) if name in size.figures else "" for size in measured]
        per_chunk, slope = ratios(name, measured)
        table.add_row(
            name, *cells, *(number(ratio) if ratio else "" for ratio in (per_chunk, slope))
        )
    out.print(table)
    for chunks, size in sizes.items():
        for step, reason in size.not_measured.items():
            out.print(f"{chunks:,} chunks, {step}: {reason}", markup=False, soft_wrap=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chunks", type=int, nargs="+", default=[20_000, 100_000, 300_000])
    parser.add_argument("--seconds", type=float, default=20, help="of each measurement of searches")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    sizes: dict[int, Size] = {}

    def save() -> None:
        if options.json:
            results = {
                "machine": machine(),
                "sizes": {n: asdict(size) for n, size in sizes.items()},
            }
            options.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")

    for chunks in sorted(options.chunks):
        sizes[chunks] = Size()
        measure(chunks, options.seconds, sizes[chunks], save)
    show(sizes)


if __name__ == "__main__":
    main()
