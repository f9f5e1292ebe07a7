"""Cuts of tables and of records, so that each part has the names of its values.

A table is Markdown's. A record is a line `name: value; name: value; …`: the parser writes a row of CSV so.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise, zip_longest
from typing import NamedTuple

from rag_assets.pipeline.chunk_blocks import APART, GLUE, LINE, SENTENCE

_RULE = re.compile(r"[ \t]*+\|?[ \t:]*+-[ \t:|-]*+")
_BAR = re.compile(r"\\.|\|")
#: A longer cell is no number; the limit bounds the pattern's time.
_NUMBER_CHARS = 30
_NUMBER = re.compile(r"\W?[\d.,']*\d[\d.,']*\W{0,2}")
_YEAR = re.compile(r"(?:1[89]|2[01])\d\d")
#: Maximum lines of names above the rule, and below it.
_NAME_LINES, _MORE_NAME_LINES = 4, 2
#: Widths to which names are shortened if they are too long to be repeated whole.
_WIDTHS = (60, 40, 30, 24, 20, 16, 12)
#: Shares of a chunk: names that take at most the first are repeated whole, shortened ones take at most the second.
_WHOLE_SHARE, _SHORTENED_SHARE = 0.65, 0.5
#: Maximum characters of the first value of a row or record, which is repeated to tell which one it is.
_IDENTITY_CHARS = 120
#: In smaller chunks the names of a part of a row would leave no room for its values.
_MIN_NAMED_CHARS = 200
_NAME = re.compile(r"[^:;.!?\n]{1,120}: ")
_FIELD = re.compile(rf"; (?={_NAME.pattern})")
_SEPARATOR = re.compile(r" \| ")
#: The share of semicolons that must be followed by a name: prose has others.
_FIELD_SHARE = 0.6
#: The number of fields from which on a line is a record, and of values from which on it is a row without names.
_RECORD_FIELDS, _ROW_VALUES = 3, 4


class Cut(NamedTuple):
    """A place where a block may be cut, which is the end of one part.

    `next_strength`: of this boundary. `header`: repeated where a chunk opens with the part; if the part itself must be
    cut, its further pieces have the header `continued`.
    """

    end: int
    next_strength: int
    header: str = ""
    continued: str = ""


class _Span(NamedTuple):
    start: int
    end: int


def table_cuts(text: str, start: int, end: int, max_chars: int) -> Iterator[Cut]:
    """Yield the ends of the rows of a table, and cuts inside rows that are too long.

    The names of the columns are repeated above each part: whole, or shortened if they are long. If even these leave no
    room for a row, the row is cut, and each part has the whole names of its own columns.
    """
    lines = _lines(text, start, end)
    count = _name_lines(text, lines)
    names_end = lines[count - 1].end
    names = _names(text, lines[:count])
    header = text[start:names_end]
    if len(header) > max_chars // 2:
        # Without the blanks that align it.
        header = _header(names)
    if len(header) > max_chars * _WHOLE_SHARE:
        header = _shortened(names, int(max_chars * _SHORTENED_SHARE))
    if names_end - start <= max_chars:
        yield Cut(names_end, GLUE)
    else:
        yield from _name_cuts(text, lines[:count], max_chars)
    for line in lines[count:]:
        length = len(text[line.start : line.end].rstrip())
        if length + len(header) <= max_chars and (header or not any(names)):
            yield Cut(line.end, SENTENCE, header, header)
        else:
            yield from _row_cuts(text, line, names, max_chars)


def _lines(text: str, start: int, end: int) -> list[_Span]:
    lines: list[_Span] = []
    while start < end:
        line_end = text.find("\n", start, end) + 1 or end
        lines.append(_Span(start, line_end))
        start = line_end
    return lines


def _name_lines(text: str, lines: Sequence[_Span]) -> int:
    """Return how many lines name the columns, with the rule."""
    head = enumerate(lines[: _NAME_LINES + 1])
    rule = next((n for n, line in head if n and _RULE.fullmatch(_line(text, line))), 1)
    count = rule + 1
    for line in lines[count : count + _MORE_NAME_LINES]:
        if count + 1 == len(lines) or not _is_row_of_names(_cells(text, line)):
            break
        count += 1
    return count


def _line(text: str, line: _Span) -> str:
    return text[line.start : line.end].rstrip()


def _is_row_of_names(cells: Sequence[str]) -> bool:
    """Return whether the row continues the names above it: none in its first column, and no numbers but years."""
    filled = [cell for cell in cells if cell]
    return bool(cells and not cells[0] and filled) and not any(map(_is_number, filled))


def _is_number(cell: str) -> bool:
    if len(cell) > _NUMBER_CHARS or _YEAR.fullmatch(cell):
        return False
    return _NUMBER.fullmatch(cell) is not None


def _spans(text: str, line: _Span) -> list[_Span]:
    """Return the cells of a row; each but the first begins with its bar."""
    end = line.start + len(_line(text, line))
    bars = [bar.start() for bar in _BAR.finditer(text, line.start, end) if bar[0] == "|"]
    if bars and not text[line.start : bars[0]].strip():
        bars[0] = line.start
    else:
        bars.insert(0, line.start)
    if len(bars) > 1 and bars[-1] == end - 1:
        bars.pop()
    return [_Span(*pair) for pair in zip(bars, [*bars[1:], end], strict=True)]


def _cells(text: str, line: _Span) -> list[str]:
    return [text[cell.start : cell.end].strip("| \t\n") for cell in _spans(text, line)]


def _names(text: str, lines: Sequence[_Span]) -> list[str]:
    """Return the name of each column: its cells in all lines of names, joined."""
    rows = [_cells(text, line) for line in lines if not _RULE.fullmatch(_line(text, line))]
    return [" ".join(filter(None, column)) for column in zip_longest(*rows, fillvalue="")]


def _header(names: Sequence[str]) -> str:
    return f"| {' | '.join(names)} |\n|{'---|' * len(names)}\n"


def _name_cuts(text: str, lines: Sequence[_Span], max_chars: int) -> Iterator[Cut]:
    """Yield cuts in names that do not fit into one chunk. No row is joined to their last part: it lacks the others."""
    # Without this room, the rule would be a chunk of its own.
    rule = lines[-1].end - lines[-1].start
    room = max_chars - rule if rule <= max_chars // 2 else max_chars
    for line in lines:
        is_last = line is lines[-1]
        for cut in _row_cuts(text, line, [], max_chars if is_last else room):
            yield cut._replace(next_strength=APART if is_last and cut.end == line.end else LINE)


def _shortened(names: Sequence[str], max_chars: int) -> str:
    """Return a header with shorter names, the longest that fit; empty if they would not differ as the names do."""
    count = len(set(names))
    if len(names) * _WIDTHS[-1] > max_chars:
        return ""
    for width in _WIDTHS:
        clipped = [_clipped(name, width) for name in names]
        header = _header(clipped)
        if len(header) <= max_chars:
            return header if len(set(clipped)) == count else ""
    return ""


def _clipped(name: str, width: int) -> str:
    """Shorten a name in its middle: names of neighbours often differ only at their end."""
    if len(name) <= width:
        return name
    tail = (width - 1) // 3
    # A backslash at the end would escape the bar.
    beginning = name[: width - 1 - tail].rstrip(" \\")
    return f"{beginning}…{name[-tail:].lstrip()}"


def _row_cuts(text: str, line: _Span, names: Sequence[str], max_chars: int) -> Iterator[Cut]:
    """Yield cuts between the cells of a row, and its end; each part has the names of its columns."""
    cells = _spans(text, line)
    if not any(names) or max_chars < _MIN_NAMED_CHARS:
        for _, stop in _groups([cell.end - cell.start for cell in cells], max_chars, 0):
            yield Cut(cells[stop - 1].end if stop < len(cells) else line.end, LINE)
        return
    names = [_clipped(name, max_chars // 4) for name in (*names, *[""] * len(cells))][: len(cells)]
    identity = _identity(text, cells[0], names[0], max_chars)
    frame = len(_header([""]))
    per_name = len(_header(["", ""])) - frame
    frame += len(identity) - per_name
    sizes = [
        cell.end - cell.start + len(name) + per_name
        for cell, name in zip(cells, names, strict=True)
    ]
    for first, stop in _groups(sizes, max_chars, frame):
        header = (identity if first else "") + _header(names[first:stop])
        end = cells[stop - 1].end if stop < len(cells) else line.end
        yield Cut(end, APART, header, header)


def _groups(sizes: Sequence[int], max_size: int, frame: int) -> Iterator[tuple[int, int]]:
    """Yield the ranges of neighbours whose sizes, with that of their frame, add up to at most the maximum."""
    first, total = 0, frame
    for n, size in enumerate(sizes):
        if n > first and total + size > max_size:
            yield first, n
            first, total = n, frame
        total += size
    yield first, len(sizes)


def _identity(text: str, cell: _Span, name: str, max_chars: int) -> str:
    value = text[cell.start : cell.end].strip("| \t\n")
    identity = f"{name}: {value}\n" if name else f"{value}\n"
    return identity if value and len(identity) <= min(_IDENTITY_CHARS, max_chars // 4) else ""


def record_cuts(text: str, start: int, end: int, max_chars: int) -> list[Cut] | None:
    """Return the cuts inside a record on the line `text[start:end]`, and its end; None if it is no record.

    A record that fits into a chunk is not cut: none of its values is parted from its name. The parts of a longer one
    repeat its first field.
    """
    name = _NAME.match(text, start, end)
    # A sentence that opens a bracket before its first colon: `A forest (French: forêt; Dutch: woud), …`.
    if name and name[0].count("(") != name[0].count(")"):
        name = None
    fields = [field.end() for field in _FIELD.finditer(text, start, end)] if name else []
    fits = end - start <= max_chars
    required = max(_RECORD_FIELDS - 1, text.count("; ", start, end) * _FIELD_SHARE)
    if len(fields) < required:
        return None if fits else _values_cuts(text, start, end, max_chars)
    if fits:
        return [Cut(end, LINE)]
    identity = text[start : fields[0]]
    if len(identity) > min(_IDENTITY_CHARS, max_chars // 4):
        identity = ""
    cuts: list[Cut] = []
    bounds = [start, *fields, end]
    sizes = [after - before for before, after in pairwise(bounds)]
    groups = list(_groups(sizes, max_chars, len(identity)))
    if identity and groups[:2] == [(0, 1), (1, 2)]:
        # The first field alone says nothing.
        groups[:2] = [(0, 2)]
    for first, stop in groups:
        header = identity if first else ""
        name = _NAME.match(text, bounds[stop - 1], bounds[stop])
        # Only if the last field is so long that it is cut.
        continued = identity + name[0] if name else header
        if len(continued) > max_chars // 2:
            continued = header
        cuts.append(Cut(bounds[stop], APART if stop < len(sizes) else LINE, header, continued))
    return cuts


def _values_cuts(text: str, start: int, end: int, max_chars: int) -> list[Cut] | None:
    """Return the cuts between the values of a row without names, `value | value | …`; None if it is none."""
    bars = [bar.end() for bar in _SEPARATOR.finditer(text, start, end)]
    if len(bars) + 1 < _ROW_VALUES:
        return None
    bounds = [start, *bars, end]
    sizes = [after - before for before, after in pairwise(bounds)]
    return [Cut(bounds[stop], LINE) for _, stop in _groups(sizes, max_chars, 0)]
