"""A presentation as its readers return it, and its Markdown: a heading, blocks and notes for each slide."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

#: A slide without a title takes its first line for one, up to this length.
_MAX_TITLE = 120
#: What Markdown would take for a heading, list, quote or rule at the start of a line.
_BLOCK_START = re.compile(r"^(#{1,6}(?=\s)|[-+*](?=\s)|>|\d{1,9}(?=[.)]\s)|={2,}|-{3,})")


@dataclass
class Slide:
    """The title, the blocks and the speaker notes of a slide, all as plain lines or Markdown."""

    title: str = ""
    blocks: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def markdown(self) -> str:
        title, blocks = self.title, self.blocks
        if not title and blocks and len(blocks[0]) <= _MAX_TITLE and "\n" not in blocks[0]:
            title, blocks = blocks[0].removeprefix("- "), blocks[1:]
        heading = [f"## {title}"] if title else []
        notes = [f"Notes: {self.notes[0]}", *self.notes[1:]] if self.notes else []
        return "\n\n".join((*heading, *blocks, *notes))


@dataclass
class Presentation:
    """The slides (empty where hidden), the file's properties, and what was left out on purpose."""

    slides: list[Slide] = field(default_factory=list)
    properties: dict[str, Any] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)


def line(text: str) -> str:
    """Return one line of plain text as Markdown that shows the same."""
    return _BLOCK_START.sub(r"\\\1", " ".join(text.split()))


def list_block(items: Iterable[tuple[int | None, str]]) -> str:
    """Return paragraphs as Markdown: with a level, an item of a list; without one, a paragraph."""
    block, in_list = "", False
    for level, text in items:
        item = text if level is None else "  " * level + "- " + text
        if block:
            block += "\n" if in_list and level is not None else "\n\n"
        block += item
        in_list = level is not None
    return block


def table_block(rows: Sequence[Sequence[str]]) -> str:
    """Return rows of cells as a Markdown table; the first row names the columns."""
    width = max(map(len, rows), default=0)
    cells = [[" ".join(cell.split()).replace("|", "\\|") for cell in row] for row in rows]
    if not width or not any(map(any, cells)):
        return ""
    lines = ["| " + " | ".join([*row, *[""] * (width - len(row))]) + " |" for row in cells]
    lines.insert(1, "|" + " --- |" * width)
    return "\n".join(lines)
