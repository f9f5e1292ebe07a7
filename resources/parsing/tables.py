"""Rows of cells → the row that names the columns, the lines above it, and Markdown.

The readers of spreadsheets and of CSV share this. Nothing is decoded here.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

#: Rows in which the header is searched, and rows below a candidate that show which columns are in use.
_HEAD = 20
#: The header is the first row that fills the lower share of the columns in use, unless a row below a gap fills the
#: higher share. The rows above it are captions: a title, "Author: Ada".
_FULL_SHARE, _NAMES_SHARE = 0.75, 0.6
#: A grid with fewer filled cells than this share, and more cells than this, becomes lines without empty cells.
_SPARSE_SHARE, _SPARSE_CELLS = 0.1, 10_000
#: Empty rows of a sheet at which another table is looked for.
_MAX_GAPS = 200
_NUMBER = re.compile(r"[-+]?[\d.,]+%?")
_YEAR = re.compile(r"(?:1[89]|2[01])\d\d")


class Row(NamedTuple):
    """The filled cells of a row by column, its number in the sheet, and the last column of each merged cell."""

    number: int
    cells: Mapping[int, str]
    spans: Mapping[int, int] = {}


class Table(NamedTuple):
    """The lines above a table, the names of its columns (empty if it has none), and its rows."""

    captions: list[str]
    names: dict[int, str]
    rows: Sequence[Row]


def to_table(rows: Sequence[Row]) -> Table:
    """Find the header of rows without empty rows. Two header rows become one: `Q1 Jan`."""
    header = _header_index(rows)
    if header is None:
        return Table([], {}, rows)
    names, start = _names(rows[header]), header
    if _is_group_row(rows, header):
        # The row found names groups of columns; the next one names the columns.
        names, header = _join(rows[header], rows[header + 1]), header + 1
    elif header and _is_group_row(rows, header - 1):
        names, start = _join(rows[header - 1], rows[header]), header - 1
    captions = [" | ".join(row.cells.values()) for row in rows[:start]]
    return Table(captions, names, rows[header + 1 :])


def to_tables(rows: Sequence[Row]) -> list[Table]:
    """Divide the rows of a sheet at empty rows below which another table begins, with a header of its own."""
    tables: list[Table] = []
    start = gaps = 0
    for index, (previous, row) in enumerate(itertools.pairwise(rows), 1):
        if row.number == previous.number + 1 or gaps > _MAX_GAPS:
            continue
        gaps += 1
        if _begins_table(rows[start:index], rows[index : index + 2 * _HEAD]):
            tables.append(to_table(rows[start:index]))
            start = index
    return [*tables, to_table(rows[start:])]


def _begins_table(above: Sequence[Row], below: Sequence[Row]) -> bool:
    upper, lower = to_table(above[: 2 * _HEAD]), to_table(below)
    if not upper.names or not upper.rows or not lower.names or not lower.rows:
        return False
    if not all(len(row.cells) == 1 for row in below[: len(lower.captions)]):
        return False
    # Texts below numbers are names, too.
    numbers = {
        column for row in upper.rows for column, cell in row.cells.items() if is_number(cell)
    }
    named_by_numbers = list(filter(is_number, lower.names.values()))
    if named_by_numbers and not are_years(named_by_numbers):
        return False
    names = {column for column, name in lower.names.items() if not is_number(name)}
    return len(names) > 1 and (names != upper.names.keys() or bool(numbers & names))


def is_number(cell: str) -> bool:
    return bool(_NUMBER.fullmatch(cell))


def are_years(cells: Sequence[str]) -> bool:
    """Return whether these numbers are ascending or descending years, which may name columns."""
    years = [cell for cell in cells if _YEAR.fullmatch(cell)]
    return 2 <= len(years) == len(cells) == len(set(years)) and years in (
        sorted(years),
        sorted(years, reverse=True),
    )


def markdown(table: Table) -> str:
    """Return the captions as paragraphs and the rows as a Markdown table; a very sparse grid as `name: value` lines."""
    filled = {column for row in table.rows for column in row.cells}
    columns = sorted(filled | set(table.names))
    blocks = list(table.captions)
    cell_count = sum(len(row.cells) for row in table.rows)
    area = len(columns) * len(table.rows)
    if area > _SPARSE_CELLS and cell_count < _SPARSE_SHARE * area:
        blocks += [named_cells(table.names, row.cells) for row in table.rows]
    else:
        rows = [table.names] if table.names else []
        lines = [_line(columns, cells) for cells in (*rows, *(row.cells for row in table.rows))]
        lines.insert(1, "|" + " --- |" * len(columns))
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def named_cells(names: Mapping[int, str], cells: Mapping[int, str]) -> str:
    """Return `name: value; name: value`; a value without a name stands alone."""
    return "; ".join(
        f"{names[column]}: {cell}" if column in names else cell
        for column, cell in sorted(cells.items())
    )


def _line(columns: Sequence[int], cells: Mapping[int, str]) -> str:
    return "| " + " | ".join(cells.get(column, "").replace("|", "\\|") for column in columns) + " |"


def _header_index(rows: Sequence[Row]) -> int | None:
    for index, row in enumerate(rows[:_HEAD]):
        numbers = sum(map(is_number, row.cells.values()))
        if len(row.cells) > 1 and numbers * 2 > len(row.cells) and not are_years(_numbers(row)):
            # Data: what is above it is no header, so the table has none.
            return None
        share = _named_share(rows, index)
        if share >= _NAMES_SHARE and not _has_header_below_gap(rows, index, share):
            return index
    return None


def _named_share(rows: Sequence[Row], index: int) -> float:
    """Return the share of the columns in use below that this row names. The first column often has no name."""
    following = _block_below(rows, index) or rows[index + 1 : index + 1 + _HEAD]
    counts = Counter(column for row in following for column in row.cells)
    used = {column for column, count in counts.items() if count * 2 >= len(following)}
    if not used:
        return 0.0
    named = _names(rows[index]).keys()
    if len(used) > 2 and min(used) not in named:
        used.remove(min(used))
    return len(used & named) / len(used)


def _names(row: Row) -> dict[int, str]:
    """Return the cells of a header row, merged cells for each of their columns. A single merged cell is a title."""
    names = dict(row.cells)
    if len(row.cells) > 1:
        for start, end in row.spans.items():
            names |= dict.fromkeys(range(start, end + 1), row.cells.get(start, ""))
    return {column: name for column, name in names.items() if name}


def _block_below(rows: Sequence[Row], index: int) -> list[Row]:
    """Return the next rows up to an empty one."""
    block: list[Row] = []
    for previous, row in itertools.pairwise(rows[index : index + 1 + _HEAD]):
        if row.number != previous.number + 1:
            break
        block.append(row)
    return block


def _has_header_below_gap(rows: Sequence[Row], index: int, share: float) -> bool:
    """Return whether a better header follows below an empty row: what is above it are captions."""
    columns = len(_names(rows[index]))
    return any(
        row.number > previous.number + 1
        and is_text(row)
        and (share < _FULL_SHARE or len(_names(row)) > columns)
        and _named_share(rows, below) >= _FULL_SHARE
        for below, (previous, row) in enumerate(
            itertools.pairwise(rows[index : index + _HEAD]), index + 1
        )
    )


def _numbers(row: Row) -> list[str]:
    return list(filter(is_number, row.cells.values()))


def is_text(row: Row) -> bool:
    return not _numbers(row)


def _is_group_row(rows: Sequence[Row], index: int) -> bool:
    """Return whether this row names groups of the columns that the next row names."""
    if index + 2 >= len(rows):
        return False
    upper, lower = rows[index], rows[index + 1]
    is_below = lower.number == upper.number + 1 and lower.cells.keys() - upper.cells
    if not is_below or not is_text(lower):
        return False
    first, last = min(lower.cells), max(lower.cells)
    if any(start <= first and end >= last for start, end in upper.spans.items()):
        # A title across the whole table.
        return False
    # Below the name of a single column, the lower header row is empty; a row of data is not.
    single = upper.cells.keys() - upper.spans
    if upper.spans:
        return not single & lower.cells.keys()
    # Without merged cells: a group has two columns or more, of which the upper row fills the first.
    both = upper.cells.keys() & lower.cells.keys()
    are_groups = all(column + 1 in lower.cells and column + 1 not in upper.cells for column in both)
    return bool(both) and are_groups and len(upper.cells) > 1


def _join(upper: Row, lower: Row) -> dict[int, str]:
    """Return the names of two header rows. A group ends with its merged cell, else where the next one begins."""
    names = dict(upper.cells)
    group, end = "", -1
    for column in range(min(names), max(max(names), *lower.cells) + 1):
        if column in upper.cells:
            group = upper.cells[column]
            end = upper.spans.get(column, column) if upper.spans else max(lower.cells, default=0)
        name = lower.cells.get(column, "")
        if name:
            names[column] = f"{group} {name}" if group and column <= end else name
    return {
        **{column: name for column, name in lower.cells.items() if column < min(upper.cells)},
        **names,
    }
