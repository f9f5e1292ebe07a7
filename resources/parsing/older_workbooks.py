"""The older workbooks, xls and xlsb: which sheets are hidden, and how large they are. Kreuzberg reads their cells."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from resources.errors import ParseError
from resources.parsing.compound_file import CompoundFile
from resources.parsing.workbook import Package

_BOUND_SHEET, _DIMENSIONS, _END = 0x0085, 0x0200, 0x000A
_BUNDLE_SHEET, _SHEET_DIMENSION = 156, 148
#: Records of a sheet before the one that states its size.
_MAX_RECORDS = 500


class SheetState(NamedTuple):
    """Whether the program shows a sheet, and whether it has more than one cell."""

    is_visible: bool
    has_cells: bool


def sheet_states(data: bytes) -> dict[str, SheetState]:
    """Return the state of each sheet by its name; empty if the file cannot be read."""
    try:
        return dict(_xlsb_states(data) if data.startswith(b"PK") else _xls_states(data))
    except (ParseError, struct.error, ValueError, KeyError, OSError, RuntimeError):
        return {}


def _xls_states(data: bytes) -> Iterator[tuple[str, SheetState]]:
    file = CompoundFile(data)
    stream = next(
        (file.read(path) for path in file.streams if path.lower() in ("workbook", "book")), b""
    )
    for kind, body in _xls_records(stream, 0):
        if kind == _END:
            return
        if kind == _BOUND_SHEET:
            start, state, length, flags = struct.unpack_from("<IBxBB", body)
            # The flags belong to the name since Excel 97; the lowest bit says that it is UTF-16.
            name = (
                body[8 : 8 + 2 * length].decode("utf-16-le")
                if flags & 1
                else body[8 : 8 + length].decode("latin-1")
            )
            yield name, SheetState(state & 3 == 0, _xls_has_cells(stream, start))


def _xls_has_cells(stream: bytes, start: int) -> bool:
    for number, (kind, body) in enumerate(_xls_records(stream, start)):
        if kind == _DIMENSIONS:
            first_row, last_row, first_column, last_column = struct.unpack_from("<IIHH", body)
            return last_row - first_row > 1 or last_column - first_column > 1
        if number > _MAX_RECORDS:
            break
    return False


def _xls_records(stream: bytes, position: int) -> Iterator[tuple[int, bytes]]:
    while position + 4 <= len(stream):
        kind, length = struct.unpack_from("<HH", stream, position)
        yield kind, stream[position + 4 : position + 4 + length]
        position += 4 + length


def _xlsb_states(data: bytes) -> Iterator[tuple[str, SheetState]]:
    package = Package(data)
    for kind, body in _xlsb_records(package.head("xl/workbook.bin")):
        if kind == _BUNDLE_SHEET:
            state = struct.unpack_from("<I", body)[0]
            relation, end = _xlsb_text(body, 8)
            name, _ = _xlsb_text(body, end)
            target = package.relations("xl/workbook.bin").get(relation, ("", ""))[1]
            yield name, SheetState(state == 0, _xlsb_has_cells(package, target))


def _xlsb_has_cells(package: Package, path: str) -> bool:
    for number, (kind, body) in enumerate(_xlsb_records(package.head(path))):
        if kind == _SHEET_DIMENSION:
            first_row, last_row, first_column, last_column = struct.unpack_from("<4I", body)
            return last_row > first_row or last_column > first_column
        if number > _MAX_RECORDS:
            break
    return False


def _xlsb_text(body: bytes, position: int) -> tuple[str, int]:
    length = struct.unpack_from("<I", body, position)[0]
    end = position + 4 + 2 * length
    return body[position + 4 : end].decode("utf-16-le"), end


def _xlsb_records(data: bytes) -> Iterator[tuple[int, bytes]]:
    position = 0
    while position < len(data):
        kind, position = _variable(data, position, 2)
        length, position = _variable(data, position, 4)
        yield kind, data[position : position + length]
        position += length


def _variable(data: bytes, position: int, size: int) -> tuple[int, int]:
    """Return a number of up to `size` bytes, of which the highest bit says that another one follows."""
    value = shift = 0
    for byte in data[position : position + size]:
        value |= (byte & 0x7F) << shift
        shift, position = shift + 7, position + 1
        if not byte & 0x80:
            break
    return value, position
