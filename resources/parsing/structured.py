"""Tables, JSON, XML and subtitles → text that can be split and searched.

A table row and a JSON record become one line or paragraph that names its columns, so every chunk shows the column of
each value. A Markdown table would leave its header in the first chunk.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from xml.etree import ElementTree

from resources.errors import ParseError
from resources.parsing.tables import Row, Table, are_years, is_number, named_cells, to_table

_CUE = re.compile(r"^\s*(?:\d+|WEBVTT.*|(?:\d+:)?\d+:\d+[.,]\d+\s*-->.*)\s*$")
_CUE_TAG = re.compile(r"<[^<>\n]*>|\{\\[^{}\n]*\}")
_CUE_BLOCK = re.compile(r"^(?:NOTE|STYLE|REGION)\b.*?(?:\n\n|\Z)", re.MULTILINE | re.DOTALL)
_XML_DECLARATION = re.compile(r"^\s*<\?xml.*?\?>", re.DOTALL)
_TAG = re.compile(r"<!--.*?(?:-->|\Z)|<[^<>]*>", re.DOTALL)


def table_text(text: str, *, delimiter: str | None = None) -> str:
    """Return one line a row: `column: value; column: value` without empty values, or `a | b` without a header."""
    rows = _rows(text, delimiter)
    table = to_table(rows)
    if not _is_certain(table):
        return "\n".join(" | ".join(row.cells.values()) for row in rows)
    return "\n".join(
        [*table.captions, *(named_cells(table.names, row.cells) for row in table.rows)]
    )


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
    if delimiter is None:
        head = text[:20_000].splitlines()[:20]
        # The delimiter in most lines; in a tie, the one with the fewest different counts a line.
        delimiter = max(
            ",;\t|",
            key=lambda d: (sum(d in line for line in head), -len({line.count(d) for line in head})),
        )
    try:
        rows = list(csv.reader(io.StringIO(text), delimiter=delimiter))
    except csv.Error:
        # A field above 128 KiB, usually an unclosed quote: split the plain lines.
        rows = [line.split(delimiter) for line in text.splitlines()]
    return [
        Row(number, cells)
        for number, row in enumerate(rows)
        if (
            cells := {
                column: value
                for column, cell in enumerate(row)
                if (value := " ".join(cell.split()))
            }
        )
    ]


def json_text(text: str) -> str:
    """Return `path: value` lines, with a paragraph for each record of a list.

    Raises ParseError if the text is neither JSON nor JSON lines.
    """
    try:
        values = [json.loads(text, parse_float=str)]
    except (ValueError, RecursionError) as error:
        try:
            values = [
                json.loads(line, parse_float=str) for line in text.split("\n") if line.strip()
            ]
        except (ValueError, RecursionError):
            raise ParseError(f"the JSON is not valid: {error}") from None
    if len(values) == 1 and isinstance(values[0], list):
        values = values[0]
    return "\n\n".join(filter(None, ("\n".join(_json_lines(value, "")) for value in values)))


def _json_lines(root: object, path: str) -> Iterator[str]:
    # No recursion: the document determines the depth.
    stack = [(root, path)]
    while stack:
        value, path = stack.pop()
        if isinstance(value, dict):
            stack.extend((v, f"{path}.{k}" if path else str(k)) for k, v in reversed(value.items()))
        elif isinstance(value, list) and any(isinstance(v, dict | list) for v in value):
            stack.extend((v, path) for v in reversed(value))
        elif isinstance(value, list):
            yield from _json_lines(", ".join(_scalar(v) for v in value), path)
        elif (scalar := _scalar(value)).strip():
            yield f"{path}: {scalar}" if path else scalar


def _scalar(value: object) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value)


def subtitles_text(text: str) -> str:
    """Return the spoken lines, without numbers, times, styles and immediate repetitions."""
    lines: list[str] = []
    for line in _CUE_BLOCK.sub("", text).split("\n"):
        speech = _CUE_TAG.sub("", line).strip()
        if speech and not _CUE.match(line) and speech != (lines[-1] if lines else ""):
            lines.append(speech)
    return "\n".join(lines)


def xml_text(text: str) -> str:
    """Return leaves as `element: text` lines and mixed content as paragraphs; for invalid XML, its text without tags.

    External entities are never loaded: expat reports them as errors here.
    """
    try:
        root = ElementTree.fromstring(_XML_DECLARATION.sub("", text).strip())
    except ElementTree.ParseError:
        return re.sub(r"\s*\n\s*", "\n", _TAG.sub("\n", text)).strip()
    lines: list[str] = []
    stack: list[ElementTree.Element | None] = [root]
    while stack:
        element = stack.pop()
        # None marks the end of an element with children, which ends a paragraph.
        if element is None:
            if lines and lines[-1]:
                lines.append("")
        elif len(element) == 0:
            if leaf := " ".join((element.text or "").split()):
                lines.append(f"{_name(element)}: {_TAG.sub(' ', leaf) if '</' in leaf else leaf}")
        elif (element.text or "").strip() or any((child.tail or "").strip() for child in element):
            lines += [" ".join("".join(element.itertext()).split()), ""]
        else:
            stack += [None, *reversed(element)]
    return "\n".join(lines).strip()


def _name(element: ElementTree.Element) -> str:
    return str(element.tag).rpartition("}")[2]
