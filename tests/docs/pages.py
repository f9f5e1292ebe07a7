"""The pages of the documentation as data: their blocks, the output that they show, and how output is compared.

- A block of `sh`, `bash`, `console` or `python` runs. In a `console` block, lines that begin with `$ ` are commands and
  the others are their output.
- A block of `text` is the complete output of the block before it.
- `…` in shown output stands for any text in a line, and alone in a line for any number of lines.
- `<!-- not run: REASON -->` directly above a block excludes it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
SHELL, PYTHON = ("sh", "bash"), "python"

_FENCE = re.compile(r"^```(\w*)\s*$")
_NOT_RUN = re.compile(r"^<!-- not run: (.+) -->$")
_TITLE = re.compile(r"^#+ (.+?)\s*$")

#: What differs from run to run -> what stands for it in a comparison.
_VARYING = (
    (re.compile(r"\x1b\[[0-9;]*m"), ""),
    (re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?(\+0000|\+00:00|Z)?"), "TIME"),
    (re.compile(r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"), "UUID"),
    (re.compile(r"\b(?=[a-f]*\d)[0-9a-f]{12,64}\b"), "HASH"),
    (re.compile(r"127\.0\.0\.1:\d+"), "127.0.0.1:PORT"),
    (re.compile(r"\b\d+(\.\d+)? (s|ms|min)\b"), "N s"),
    # The last column of a sync's report: seconds.
    (re.compile(r"(?<=  )\d+\.\d+$"), "N"),
    (re.compile(r"[ \t]+"), " "),
)


@dataclass
class Block:
    """A block that runs. `output`: the lines that the page shows for it, after line `output_line`; None: none."""

    line: int
    language: str
    code: str
    output: list[str] | None = None
    output_line: int = 0
    not_run: str = ""


@dataclass
class Page:
    """A page. `links`: (line, target) of its links to files and titles of the project."""

    path: Path
    blocks: list[Block] = field(default_factory=list)
    links: list[tuple[int, str]] = field(default_factory=list)
    titles: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.path.relative_to(ROOT).as_posix()


def all_pages() -> list[Page]:
    """Return README.md and every page of docs/, in the order in which readers meet them."""
    paths = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return [read_page(path) for path in paths]


def read_page(path: Path) -> Page:
    page = Page(path)
    lines = path.read_text(encoding="utf-8").splitlines()
    numbered = enumerate(lines, start=1)
    above = ""
    for number, line in numbered:
        if fence := _FENCE.match(line):
            _add_block(page, number, fence[1], _rest_of_block(numbered, path), above)
        elif title := _TITLE.match(line):
            page.titles.append(title[1])
        else:
            targets = re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`]*`", "", line))
            page.links += [(number, target) for target in targets if "://" not in target]
        above = line or above
    return page


def _rest_of_block(numbered: Iterator[tuple[int, str]], path: Path) -> list[str]:
    content: list[str] = []
    for _, line in numbered:
        if line.rstrip() == "```":
            return content
        content.append(line)
    raise AssertionError(f"{path}: a block has no end")


def _add_block(page: Page, line: int, language: str, content: list[str], above: str) -> None:
    if language == "text":
        assert page.blocks, f"{page.name}:{line}: a block of text without a command before it"
        page.blocks[-1].output, page.blocks[-1].output_line = content, line
        return
    if language not in (*SHELL, "console", PYTHON):
        return
    reason = _NOT_RUN.match(above)
    block = Block(line, language, "\n".join(content), not_run=reason[1] if reason else "")
    if language == "console":
        block.language = "sh"
        block.code = "\n".join(shown[2:] for shown in content if shown.startswith("$ "))
        block.output = [shown for shown in content if not shown.startswith("$ ")] or None
    page.blocks.append(block)


def anchor(title: str) -> str:
    """Return the anchor of a title, as the usual hosts of Markdown make it."""
    text = re.sub(r"[`*]|\[|\]\([^)]*\)", "", title).lower()
    return re.sub(r"[^\w\- ]", "", text).replace(" ", "-")


def normalised(lines: list[str]) -> list[str]:
    """Return the lines that are not blank, without what differs from run to run."""
    result = []
    for line in lines:
        for pattern, name in _VARYING:
            line = pattern.sub(name, line)
        if line.strip():
            result.append(line.strip())
    return result


def shown_output(output: str) -> list[str]:
    """Return output as a page shows it: without colours and blanks at the end of lines."""
    return [_VARYING[0][0].sub("", line).rstrip() for line in output.rstrip().splitlines()]


def matches(shown: list[str], actual: list[str]) -> bool:
    """Return whether the output of a block is what its page shows."""
    pattern = "".join(
        r"(?:.*\n)*?" if line == "…" else ".*?".join(map(re.escape, line.split("…"))) + r"\n"
        for line in normalised(shown)
    )
    return re.fullmatch(pattern, "".join(f"{line}\n" for line in normalised(actual))) is not None
