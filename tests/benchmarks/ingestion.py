"""Ingestion compared with LangChain, LlamaIndex, its own floors, and itself without safety.

`python -m tests.benchmarks.ingestion [CORPUS] [--files N] [--rounds 5] [--only ROW ...] [--json FILE]`: cold, unchanged
and 1 % edited, with the same files and the same free dense vectors. The sides take turns, each in a fresh home with its
own servers while the servers of the others are down. Without the default corpus, a generated one is used.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from rich.table import Column, Table

from tests.benchmarks import baselines, unsafe
from tests.benchmarks.claims import Measured
from tests.benchmarks.memory import write_corpus
from tests.benchmarks.rag_command import RAG, ROOT, fresh_home, rag
from tests.benchmarks.report import finish, out, parser, say
from tests.benchmarks.workload import (
    PHASES,
    copy_corpus,
    edit_one_percent,
    markdown_files,
    until_quiet,
)

CORPUS = ROOT.parent / "shared" / "data" / "corpora" / "milvus-docs-versions"
#: Generated documents with about as many chunks as CORPUS, used if it is missing.
GENERATED = 1_750

#: Name -> seconds or counts.
Figures = dict[str, Any]

OURS, UNSAFE, FLOORS = "rag-assets", "without safety", "floors"
#: In the order of their turns.
SIDES = (OURS, UNSAFE, *baselines.BASELINES, FLOORS)
#: Row -> (our figure, other side, its figure).
ROWS = {
    "1": ("cold", "LangChain", "cold"),
    "2": ("cold", "LlamaIndex", "cold"),
    "3": ("unchanged", "LangChain", "unchanged"),
    "3 command": ("unchanged command", "LlamaIndex", "unchanged command"),
    "4": ("edited", "LlamaIndex", "edited"),
    "5": ("cold", FLOORS, FLOORS),
    "11": ("cold", UNSAFE, "cold"),
    "11 edited": ("edited", UNSAFE, "edited"),
}


def side(name: str, corpus: Path, files: int | None) -> Figures:
    """Run one side. Returns its figures."""
    if name == OURS:
        figures = ours(corpus, files, safe=True)
    elif name == UNSAFE:
        figures = ours(corpus, files, safe=False)
    elif name == FLOORS:
        figures = baselines.measure(sys.executable, "floors", corpus, files)
    else:
        environment, script, _ = baselines.BASELINES[name]
        figures = baselines.measure(baselines.python_of(environment), script, corpus, files)
    if not figures["quiet"]:
        say(f"{name}: the machine was not quiet, so these figures are unreliable")
    say(f"{name}: {json.dumps(figures)}")
    return figures


def ours(corpus: Path, files: int | None, *, safe: bool) -> Figures:
    """Seconds of each `phase` (sum of the assets), `phase asset` (one asset) and `phase command` (whole process)."""
    program = [RAG] if safe else [sys.executable, "-m", unsafe.__name__]
    figures: Figures = {"quiet": True}
    with fresh_home() as home:
        folder = copy_corpus(corpus, home / "corpus", files)
        rag(home, "up")
        if not safe:
            unsafe.prepare(home)
        edits = 0
        for phase in PHASES:
            if phase == "edited":
                edits = edit_one_percent(folder)
            figures["quiet"] = until_quiet() and figures["quiet"]
            finished = rag(home, "ingest", str(folder), "--json", program=program)
            report = finished.report()
            verify(phase, report["plan"], edits)
            figures[phase] = sum(report["seconds"].values())
            figures |= {f"{phase} {asset}": value for asset, value in report["seconds"].items()}
            figures[f"{phase} command"] = finished.seconds
            if phase == "cold":
                figures["chunks"] = report["plan"]["dense_vectors"]["inserted"]
        if not safe:
            unsafe.verify(home)
    return figures


def verify(phase: str, plan: Mapping[str, Mapping[str, int]], edits: int) -> None:
    """End the benchmark if a phase did other work than expected."""
    changed = {
        asset: counts["inserted"] + counts["replaced"] + counts["deleted"]
        for asset, counts in plan.items()
    }
    failed = sum(counts["failed"] for counts in plan.values())
    expected = {
        "cold": changed["dense_vectors"] > 0,
        "unchanged": not any(changed.values()),
        "edited": changed["documents"] == edits and changed["dense_vectors"] >= edits,
    }
    if failed or not expected[phase]:
        raise SystemExit(f"{phase}: invalid measurement, unexpected plan: {json.dumps(plan)}")


def show_assets(rounds: Sequence[Figures]) -> None:
    out.print("rag-assets by asset, seconds")
    assets = Table("", *(Column(phase, justify="right") for phase in PHASES))
    for name in [name.removeprefix("cold ") for name in rounds[0] if name.startswith("cold ")]:
        seconds = [median(figures[f"{phase} {name}"] for figures in rounds) for phase in PHASES]
        assets.add_row(name, *(f"{value:.2f}" for value in seconds))
    out.print(assets)


def turn(
    names: Iterable[str], corpus: Path, files: int | None
) -> tuple[dict[str, Figures], dict[str, str]]:
    """One round. Returns the figures of each side, and side -> reason for those that failed. Raises if ours fails."""
    results: dict[str, Figures] = {}
    failed: dict[str, str] = {}
    for name in names:
        try:
            results[name] = side(name, corpus, files)
        except SystemExit as error:
            # After SIGTERM, the code is a number.
            if name == OURS or not isinstance(error.code, str):
                raise
            failed[name] = str(error)
            say(f"{name}: {error}")
    chunks = {name: figures["chunks"] for name, figures in results.items()}
    if FLOORS in chunks and abs(chunks[FLOORS] / chunks[OURS] - 1) > 0.01:
        raise SystemExit(f"invalid measurement, the sides have different rows: {chunks}")
    return results, failed


def measure(
    corpus: Path, files: int | None, rounds: int, rows: Sequence[str]
) -> tuple[Measured, dict[str, list[Figures]]]:
    """Run the rounds of all sides that the rows need. Returns the measurements, and all figures of each side."""
    measured = Measured()
    turns: dict[str, list[Figures]] = {}
    failed = {
        name: reason
        for name, (environment, _, modules) in baselines.BASELINES.items()
        if name in {ROWS[row][1] for row in rows}
        and (reason := baselines.missing(environment, modules))
    }
    for number in range(rounds):
        runnable = {row: ROWS[row] for row in rows if ROWS[row][1] not in failed}
        if not runnable:
            break
        say(f"round {number + 1} of {rounds}")
        sides = {OURS, *(other for _, other, _ in runnable.values())}
        results, newly_failed = turn(filter(sides.__contains__, SIDES), corpus, files)
        failed |= newly_failed
        for name, figures in results.items():
            turns.setdefault(name, []).append(figures)
        for row, (our_figure, other, their_figure) in runnable.items():
            if other in results:
                measured.add(row, results[OURS][our_figure], results[other][their_figure])
    measured.not_run = {row: failed[ROWS[row][1]] for row in rows if ROWS[row][1] in failed}
    measured.conditions |= conditions(turns)
    return measured, turns


def conditions(turns: Mapping[str, Sequence[Figures]]) -> dict[str, str]:
    """The number of chunks of each side, the package versions of the baselines, and each floor."""
    chunks = (f"{name} {figures[-1]['chunks']:,}" for name, figures in turns.items())
    texts = {"chunks": ", ".join(chunks)}
    for name in turns.keys() & baselines.BASELINES.keys():
        versions = turns[name][-1]["versions"].items()
        texts[name] = ", ".join(f"{package} {version}" for package, version in versions)
    if FLOORS in turns:
        from tests.benchmarks.floors import FLOORS as STEPS

        medians = (
            f"{step} {median(figures[step] for figures in turns[FLOORS]):.2f}" for step in STEPS
        )
        texts["floors, s"] = ", ".join(medians)
    return texts


def main() -> None:
    arguments = parser("ingestion", __doc__)
    arguments.add_argument("corpus", type=Path, nargs="?", help="a folder of *.md")
    arguments.add_argument("--files", type=int, help="use only this many of its files")
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="rag-bench-corpus-") as folder:
        corpus = options.corpus or CORPUS
        if options.corpus is None and not CORPUS.is_dir():
            corpus = Path(folder) / "generated"
            write_corpus(corpus, GENERATED)
        if not corpus.is_dir():
            arguments.error(f"{corpus} is not a folder")
        measured, turns = measure(corpus, options.files, options.rounds, options.only)
        files = markdown_files(corpus)
        size = sum(path.stat().st_size for path in files) / 1e6
        measured.conditions["corpus"] = f"{corpus.name}, {len(files):,} files, {size:.1f} MB"
    finish(options, measured, turns)
    if OURS in turns:
        show_assets(turns[OURS])


if __name__ == "__main__":
    main()
