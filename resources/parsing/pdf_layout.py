"""Columns of PDF pages that are drawn line by line across them: the text of such a page, column by column.

Most programs draw one column after the other, and their order is right. Only pages on which the next column's line
follows each line are examined, and tables among them keep their order: a column is prose.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from statistics import median
from typing import NamedTuple

from resources.parsing.pdf_characters import Character

#: A gap in a line is at least this wide, measured by the height of the font: more than a blank of justified text.
_GAP = 0.8
#: Characters belong to a line if their bottoms differ by at most this share of the height.
_SAME_LINE = 0.35
#: Columns have at least this many lines side by side, words and letters in a line, and lines that continue a sentence.
_MIN_ROWS, _MIN_WORDS, _MIN_LETTERS, _CONTINUED = 2, 2.5, 10, 0.35
_MAX_DIGITS = 0.25
#: The line of a column is rarely divided again.
_MAX_PIECES = 1.5
#: A paragraph begins where the distance to the line above is larger than this, measured by the usual distance.
_PARAGRAPH = 1.4
#: Lines of one block are at most this far from each other, measured by the height of the font.
_MAX_DISTANCE = 3
_WORD = re.compile(r"[^\W\d_]+")
_END = re.compile(r"[.!?…:;。！？：；][\"'”’»)\]]*$")
#: Scripts without upper case and blanks: a line always continues a sentence.
_UNSPACED = re.compile("[\u0e00-\u0eff\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")


class _Piece(NamedTuple):
    text: str
    left: float
    right: float
    bottom: float
    height: float


_Line = list[_Piece]


def by_columns(page: Sequence[Character]) -> str | None:
    """Return the text of a page in the order of its columns, or None if the order of drawing is right."""
    lines = list(_lines(page))
    gutters = _gutters(lines)
    if not gutters:
        return None
    is_changed = False
    paragraphs: list[str] = []
    for block in _blocks(lines, gutters):
        columns = _columns(block, gutters)
        if len(columns) > 1 and _are_prose(columns, block, gutters):
            is_changed = True
            paragraphs += _joined(columns)
        else:
            paragraphs += _paragraphs([_whole(line) for line in block])
    return "\n\n".join(paragraphs) if is_changed else None


def _lines(page: Sequence[Character]) -> Iterator[_Line]:
    """Yield lines in the order of drawing, each divided at its gaps."""
    line: _Line = []
    run: list[Character] = []
    for character in page:
        if run and not character.text.isspace() and character.text:
            last = next(other for other in reversed(run) if not other.text.isspace())
            height = max(last.top - last.bottom, 1.0)
            gap = character.left - last.right
            if abs(character.bottom - last.bottom) > _SAME_LINE * height or gap < -height:
                yield [*line, _piece(run)]
                line, run = [], []
            elif gap > _GAP * height:
                line.append(_piece(run))
                run = []
        if run or not character.text.isspace():
            run.append(character)
    if run:
        yield [*line, _piece(run)]


def _piece(run: Sequence[Character]) -> _Piece:
    boxes = [character for character in run if not character.text.isspace()] or run
    text = "".join(character.text for character in run)
    return _Piece(
        re.sub(r"[ \t\r\n]+", " ", text).strip(),
        min(box.left for box in boxes),
        max(box.right for box in boxes),
        boxes[0].bottom,
        max(median(box.top - box.bottom for box in boxes), 1.0),
    )


def _gutters(lines: Sequence[_Line]) -> list[float]:
    """Return the middles of the strips that are gaps in at least half as many lines as any other strip is."""
    edges: list[tuple[float, int]] = []
    for line in lines:
        for before, after in itertools.pairwise(line):
            if after.left > before.right:
                edges += [(before.right, 1), (after.left, -1)]
    edges.sort()
    strips: list[tuple[int, float]] = []
    depth, previous = 0, 0
    for index, (place, change) in enumerate(edges):
        # A peak: the depth falls after it has risen.
        if change < 0 and previous > 0:
            strips.append((depth, (edges[index - 1][0] + place) / 2))
        depth, previous = depth + change, change
    least = max([_MIN_ROWS, *(depth / 2 for depth, _ in strips)])
    return [middle for depth, middle in strips if depth >= least]


def _blocks(lines: Sequence[_Line], gutters: Sequence[float]) -> Iterator[list[_Line]]:
    """Yield runs of lines that no gutter crosses, and runs of the others."""
    block: list[_Line] = []
    was_crossed = False
    for line in lines:
        crossed = any(piece.left < gutter < piece.right for piece in line for gutter in gutters)
        distance = block[-1][0].bottom - line[0].bottom if block else 0.0
        if block and (crossed != was_crossed or not -1 < distance / line[0].height < _MAX_DISTANCE):
            yield block
            block = []
        block.append(line)
        was_crossed = crossed
    if block:
        yield block


def _columns(block: Sequence[_Line], gutters: Sequence[float]) -> list[list[_Piece]]:
    columns: list[list[_Piece]] = [[] for _ in range(len(gutters) + 1)]
    for line in block:
        parts: dict[int, list[_Piece]] = {}
        for piece in line:
            if any(piece.left < gutter < piece.right for gutter in gutters):
                return []
            parts.setdefault(sum(gutter <= piece.left for gutter in gutters), []).append(piece)
        for column, pieces in parts.items():
            columns[column].append(_whole(pieces))
    return [column for column in columns if column]


def _whole(pieces: Sequence[_Piece]) -> _Piece:
    return pieces[0]._replace(
        text=" ".join(piece.text for piece in pieces),
        right=max(piece.right for piece in pieces),
    )


def _are_prose(
    columns: Sequence[Sequence[_Piece]], block: Sequence[_Line], gutters: Sequence[float]
) -> bool:
    side_by_side = sum(
        any(before.right <= gutter <= after.left for gutter in gutters)
        for line in block
        for before, after in itertools.pairwise(line)
    )
    # Otherwise, the gaps are blanks of widely spaced words.
    is_compact = sum(map(len, block)) <= _MAX_PIECES * sum(map(len, columns))
    return side_by_side >= _MIN_ROWS and is_compact and all(map(_is_prose, columns))


def _is_prose(column: Sequence[_Piece]) -> bool:
    text = " ".join(piece.text for piece in column)
    letters = sum(map(str.isalpha, text))
    digits = sum(map(str.isdigit, text))
    if digits > _MAX_DIGITS * (letters + digits) or letters < _MIN_LETTERS * len(column):
        return False
    if len(_UNSPACED.findall(text)) * 2 > letters:
        return True
    if len(_WORD.findall(text)) < _MIN_WORDS * len(column):
        return False
    following = column[1:]
    continued = sum(
        _continues(before, after) for before, after in zip(column, following, strict=False)
    )
    return bool(following) and continued >= _CONTINUED * len(following)


def _continues(before: _Piece, after: _Piece) -> bool:
    """Return whether a line may continue the sentence of the line before it."""
    first = next((letter for letter in after.text if letter.isalpha()), "")
    has_case = first.lower() != first.upper()
    return not _END.search(before.text) and (first.islower() or not has_case)


def _joined(columns: Sequence[Sequence[_Piece]]) -> list[str]:
    """Return the paragraphs of all columns; a sentence may go on in the next column."""
    paragraphs: list[str] = []
    for column in columns:
        parts = _paragraphs(column)
        first = column[0]
        if paragraphs and _continues(first._replace(text=paragraphs[-1]), first):
            parts[0] = _join(paragraphs.pop(), parts[0])
        paragraphs += parts
    return paragraphs


def _paragraphs(lines: Sequence[_Piece]) -> list[str]:
    distances = [
        above.bottom - line.bottom
        for above, line in itertools.pairwise(lines)
        if above.bottom > line.bottom
    ]
    usual = median(distances) if distances else 0.0
    paragraphs: list[str] = []
    for index, line in enumerate(lines):
        distance = lines[index - 1].bottom - line.bottom if index else 0.0
        is_other = index and abs(lines[index - 1].height - line.height) > 0.15 * line.height
        if not index or distance > _PARAGRAPH * usual or distance < 0 or is_other:
            paragraphs.append(line.text)
        else:
            paragraphs[-1] = _join(paragraphs[-1], line.text)
    return paragraphs


def _join(text: str, line: str) -> str:
    # The mark of a broken word: `hyphenation` decides what becomes of it.
    return f"{text}{line}" if text.endswith("\x02") else f"{text}\n{line}"
