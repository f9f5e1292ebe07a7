"""Excel workbooks (xlsx and its relatives) → the sheets that Excel shows, cell by cell.

Kreuzberg fills the rectangle around all cells of a sheet, so one stray cell costs it the sheet. It knows no hidden
parts and no number formats. `spreadsheets` renders the result.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from resources.parsing.number_formats import built_in, shown
from resources.parsing.tables import Row
from resources.parsing.workbook import Package, Sheet, Workbook
from resources.parsing.xml_entities import with_office_characters

_REFERENCE = re.compile(r"\$?([A-Z]{1,3})\$?(\d{1,7})", re.IGNORECASE)
#: A number with more digits than Excel keeps, by another program: the text of an identifier.
_IDENTIFIER = re.compile(r"-?[1-9]\d{14,24}")
_TRUE = ("1", "true", "on")
#: What Excel writes above a comment with replies, for its older versions.
_THREADED = re.compile(r"^\[[^\]]*\][^\n]*?fwlink/\?linkid=\d+ (?:\w+: )?")


def read_xlsx(package: Package) -> Workbook:
    """Return the sheets of a workbook. Raises ExpatError or BadZipFile if it is damaged."""
    workbook = Workbook(properties=package.properties("docProps/core.xml"))
    roots = package.targets("", "officeDocument")
    path = roots[0] if roots else "xl/workbook.xml"
    relations = package.relations(path)
    sheets: list[dict[str, str]] = []
    since_1904 = False

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal since_1904
        if tag == "sheet":
            sheets.append(attributes)
        elif tag == "workbookPr":
            since_1904 = attributes.get("date1904") in _TRUE

    package.parse(path, start)
    strings = [target for kind, target in relations.values() if kind == "sharedStrings"]
    styles = [target for kind, target in relations.values() if kind == "styles"]
    reader = _SheetReader(
        package,
        _strings(package, strings[0]) if strings else [],
        _number_formats(package, styles[0]) if styles else [],
        since_1904,
    )
    for attributes in sheets:
        name = attributes.get("name", "")
        kind, target = relations.get(attributes.get("id", ""), ("", ""))
        if attributes.get("state", "visible") != "visible":
            workbook.hidden_sheets.append(name)
        elif kind == "worksheet":
            workbook.sheets.append(reader.read(name, target))
    return workbook


def _strings(package: Package, path: str) -> list[str]:
    """Return the shared strings, without the readings of Asian characters."""
    strings: list[str] = []
    text = _CellText()

    def end(tag: str) -> None:
        text.end(tag)
        if tag == "si":
            strings.append(text.take())

    package.parse(path, lambda tag, _: text.start(tag), end, text.add)
    return strings


class _CellText:
    """Collects the text of `t` and `v` elements outside phonetic runs."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._is_text = self._is_phonetic = False

    def start(self, tag: str) -> None:
        self._is_text = tag in ("t", "v")
        self._is_phonetic |= tag == "rPh"

    def end(self, tag: str) -> None:
        self._is_text = False
        if tag == "rPh":
            self._is_phonetic = False

    def add(self, text: str) -> None:
        if self._is_text and not self._is_phonetic:
            self._parts.append(text)

    def take(self) -> str:
        text = "".join(self._parts)
        self._parts.clear()
        return text


def _number_formats(package: Package, path: str) -> list[str]:
    """Return the format code of each cell style."""
    codes: dict[str, str] = {}
    styles: list[str] = []
    inside = False

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal inside
        if tag == "numFmt":
            codes[attributes.get("numFmtId", "")] = attributes.get("formatCode", "")
        elif tag == "cellXfs":
            inside = True
        elif inside and tag == "xf":
            number = attributes.get("numFmtId", "0")
            styles.append(codes.get(number) or built_in(int(number) if number.isdigit() else 0))

    def end(tag: str) -> None:
        nonlocal inside
        inside = inside and tag != "cellXfs"

    package.parse(path, start, end)
    return styles


