"""The common workload of all sides of a benchmark: a copy of a corpus, the same edits, a quiet machine, three phases.

The interpreters of the baselines import it too, so it needs only psutil besides the standard library.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil

#: Percent of all cores that other processes may use during a measurement.
QUIET = 20.0
#: Upper limit in seconds for every wait for a quiet machine: 0 if only the benchmark itself is tested.
PATIENCE = float(os.environ.get("RAG_BENCH_QUIET_SECONDS", "inf"))

PHASES = ("cold", "unchanged", "edited")

#: Settings of the baselines: this project's defaults on Milvus Lite (RAG_CHUNK_MAX_CHARS, without overlap).
MAX_CHARS = 1000
INDEX: dict[str, Any] = {"index_type": "IVF_FLAT", "metric_type": "IP", "params": {"nlist": 128}}
#: Name of their collections and tables.
NAME = "benchmark"


def copy_corpus(corpus: Path, folder: Path, files: int | None = None) -> Path:
    """Make an editable copy of all, or of `files`, files. This also brings them into the page cache."""
    if files is None:
        return shutil.copytree(corpus, folder, copy_function=shutil.copyfile)
    paths = markdown_files(corpus)
    for path in paths[:: max(1, len(paths) // files)][:files]:
        target = folder / path.relative_to(corpus)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    return folder


def markdown_files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.md"))


def edit_one_percent(folder: Path) -> int:
    """Add a paragraph in the middle of every 100th file. Returns the number of these files."""
    edited = markdown_files(folder)[::100]
    for path in edited:
        paragraphs = path.read_text(encoding="utf-8", errors="replace").split("\n\n")
        paragraphs.insert(len(paragraphs) // 2, f"A paragraph that {path.name} did not have.")
        path.write_text("\n\n".join(paragraphs), encoding="utf-8")
    return len(edited)


def until_quiet(limit: float = 180.0) -> bool:
    """Wait until the machine is quiet for three seconds. Returns False if it is not within `limit` seconds.

    After a load, Milvus Lite still flushes its rows once it is idle, and builds their index.
    """
    deadline = time.monotonic() + min(limit, PATIENCE)
    quiet = 0
    while quiet < 3:
        quiet = quiet + 1 if psutil.cpu_percent(interval=1) <= QUIET else 0
        if time.monotonic() > deadline:
            return False
    return True


def run_phases(
    prepare: Callable[[str, str, Path], Callable[[], tuple[int, int]]], packages: Sequence[str]
) -> None:
    """The body of a baseline's script, `SCRIPT POSTGRES_URL MILVUS_URI FOLDER`. Prints one line of JSON.

    `prepare` returns a function that indexes the current folder and returns (chunks added, chunks deleted). The JSON
    has the seconds of each phase and of the imports (from the start of this process), the chunks, and the versions.
    """
    from importlib.metadata import version

    imports = time.time() - psutil.Process().create_time()
    postgres_url, milvus_uri, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    index = prepare(postgres_url, milvus_uri, folder)
    figures: dict[str, Any] = {"imports": imports, "quiet": True}
    edits, changed = 0, {}
    for phase in PHASES:
        if phase == "edited":
            edits = edit_one_percent(folder)
        figures["quiet"] = until_quiet() and figures["quiet"]
        started = time.perf_counter()
        changed[phase] = index()
        figures[phase] = time.perf_counter() - started
    if any(changed["unchanged"]) or changed["cold"][0] == 0 or changed["edited"][0] < edits:
        raise SystemExit(f"invalid measurement: {changed}, {edits} files edited")
    figures |= {f"{phase} command": figures[phase] + imports for phase in PHASES}
    figures |= {
        "chunks": changed["cold"][0],
        "versions": {name: version(name) for name in packages},
    }
    print(json.dumps(figures))
