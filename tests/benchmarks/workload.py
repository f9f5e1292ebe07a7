"""What both sides of a benchmark are given: a copy of a corpus, the same edits, a quiet machine, three phases.

Also imported by other interpreters, so beside the standard library only psutil.
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

#: Percent of all cores that others may use while something is measured.
QUIET = 20.0
#: Seconds to wait for that at most, whatever is asked for: 0 where only the benchmark itself is tried.
PATIENCE = float(os.environ.get("RAG_BENCH_QUIET_SECONDS", "inf"))

PHASES = ("cold", "unchanged", "edited")

#: What the rivals are told: this project's defaults on Milvus Lite (RAG_CHUNK_MAX_CHARS; no overlap, as there).
MAX_CHARS = 1000
INDEX: dict[str, Any] = {"index_type": "IVF_FLAT", "metric_type": "IP", "params": {"nlist": 128}}
#: Of their collections and tables.
NAME = "benchmark"


def copy_corpus(corpus: Path, folder: Path, files: int | None = None) -> Path:
    """A copy that may be edited, of all its files or of so many; it also brings each into the page cache."""
    if files is None:
        return shutil.copytree(corpus, folder, copy_function=shutil.copyfile)
    found = markdown_files(corpus)
    for path in found[:: max(1, len(found) // files)][:files]:
        target = folder / path.relative_to(corpus)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    return folder


def markdown_files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.md"))


def edit_one_percent(folder: Path) -> int:
    """Adds a paragraph in the middle of every 100th file. Returns their number."""
    edited = markdown_files(folder)[::100]
    for path in edited:
        paragraphs = path.read_text(encoding="utf-8", errors="replace").split("\n\n")
        paragraphs.insert(len(paragraphs) // 2, f"A paragraph that {path.name} did not have.")
        path.write_text("\n\n".join(paragraphs), encoding="utf-8")
    return len(edited)


def until_quiet(limit: float = 180.0) -> bool:
    """Waits until the machine has been quiet for three seconds; False if it was not within `limit` seconds.

    Milvus Lite goes on after a load: flushed once idle, its rows get their index.
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
    """The whole of a rival's script, `SCRIPT POSTGRES_URL MILVUS_URI FOLDER`: prints one line of JSON.

    `prepare` gives what indexes the folder as it is now and returns (chunks added, chunks deleted). Seconds of each
    phase, of the imports (from the start of this process until now), the chunks, and the packages' versions.
    """
    from importlib.metadata import version

    imports = time.time() - psutil.Process().create_time()
    postgres_url, milvus_uri, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    index = prepare(postgres_url, milvus_uri, folder)
    found: dict[str, Any] = {"imports": imports, "quiet": True}
    edits, changed = 0, {}
    for phase in PHASES:
        if phase == "edited":
            edits = edit_one_percent(folder)
        found["quiet"] = until_quiet() and found["quiet"]
        started = time.perf_counter()
        changed[phase] = index()
        found[phase] = time.perf_counter() - started
    if any(changed["unchanged"]) or changed["cold"][0] == 0 or changed["edited"][0] < edits:
        raise SystemExit(f"not what was to be measured: {changed}, {edits} files edited")
    found |= {f"{phase} command": found[phase] + imports for phase in PHASES}
    found |= {
        "chunks": changed["cold"][0],
        "versions": {name: version(name) for name in packages},
    }
    print(json.dumps(found))