class _SheetReader:
    def __init__(
        self, package: Package, strings: Sequence[str], styles: Sequence[str], since_1904: bool
    ) -> None:
        self._package = package
        self._strings = strings
        self._styles = styles
        self._since_1904 = since_1904

    def read(self, name: str, path: str) -> Sheet:
        """Read one sheet. Hidden rows and columns are left out, but not rows that a filter hides."""
        rows: dict[int, dict[int, str]] = {}
        hidden_rows: set[int] = set()
        hidden_columns: list[range] = []
        spans: dict[int, dict[int, int]] = {}
        filtered: list[range] = []
        number, column = 0, -1
        attributes_of_cell: dict[str, str] = {}
        text = _CellText()
        filter_rows = range(0)

        def start(tag: str, attributes: dict[str, str]) -> None:
            nonlocal number, column, attributes_of_cell, filter_rows
            text.start(tag)
            if tag == "c":
                letters = attributes.get("r", "").rstrip("0123456789")
                column = _column(letters) if letters else column + 1
                attributes_of_cell = attributes
            elif tag == "row":
                stated = attributes.get("r", "")
                number, column = int(stated) if stated.isdigit() else number + 1, -1
                if attributes.get("hidden") in _TRUE:
                    hidden_rows.add(number)
            elif tag == "col" and attributes.get("hidden") in _TRUE:
                hidden_columns.append(range(int(attributes["min"]) - 1, int(attributes["max"])))
            elif tag == "mergeCell":
                first, last = _corners(attributes.get("ref", ""))
                if last[1] > first[1]:
                    spans.setdefault(first[0], {})[first[1]] = last[1]
            elif tag == "autoFilter":
                first, last = _corners(attributes.get("ref", ""))
                filter_rows = range(first[0], last[0] + 1)
            elif tag == "filterColumn":
                filtered.append(filter_rows)

        def end(tag: str) -> None:
            text.end(tag)
            if tag == "c" and (value := self._value(attributes_of_cell, text.take())):
                rows.setdefault(number, {})[column] = value

        self._package.parse(path, start, end, text.add)
        for table in self._package.targets(path, "table"):
            self._package.parse(table, start)
        hidden_rows = {row for row in hidden_rows if not any(row in rows_ for rows_ in filtered)}
        sheet = Sheet(name, hidden_rows=len(hidden_rows & rows.keys()))
        used = {column for cells in rows.values() for column in cells}
        hidden = {column for column in used if any(column in columns for columns in hidden_columns)}
        sheet.hidden_columns = len(hidden)
        for number in sorted(rows.keys() - hidden_rows):
            cells = {
                column: rows[number][column] for column in sorted(rows[number].keys() - hidden)
            }
            if cells:
                sheet.rows.append(Row(number, cells, spans.get(number, {})))
        sheet.notes = self._notes(path)
        return sheet

    def _value(self, attributes: dict[str, str], raw: str) -> str:
        kind = attributes.get("t", "n")
        if kind == "s":
            index = int(raw) if raw.strip().isdigit() else -1
            raw = self._strings[index] if 0 <= index < len(self._strings) else ""
        elif kind == "b":
            return {"0": "FALSE", "1": "TRUE"}.get(raw.strip(), raw)
        elif kind == "d":
            return raw.strip().replace("T00:00:00", "").replace("T", " ")
        elif kind == "n" and raw:
            return self._number(raw, attributes.get("s", "0"))
        return " ".join(with_office_characters(raw).split())

    def _number(self, raw: str, style: str) -> str:
        index = int(style) if style.isdigit() else 0
        code = self._styles[index] if index < len(self._styles) else ""
        if _IDENTIFIER.fullmatch(raw.strip()) and code in ("", "General", "0"):
            return raw.strip()
        try:
            return shown(float(raw), code, since_1904=self._since_1904)
        except (ValueError, OverflowError):
            return raw.strip()

    def _notes(self, path: str) -> list[str]:
        """Return the texts of shapes and of comments."""
        texts: list[str] = []
        for drawing in self._package.targets(path, "drawing"):
            texts += self._package.texts(drawing, "p")
        for comments in self._package.targets(path, "comments"):
            found = self._package.texts(comments, "comment")
            texts += [_THREADED.sub("", text) for text in found]
        return texts


@lru_cache(maxsize=20_000)
def _column(letters: str) -> int:
    index = 0
    for letter in letters.upper():
        index = index * 26 + ord(letter) - 64
    return index - 1


def _corners(reference: str) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return row and column of the first and last cell of a range, (0, 0) twice if it is invalid."""
    places = [(int(row), _column(letters)) for letters, row in _REFERENCE.findall(reference)]
    return (places[0], places[-1]) if places else ((0, 0), (0, 0))
