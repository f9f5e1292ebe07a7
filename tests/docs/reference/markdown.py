"""Markdown of the generated pages: tables, and the note at their top."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

NOTE = (
    "<!-- Made from the code by `python -m tests.docs.generate`. Edit the code, not this page. -->"
)


def page(title: str, *parts: str) -> str:
    """Return a page. Empty parts are left out."""
    return "\n\n".join([f"# {title}", NOTE, *(part.strip("\n") for part in parts if part)]) + "\n"


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
