"""Ingestion against LangChain's `index()`: `python -m tests.benchmarks.ingestion [CORPUS] [--rounds 3] [--json FILE]`.

Cold, unchanged and 1 % edited, of the same files, dense vectors of the same free function. The sides take turns, each
in a fresh home with its own servers while the other's are down. LangChain has another interpreter, RAG_BENCH_PYTHON.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Column, Table

from resources.embedded.stack import start_milvus, start_postgres
from tests.benchmarks.rag_command import ROOT, fresh_home, rag
from tests.benchmarks.workload import copy_corpus, edit_one_percent, until_quiet

CORPUS = ROOT.parent / "shared" / "data" / "corpora" / "milvus-docs-versions"

PHASES = ("cold", "unchanged", "edited")

#: What langchain_index.py imports, at this project's versions where both have a package.
PACKAGES = (
    "langchain-classic",
    "langchain-milvus",
    "langchain-text-splitters",
    "numpy",
    "'psycopg[binary]'",
    *(f"{name}=={version(name)}" for name in ("psutil", "pymilvus", "sqlalchemy")),
)

#: phase -> seconds, and counts.
Figures = dict[str, float]

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


def langchain_python() -> str:
    """The interpreter that has LangChain. Exits with 2, and how to make one, where there is none."""
    python = os.environ.get("RAG_BENCH_PYTHON", "")
    problem = "is not set"
    if python:
        script = (
            "import langchain_classic, langchain_milvus, langchain_text_splitters, psutil, psycopg"
        )
        try:
            tried = subprocess.run([python, "-c", script], capture_output=True, text=True)
        except OSError as error:
            problem = f"cannot be run: {error}"
        else:
            if not tried.returncode:
                return python
            problem = f"({python}) cannot be used: {tried.stderr.strip().rpartition(chr(10))[2]}"
    err.print(
        f"RAG_BENCH_PYTHON {problem}. Expected an interpreter that has LangChain; make one and name it:\n"
        f"  {sys.executable} -m venv /tmp/langchain\n"
        f"  /tmp/langchain/bin/pip install {' '.join(PACKAGES)}\n"
        f"  export RAG_BENCH_PYTHON=/tmp/langchain/bin/python",
        markup=False,
        soft_wrap=True,
    )
    raise SystemExit(2)


def ours(corpus: Path) -> Figures:
    """phase: the assets' seconds; `phase asset`: one asset's; `phase command`: the whole process's."""
    figures: Figures = {}
    with fresh_home() as home:
        folder = copy_corpus(corpus, home / "corpus")
        rag(home, "up")
        edits = 0
        for phase in PHASES:
            if phase == "edited":
                edits = edit_one_percent(folder)
            warn_unless_quiet(until_quiet(), "rag-assets", phase)
            finished = rag(home, "ingest", str(folder), "--json")
            report = finished.json()
            verify(phase, report["plan"], edits)
            figures[phase] = sum(report["seconds"].values())
            figures |= {f"{phase} {asset}": found for asset, found in report["seconds"].items()}
            figures[f"{phase} command"] = finished.seconds
            if phase == "cold":
                figures["chunks"] = report["plan"]["dense_vectors"]["inserted"]
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


def langchain(corpus: Path, python: str) -> Figures:
    """phase: seconds in `index()`; `phase command`: with the script's imports, as a process for each would take."""
    with fresh_home() as home:
        folder = copy_corpus(corpus, home / "corpus")
        script = Path(__file__).with_name("langchain_index.py")
        servers = (start_postgres(home).url, start_milvus(home).uri)
        found = subprocess.run(
            [python, str(script), *servers, str(folder)],
            env=os.environ | {"PYTHONPATH": str(ROOT), "GRPC_VERBOSITY": "NONE"},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    figures: Figures = json.loads(found.stdout.splitlines()[-1])
    warn_unless_quiet(bool(figures["quiet"]), "LangChain", "some phase")
    commands = {f"{phase} command": figures[phase] + figures["imports"] for phase in PHASES}
    return {phase: figures[phase] for phase in (*PHASES, "chunks")} | commands


def warn_unless_quiet(quiet: bool, side: str, phase: str) -> None:
    if not quiet:
        err.print(f"{side}, {phase}: the machine was not quiet; these figures are of little worth")


def summary(rounds: list[tuple[Figures, Figures]]) -> list[dict[str, str | float]]:
    """One row a phase and way of counting: median and spread (greatest − least) of each side, and their ratio."""
    rows: list[dict[str, str | float]] = []
    for name in [f"{phase}{way}" for phase in PHASES for way in ("", " command")] + ["chunks"]:
        row: dict[str, str | float] = {"what": name}
        for side, values in zip(("rag_assets", "langchain"), zip(*rounds)):
            numbers = [found[name] for found in values]
            row[side] = median(numbers)
            row[f"{side}_spread"] = max(numbers) - min(numbers)
        row["ratio"] = float(row["rag_assets"]) / float(row["langchain"])
        rows.append(row)
    return rows


def show(rows: list[dict[str, str | float]], rounds: list[tuple[Figures, Figures]]) -> None:
    out.print(f"Seconds, median of {len(rounds)} (± spread); ratio: rag-assets / LangChain")
    compared = Table(
        "", *(Column(name, justify="right") for name in ("rag-assets", "LangChain", "ratio"))
    )
    for row in rows:
        cells = [
            f"{row[side]:,.0f}"
            if row["what"] == "chunks"
            else f"{row[side]:.2f} ± {row[f'{side}_spread']:.2f}"
            for side in ("rag_assets", "langchain")
        ]
        compared.add_row(str(row["what"]), *cells, f"{row['ratio']:.2f}")
    out.print(compared)
    out.print("rag-assets by asset")
    assets = Table("", *(Column(phase, justify="right") for phase in PHASES))
    own = [found for found, _ in rounds]
    for name in [name.removeprefix("cold ") for name in own[0] if name.startswith("cold ")]:
        seconds = [median(found[f"{phase} {name}"] for found in own) for phase in PHASES]
        assets.add_row(name, *(f"{value:.2f}" for value in seconds))
    out.print(assets)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpus", type=Path, nargs="?", default=CORPUS, help="a folder of *.md")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    python = langchain_python()
    if not options.corpus.is_dir():
        parser.error(f"{options.corpus} is not a folder")
    rounds: list[tuple[Figures, Figures]] = []
    for number in range(options.rounds):
        rounds.append((ours(options.corpus), langchain(options.corpus, python)))
        err.print(f"round {number + 1} of {options.rounds}: {rounds[-1]}")
    rows = summary(rounds)
    show(rows, rounds)
    if options.json:
        found = {"rounds": rounds, "summary": rows}
        options.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
