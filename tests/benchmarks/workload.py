"""What both sides of a benchmark are given: a copy of a corpus, the same edits, a quiet machine.

Also imported by the other side's interpreter, so beside the standard library only psutil.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import psutil

#: Percent of all cores that others may use while something is measured.
QUIET = 20.0


def copy_corpus(corpus: Path, folder: Path) -> Path:
    """A copy that may be edited; it also brings every file into the page cache, alike for both sides."""
    return shutil.copytree(corpus, folder, copy_function=shutil.copyfile)


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

    Milvus Lite goes on after a load: flushed once idle, its rows get their HNSW index, a core's work for 30 s.
    """
    deadline = time.monotonic() + limit
    quiet = 0
    while quiet < 3:
        quiet = quiet + 1 if psutil.cpu_percent(interval=1) <= QUIET else 0
        if time.monotonic() > deadline:
            return False
    return True
