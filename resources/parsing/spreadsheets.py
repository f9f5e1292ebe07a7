"""Spreadsheets → Markdown: a heading and a table for each sheet that its program shows.

`xlsx` and `ods` read their formats here; the older formats come from kreuzberg as grids of cells, which do not say what
is hidden. `tables` finds the header of each table.
"""

from __future__ import annotations

import re
import zipfile
import zlib
from typing import Any, NamedTuple
from xml.parsers.expat import ExpatError

from resources.parsing.formats import ODS, XLSX, Format
from resources.parsing.number_formats import plain
from resources.parsing.ods import read_ods
from resources.parsing.older_workbooks import sheet_states
from resources.parsing.tables import Row, markdown, to_tables
from resources.parsing.workbook import Package, Sheet, Workbook
from resources.parsing.xlsx import read_xlsx

#: What Excel shows for the errors that kreuzberg names.
_ERRORS = {
    "Div0": "#DIV/0!",
    "NA": "#N/A",
    "Name": "#NAME?",
    "Null": "#NULL!",
    "Num": "#NUM!",
    "Ref": "#REF!",
    "Value": "#VALUE!",
    "GettingData": "#GETTING_DATA",
}
#: Errors of the containers and of XML that does not have the expected form.
_DAMAGES = (
    ExpatError,
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    OSError,
    ValueError,
    KeyError,
    RuntimeError,
    NotImplementedError,
)
#: A number with more digits than Excel shows.
_LONG_NUMBER = re.compile(r"-?\d{1,12}\.\d{8,20}")
_ERROR = re.compile(r"#ERR: (\w+)")
_MIDNIGHT = re.compile(r"(\d{4}-\d\d-\d\d) 00:00:00")


class Sheets(NamedTuple):
    """Markdown of all visible sheets, the properties of the file, and the omissions."""

    markdown: str
    properties: dict[str, Any]
    left_out: list[str]


def read_spreadsheet(data: bytes, file_format: Format) -> Sheets | None:
    """Return the content of an xlsx or ods file, or None if it is of another format or damaged."""
    if file_format not in (XLSX, ODS):
        return None
    try:
        package = Package(data)
        workbook = read_xlsx(package) if file_format is XLSX else read_ods(package)
    except _DAMAGES:
        return None
    if not workbook.sheets and not workbook.hidden_sheets:
        return None
    return render(workbook)


def from_grids(result: Any, data: bytes) -> Sheets:
    """Return the content of an older format, of which kreuzberg returns grids of cells by the number of their sheet."""
    properties = dict(result.metadata)
    sheets = [Sheet(name) for name in properties.get("sheet_names", ())]
    for table in result.tables:
        for index, row in enumerate(table.cells):
            cells = {column: text for column, cell in enumerate(row) if (text := _as_shown(cell))}
            if cells and 0 < table.page_number <= len(sheets):
                sheets[table.page_number - 1].rows.append(Row(index, cells))
    states = sheet_states(data)
    hidden = [
        sheet.name for sheet in sheets if sheet.name in states and not states[sheet.name].is_visible
    ]
    visible = [sheet for sheet in sheets if sheet.name not in hidden]
    markdown, _, left_out = render(Workbook(visible, hidden))
    lost = [
        sheet.name
        for sheet in visible
        if not sheet.rows and sheet.name in states and states[sheet.name].has_cells
    ]
    if lost:
        left_out.append(
            f"sheets whose cells are too far apart: {', '.join(lost)}; a copy saved as .xlsx is read"
        )
    properties["sheet_count"] = len(visible)
    return Sheets(markdown, properties, left_out)


def _as_shown(cell: str) -> str:
    cell = _MIDNIGHT.sub(r"\1", " ".join(cell.split()))
    if _LONG_NUMBER.fullmatch(cell):
        return plain(float(cell))
    error = _ERROR.fullmatch(cell)
    return _ERRORS.get(error[1], cell) if error else cell


def render(workbook: Workbook) -> Sheets:
    """Return the content of a workbook. A sheet without cells has no heading."""
    blocks: list[str] = []
    left_out: list[str] = []
    if workbook.hidden_sheets:
        left_out.append("hidden sheets: " + ", ".join(workbook.hidden_sheets))
    for sheet in workbook.sheets:
        content = list(map(markdown, to_tables(sheet.rows))) if sheet.rows else []
        if content or sheet.notes:
            blocks += [f"## {' '.join(sheet.name.split())}", *content, *sheet.notes]
        counts = {
            "hidden rows": sheet.hidden_rows,
            "hidden columns": sheet.hidden_columns,
            "repetitions of rows": sheet.repeated_rows,
        }
        left_out += [f"{what} of {sheet.name}: {count}" for what, count in counts.items() if count]
    properties: dict[str, Any] = {**workbook.properties, "sheet_count": len(workbook.sheets)}
    return Sheets("\n\n".join(blocks), properties, left_out)
