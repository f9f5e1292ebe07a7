"""Ingestion beside LangChain, LlamaIndex, its own floors, and itself without safety.

`python -m tests.benchmarks.ingestion [CORPUS] [--files N] [--rounds 5] [--only ROW ...] [--json FILE]`: cold, unchanged
and 1 % edited, of the same files, dense vectors of the same free function. The sides take turns, each in a fresh home
with its own servers while the others' are down. Where the corpus is not beside the project, a generated one is read.
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
#: Documents that have about as many chunks, where that is not there.
GENERATED = 1_750

#: name -> seconds, and counts.
Figures = dict[str, Any]

OURS, UNSAFE, FLOORS = "rag-assets", "without safety", "floors"
#: In the order of their turns.
SIDES = (OURS, UNSAFE, *baselines.RIVALS, FLOORS)
#: Row -> (figure of ours, other side, figure of it).
ROWS = {
    "1": ("cold", "LangChain", "cold"),
    "2": ("cold", "LlamaIndex", "cold"),
    "3": ("unchanged", "LangChain", "unchanged"),
    "3 command": ("unchanged command", "LangChain", "unchanged command"),
    "4": ("edited", "LangChain", "edited"),
    "5": ("cold", FLOORS, FLOORS),
    "11": ("cold", UNSAFE, "cold"),
    "11 edited": ("edited", UNSAFE, "edited"),
}


def side(name: str, corpus: Path, files: int | None) -> Figures:
    """One side's turn."""
    if name == OURS:
        found = ours(corpus, files, safe=True)
    elif name == UNSAFE:
        found = ours(corpus, files, safe=False)
    elif name == FLOORS:
        found = baselines.measure(sys.executable, "floors", corpus, files)
    else:
        found = baselines.measure(
            baselines.python_of(name), baselines.RIVALS[name][1], corpus, files
        )
    if not found["quiet"]:
        say(f"{name}: the machine was not quiet; these figures are of little worth")
    say(f"{name}: {json.dumps(found)}")
    return found


def ours(corpus: Path, files: int | None, *, safe: bool) -> Figures:
    """phase: the assets' seconds; `phase asset`: one asset's; `phase command`: the whole process's."""
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
            report = finished.json()
            verify(phase, report["plan"], edits)
            figures[phase] = sum(report["seconds"].values())
            figures |= {f"{phase} {asset}": found for asset, found in report["seconds"].items()}
            figures[f"{phase} command"] = finished.seconds
            if phase == "cold":
                figures["chunks"] = report["plan"]["dense_vectors"]["inserted"]
        if not safe:
            unsafe.verify(home)
    return figures


def verify(phase: str, plan: Mapping[str, Mapping[str, int]], edits: int) -> None:
    """A phase that did not do its work, or more, was not measured."""
    changed = {
        asset: counts["inserted"] + counts["replaced"] + counts["deleted"]
        for asset, counts in plan.items()
    }
    failed = sum(counts["failed"] for counts in plan.values())
    right = {
        "cold": changed["dense_vectors"] > 0,
        "unchanged": not any(changed.values()),
        "edited": changed["documents"] == edits and changed["dense_vectors"] >= edits,
    }
    if failed or not right[phase]:
        raise SystemExit(f"{phase}: not what was to be measured: {json.dumps(plan)}")


def show_assets(found: Sequence[Figures]) -> None:
    out.print("rag-assets by asset, seconds")
    assets = Table("", *(Column(phase, justify="right") for phase in PHASES))
    for name in [name.removeprefix("cold ") for name in found[0] if name.startswith("cold ")]:
        seconds = [median(each[f"{phase} {name}"] for each in found) for phase in PHASES]
        assets.add_row(name, *(f"{value:.2f}" for value in seconds))
    out.print(assets)


def turn(
    names: Iterable[str], corpus: Path, files: int | None
) -> tuple[dict[str, Figures], dict[str, str]]:
    """What each side said, and why others could not. Without ours there is nothing to compare."""
    found: dict[str, Figures] = {}
    failed: dict[str, str] = {}
    for name in names:
        try:
            found[name] = side(name, corpus, files)
        except SystemExit as error:
            if name == OURS or not isinstance(error.code, str):  # of SIGTERM it is a number
                raise
            failed[name] = str(error)
            say(f"{name}: {error}")
    chunks = {name: figures["chunks"] for name, figures in found.items()}
    if FLOORS in chunks and abs(chunks[FLOORS] / chunks[OURS] - 1) > 0.01:
        raise SystemExit(f"not the same rows: {chunks}")
    return found, failed


def measure(
    corpus: Path, files: int | None, rounds: int, rows: Sequence[str]
) -> tuple[Measured, dict[str, list[Figures]]]:
    """Rounds of all sides that the rows need, one after the other; and all that each side said."""
    measured = Measured()
    turns: dict[str, list[Figures]] = {}
    failed = {
        name: reason
        for name in {ROWS[row][1] for row in rows} & baselines.RIVALS.keys()
        if (reason := baselines.missing(name))
    }
    for number in range(rounds):
        wanted = {row: ROWS[row] for row in rows if ROWS[row][1] not in failed}
        if not wanted:
            break
        say(f"round {number + 1} of {rounds}")
        sides = {OURS, *(other for _, other, _ in wanted.values())}
        found, now_failed = turn(filter(sides.__contains__, SIDES), corpus, files)
        failed |= now_failed
        for name, figures in found.items():
            turns.setdefault(name, []).append(figures)
        for row, (ours, other, theirs) in wanted.items():
            if other in found:
                measured.add(row, found[OURS][ours], found[other][theirs])
    measured.not_run = {row: failed[ROWS[row][1]] for row in rows if ROWS[row][1] in failed}
    measured.conditions |= conditions(turns)
    return measured, turns


def conditions(turns: Mapping[str, Sequence[Figures]]) -> dict[str, str]:
    """How many chunks each side made of the files, versions of the rivals' packages, the floors one by one."""
    chunks = (f"{name} {figures[-1]['chunks']:,}" for name, figures in turns.items())
    said = {"chunks": ", ".join(chunks)}
    for name in turns.keys() & baselines.RIVALS.keys():
        versions = turns[name][-1]["versions"].items()
        said[name] = ", ".join(f"{package} {version}" for package, version in versions)
    if FLOORS in turns:
        from tests.benchmarks.floors import FLOORS as PARTS

        medians = (f"{part} {median(each[part] for each in turns[FLOORS]):.2f}" for part in PARTS)
        said["floors, s"] = ", ".join(medians)
    return said


def main() -> None:
    arguments = parser("ingestion", __doc__)
    arguments.add_argument("corpus", type=Path, nargs="?", help="a folder of *.md")
    arguments.add_argument("--files", type=int, help="so many of its files")
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
