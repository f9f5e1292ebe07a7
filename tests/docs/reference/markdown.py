"""Markdown of the generated pages: tables, and the note at their top."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Sequence

#: Longest line of text.
WIDTH = 120

NOTE = (
    "<!-- Made from the code by `python -m tests.docs.generate`. Edit the code, not this page. -->"
)


def page(title: str, *parts: str) -> str:
    """Return a page. Empty parts are left out."""
    text = "\n\n".join([f"# {title}", NOTE, *(part.strip("\n") for part in parts if part)])
    return "\n".join(_wrapped(text)) + "\n"


def _wrapped(text: str) -> Iterator[str]:
    """Yield the lines, long ones wrapped: except tables, code, and links, which would break."""
    in_code = False
    for line in text.splitlines():
        in_code ^= line.startswith("```")
        if in_code or len(line) <= WIDTH or line.startswith("|") or "](" in line:
            yield line
        else:
            yield from textwrap.wrap(line, WIDTH, break_long_words=False, break_on_hyphens=False)


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)


def code(text: str) -> str:
    return f"`{text}`" if text else ""


def _cell(text: str) -> str:
    # Outside of code, `<chunk id>` would be an element of HTML.
    parts = " ".join(text.replace("|", "\\|").split()).split("`")
    parts[::2] = [part.replace("<", "&lt;") for part in parts[::2]]
    return "`".join(parts)
