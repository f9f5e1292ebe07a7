"""Tables of HTML whose names stand in several rows: joined into one row, the only one that Markdown has.

`Q1` above `January` and `February` becomes `Q1 January` and `Q1 February`.
"""

from __future__ import annotations

import re
from html import escape, unescape
from typing import NamedTuple

_TABLE = re.compile(r"<table\b[^<>]*>\s*(?:<caption\b[^<>]*>[^<>]*</caption>\s*)?", re.IGNORECASE)
_HEAD = re.compile(r"<thead\b[^<>]*>(.*?)</thead\s*>", re.IGNORECASE | re.DOTALL)
_ROW = re.compile(r"<tr\b[^<>]*>", re.IGNORECASE)
_CELL = re.compile(r"<(t[hd])\b([^<>]*)>", re.IGNORECASE)
_SPAN = re.compile(r"\b(row|col)span\s*=\s*[\"']?\s*(\d{1,3})", re.IGNORECASE)
_MARKUP = re.compile(r"<[^<>]*>")
#: Characters behind the start of a table in which its rows of names must end.
_MAX_CHARS = 20_000
_MAX_COLUMNS, _MAX_ROWS = 200, 6


class _Cell(NamedTuple):
    text: str
    is_name: bool
    rows: int
    columns: int


def join_header_rows(html: str) -> str:
    """Return the HTML with one row of names in each table that has several."""
    parts: list[str] = []
    cursor = 0
    tables = list(_TABLE.finditer(html))
    starts = [table.start() for table in tables] + [len(html)]
    for table, next_start in zip(tables, starts[1:], strict=True):
        stretch = html[table.end() : min(next_start, table.end() + _MAX_CHARS)]
        if header := _header(stretch):
            caption = f"<caption>{escape(header.title)}</caption>" if header.title else ""
            row = "".join(f"<th>{escape(name)}</th>" for name in header.names)
            parts += html[cursor : table.end()], caption, stretch[: header.start]
            parts.append(f"<tr>{row}</tr>")
            cursor = table.end() + header.end
    return "".join([*parts, html[cursor:]])


class _Header(NamedTuple):
    """The extent of the rows of names behind the start of a table, the names by column, and the table's title."""

    start: int
    end: int
    names: list[str]
    title: str


def _header(stretch: str) -> _Header | None:
    """Return the rows of names in a table's beginning; None if it is at most one row."""
    head = _HEAD.match(stretch)
    if head:
        start, end = head.span(1)
        rows = _rows(head[1])
    else:
        first = _ROW.search(stretch)
        if first is None or stretch[: first.start()].strip().lower() not in ("", "<tbody>"):
            return None
        start = first.start()
        tags = list(_ROW.finditer(stretch))
        bodies = _ROW.split(stretch)[1:]
        count = 0
        first_row = _cells(bodies[0])
        while count < len(bodies) and _is_row_of_names(_cells(bodies[count]), first_row, count):
            count += 1
        if count == len(bodies):
            return None
        end = tags[count].start()
        rows = [_cells(body) for body in bodies[:count]]
    rows = [row for row in rows if row]
    return _Header(start, end, *_joined(rows)) if 2 <= len(rows) <= _MAX_ROWS else None


def _is_row_of_names(cells: list[_Cell], first: list[_Cell], number: int) -> bool:
    """Return whether the row names all columns; fewer names below the first row are headings of groups of rows."""
    width = sum(cell.columns for cell in first)
    above = sum(cell.columns for cell in first if cell.rows > number) if number else 0
    columns = sum(cell.columns for cell in cells)
    return bool(cells) and all(cell.is_name for cell in cells) and columns + above >= width


def _rows(html: str) -> list[list[_Cell]]:
    return [_cells(row) for row in _ROW.split(html)[1:]]


def _cells(row: str) -> list[_Cell]:
    tags = list(_CELL.finditer(row))
    ends = [*(tag.start() for tag in tags), len(row)][1:]
    return [
        _Cell(_text(row[tag.end() : end]), tag[1].lower() == "th", *_extent(tag[2]))
        for tag, end in zip(tags, ends, strict=True)
    ]


def _extent(attributes: str) -> tuple[int, int]:
    spans = {name.lower(): max(1, int(number)) for name, number in _SPAN.findall(attributes)}
    return min(spans.get("row", 1), _MAX_ROWS), min(spans.get("col", 1), _MAX_COLUMNS)


def _text(html: str) -> str:
    return " ".join(unescape(_MARKUP.sub(" ", html)).split())


def _joined(rows: list[list[_Cell]]) -> tuple[list[str], str]:
    """Return the names by column, and the title of the table: a row of one cell above them all."""
    title = ""
    width = max(sum(cell.columns for cell in row) for row in rows)
    while len(rows) > 1 and len(rows[0]) == 1 and rows[0][0].columns >= width > 1:
        title = f"{title} {rows.pop(0)[0].text}".strip()
    grid: dict[tuple[int, int], str] = {}
    for y, row in enumerate(rows):
        x = 0
        for cell in row:
            while (x, y) in grid:
                x += 1
            for column in range(x, min(x + cell.columns, _MAX_COLUMNS)):
                # A cell over several rows is named once.
                grid |= {
                    (column, y + down): cell.text if not down else "" for down in range(cell.rows)
                }
            x += cell.columns
    columns = range(max((x for x, _ in grid), default=-1) + 1)
    names = [[grid.get((x, y), "") for y in range(len(rows))] for x in columns]
    return [" ".join(dict.fromkeys(filter(None, parts))) for parts in names], title
