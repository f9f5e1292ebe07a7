"""OpenDocument spreadsheets → the sheets that LibreOffice shows, cell by cell. `spreadsheets` renders the result.

Empty cells and rows are stored as repetitions up to the end of the grid, so only filled ones are kept.
"""

from __future__ import annotations

from resources.parsing.number_formats import plain
from resources.parsing.tables import Row
from resources.parsing.workbook import Package, Sheet, Workbook

#: A filled cell or row that is repeated (as in a filled column) is kept this often.
_MAX_CELLS, _MAX_ROWS = 100, 1000


def read_ods(package: Package) -> Workbook:
    """Return the sheets of a document. Raises ExpatError or BadZipFile if it is damaged."""
    reader = _Reader()
    package.parse("content.xml", reader.start, reader.end, reader.text)
    workbook = Workbook(reader.sheets, reader.hidden_sheets, package.properties("meta.xml"))
    return workbook


class _Reader:
    def __init__(self) -> None:
        self.sheets: list[Sheet] = []
        self.hidden_sheets: list[str] = []
        self._hidden_styles: set[str] = set()
        self._style = ""
        self._sheet = Sheet("")
        self._is_hidden = False
        self._hidden_columns: list[range] = []
        self._column = self._row = 0
        self._row_attributes: dict[str, str] = {}
        self._cell: dict[str, str] = {}
        self._cells: dict[int, str] = {}
        self._spans: dict[int, int] = {}
        self._lines: list[str] = []
        # Open elements that hold paragraphs: "" for the cell, else a comment or a shape.
        self._holders: list[str] = []
        self._is_paragraph = 0

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        match tag:
            case "style":
                self._style = attributes.get("name", "")
            case "table-properties" if attributes.get("display") == "false":
                self._hidden_styles.add(self._style)
            case "table":
                self._start_sheet(attributes)
            case "table-column":
                count = _count(attributes, "number-columns-repeated")
                if attributes.get("visibility") == "collapse":
                    self._hidden_columns.append(range(self._column, self._column + count))
                self._column += count
            case "table-row":
                self._row_attributes = attributes
                self._column = 0
                self._cells, self._spans = {}, {}
            case "table-cell" | "covered-table-cell":
                self._cell = attributes
                self._lines = []
            case "annotation" | "text-box" | "custom-shape":
                self._holders.append(tag)
            case "p" | "h":
                self._is_paragraph += 1
                self._lines.append("")
            case "s" | "tab" | "line-break":
                self.text(" ")

    def end(self, tag: str) -> None:
        match tag:
            case "p" | "h":
                self._is_paragraph -= 1
                if self._holders and self._lines:
                    self._add_note(self._lines.pop())
            case "annotation" | "text-box" | "custom-shape":
                self._holders.pop()
            case "table-cell" | "covered-table-cell":
                self._end_cell()
            case "table-row":
                self._end_row()
            case "table":
                if not self._is_hidden:
                    self.sheets.append(self._sheet)

    def text(self, text: str) -> None:
        if self._is_paragraph and self._lines:
            self._lines[-1] += text

    def _start_sheet(self, attributes: dict[str, str]) -> None:
        self._sheet = Sheet(attributes.get("name", ""))
        self._is_hidden = attributes.get("style-name") in self._hidden_styles
        if self._is_hidden:
            self.hidden_sheets.append(self._sheet.name)
        self._hidden_columns = []
        self._column = self._row = 0

    def _add_note(self, line: str) -> None:
        if line := " ".join(line.split()):
            self._sheet.notes.append(line)

    def _end_cell(self) -> None:
        repeat = _count(self._cell, "number-columns-repeated")
        if value := self._value():
            for column in range(self._column, self._column + min(repeat, _MAX_CELLS)):
                self._cells[column] = value
            span = _count(self._cell, "number-columns-spanned")
            if span > 1:
                self._spans[self._column] = self._column + span - 1
        self._column += repeat

    def _value(self) -> str:
        shown = " ".join(" ".join(self._lines).split())
        kind = self._cell.get("value-type", "")
        if kind == "date":
            date = self._cell.get("date-value", "")
            return date.removesuffix("T00:00:00").replace("T", " ").partition(".")[0] or shown
        # Texts, and numbers with a unit or an error, are taken as they are shown.
        if kind != "float" or any(map(str.isalpha, shown)) or shown.startswith("#"):
            return shown
        try:
            return plain(float(self._cell.get("value", "")))
        except (ValueError, OverflowError):
            return shown

    def _end_row(self) -> None:
        repeat = _count(self._row_attributes, "number-rows-repeated")
        if self._cells:
            self._add_rows(repeat)
        self._row += repeat

    def _add_rows(self, repeat: int) -> None:
        # A row hidden by a filter has the visibility "filter": it is content.
        if self._row_attributes.get("visibility") == "collapse":
            self._sheet.hidden_rows += repeat
            return
        hidden = {
            column
            for column in self._cells
            if any(column in columns for columns in self._hidden_columns)
        }
        self._sheet.hidden_columns = max(self._sheet.hidden_columns, len(hidden))
        cells = {column: value for column, value in self._cells.items() if column not in hidden}
        if cells:
            kept = min(repeat, _MAX_ROWS)
            self._sheet.repeated_rows += repeat - kept
            self._sheet.rows += [
                Row(self._row + offset, cells, self._spans) for offset in range(kept)
            ]


def _count(attributes: dict[str, str], name: str) -> int:
    stated = attributes.get(name, "1")
    return max(int(stated), 1) if stated.isdigit() and len(stated) < 10 else 1
