"""Tables of delimited values (CSV, TSV) → lines that name the columns of their values.

So every chunk shows the column of each value. A Markdown table would leave its header in the first chunk.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from itertools import takewhile

from resources.parsing.tables import Row, Table, are_years, is_number, named_cells, to_table

#: The first line of a file for Excel: `sep=;`.
_SEPARATOR = re.compile(r'\A\ufeff?"?sep=(.)"?\r?\n', re.IGNORECASE)
#: Lines of a quoted field that another program does not close as Python expects.
_MAX_LINES = 100


def table_text(text: str, *, delimiter: str | None = None) -> str:
    """Return one line a row: `column: value; column: value` without empty values, or `a | b` without a header."""
    rows = _rows(text, delimiter)
    comments = [*takewhile(_is_comment, rows)]
    table = to_table(rows[len(comments) :])
    if not _is_certain(table):
        # The names may stand in a comment.
        comments, table = [], to_table(rows) if comments else table
    if not comments and not _is_certain(table):
        return "\n".join(map(_line, rows))
    named = (named_cells(table.names, row.cells) for row in table.rows)
    return "\n".join([*map(_line, comments), *table.captions, *named])


def _is_comment(row: Row) -> bool:
    return next(iter(row.cells.values())).startswith("# ")


def _line(row: Row) -> str:
    return " | ".join(row.cells.values())


def _is_certain(table: Table) -> bool:
    """Return whether the header is certainly one: a wrong header would give each value a wrong name."""
    names = list(table.names.values())
    numbers = list(filter(is_number, names))
    if (
        not names
        or not table.rows
        or len(set(names)) < len(names)
        or not (not numbers or are_years(numbers))
    ):
        return False
    used = {column for row in table.rows for column in row.cells}
    nameless = used - {min(used)} - table.names.keys()
    # Then only numbers below the names show that these are no data.
    is_doubtful = nameless or any(" | " in caption for caption in table.captions)
    return not is_doubtful or any(
        is_number(cell)
        for row in table.rows
        for column, cell in row.cells.items()
        if column in table.names
    )


def _rows(text: str, delimiter: str | None) -> list[Row]:
    if separator := _SEPARATOR.match(text):
        delimiter, text = separator[1], text[separator.end() :]
    if delimiter is None:
        head = text[:20_000].splitlines()[:20]
        # The delimiter in most lines; in a tie, the one with the fewest different counts a line.
        delimiter = max(
            ",;\t|",
            key=lambda d: (sum(d in line for line in head), -len({line.count(d) for line in head})),
        )
    return [
        Row(number, cells)
        for number, row in enumerate(_fields(text, delimiter))
        if (
            cells := {
                column: value
                for column, cell in enumerate(row)
                if (value := " ".join(cell.split()))
            }
        )
    ]


def _fields(text: str, delimiter: str) -> list[list[str]]:
    lines = list(io.StringIO(text, newline=""))
    try:
        return list(csv.reader(lines, delimiter=delimiter, strict=True))
    except csv.Error:
        # A quote that is no quote, such as that of inches, would swallow the rows behind it.
        return list(_fields_of_broken_quotes(lines, delimiter))


def _fields_of_broken_quotes(lines: list[str], delimiter: str) -> Iterator[list[str]]:
    """Yield the fields row by row: read strictly, with escaped quotes (`\\"`), or with quotes as characters."""
    number = 0
    while number < len(lines):
        count, fields = 1, _strict(lines[number : number + 1], delimiter)
        if fields is None and lines[number].count('"') % 2:
            # A quoted field may contain the ends of lines.
            count = _lines_of_row(lines, number)
            fields = _strict(lines[number : number + count], delimiter)
        if fields is None:
            count, fields = 1, _escaped(lines[number], delimiter)
        yield fields
        number += count


def _lines_of_row(lines: list[str], start: int) -> int:
    """Return the number of lines up to the next one with an odd number of quotes; 1 if it is far."""
    for number in range(start + 1, min(start + _MAX_LINES, len(lines))):
        if lines[number].count('"') % 2:
            return number + 1 - start
    return 1


def _strict(lines: list[str], delimiter: str) -> list[str] | None:
    try:
        rows = list(csv.reader(lines, delimiter=delimiter, strict=True))
    except csv.Error:
        return None
    return rows[0] if len(rows) == 1 else None


def _escaped(line: str, delimiter: str) -> list[str]:
    """Return the fields of a line whose quotes are not doubled."""
    try:
        reader = csv.reader(
            [line], delimiter=delimiter, strict=True, escapechar="\\", doublequote=False
        )
        if '\\"' in line:
            return next(reader, [])
    except csv.Error:
        pass
    return line.rstrip("\r\n").split(delimiter)
