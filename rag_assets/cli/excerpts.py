"""Passages on a terminal: the marked words in bold and underlined, cut to a width in columns around what matters."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len
from rich.text import Text

from rag_assets.search.passages import Passage

MARK = "bold underline"
#: Characters in which a cut looks for a space, so that it does not fall into a word.
_WORD = 15


def excerpt(passage: Passage, columns: int, marks: Sequence[tuple[int, int]] | None = None) -> Text:
    """Return the passage with its terms marked, or with `marks` instead; a longer one is cut around them."""
    marks = passage.spans if marks is None else marks
    start, end = _window(passage.text, marks, columns)
    text = Text(passage.text[start:end])
    for first, last in marks:
        text.stylize(MARK, max(0, first - start), max(0, min(last, end) - start))
    return Text.assemble("…" if start else "", text, "…" if end < len(passage.text) else "")


def _window(text: str, marks: Sequence[tuple[int, int]], columns: int) -> tuple[int, int]:
    """Return the part of the text to show: as many marks from the first one on as fit, and what surrounds them."""
    if cell_len(text) <= columns:
        return 0, len(text)
    room = columns - 2
    start, end = marks[0] if marks else (0, 0)
    for _, last in marks:
        if cell_len(text[start:last]) <= room:
            end = last
    while cell_len(text[start:end]) > room:
        end -= 1
    # A third of the remaining room for the words before, so that the sentence reads on; the rest for those after.
    before = (room - cell_len(text[start:end])) // 3
    while start and cell_len(text[start - 1 : start]) <= before:
        start -= 1
        before -= cell_len(text[start])
    while end < len(text) and cell_len(text[start : end + 1]) <= room:
        end += 1
    while start and cell_len(text[start - 1 : end]) <= room:
        start -= 1
    return _at_words(text, start, end, marks)


def _at_words(text: str, start: int, end: int, marks: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """Move the cuts inwards to spaces, if there are any before the first mark and behind the last one."""
    first = marks[0][0] if marks else end
    last = max((last for _, last in marks if last <= end), default=start)
    if start and (space := text.find(" ", start - 1, min(first, start + _WORD))) >= 0:
        start = space + 1
    if end < len(text) and (space := text.rfind(" ", max(last, end - _WORD), end + 1)) >= 0:
        end = space
    return start, end
