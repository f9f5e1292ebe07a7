"""Handmade workbooks of the spreadsheet tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tests.support.parsed import zipped

_MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_PACKAGE = "http://schemas.openxmlformats.org/package/2006"
_TABLE = "urn:oasis:names:tc:opendocument:xmlns:table:1.0"
_TEXT = "urn:oasis:names:tc:opendocument:xmlns:text:1.0"
_OFFICE_ODF = "urn:oasis:names:tc:opendocument:xmlns:office:1.0"
_STYLE = "urn:oasis:names:tc:opendocument:xmlns:style:1.0"

#: A text, a number, or None for an empty cell.
Cell = str | float | None


def xlsx(
    sheets: Mapping[str, str],
    *,
    states: Mapping[str, str] | None = None,
    formats: Sequence[str] = (),
) -> bytes:
    """A workbook of sheets with this XML; `formats` are the number formats of the styles 1, 2, …"""
    names = list(sheets)
    relations = "".join(
        f'<Relationship Id="r{n}" Type="{_OFFICE}/worksheet" Target="worksheets/sheet{n}.xml"/>'
        for n in range(len(names))
    )
    listed = "".join(
        f'<sheet name="{name}" sheetId="{n + 1}" r:id="r{n}" state="{(states or {}).get(name, "visible")}"/>'
        for n, name in enumerate(names)
    )
    codes = "".join(
        f'<numFmt numFmtId="{200 + n}" formatCode="{code}"/>' for n, code in enumerate(formats)
    )
    styles = "".join(f'<xf numFmtId="{200 + n}"/>' for n in range(len(formats)))
    return zipped(
        {
            "[Content_Types].xml": f'<Types xmlns="{_PACKAGE}/content-types"/>',
            "_rels/.rels": f'<Relationships xmlns="{_PACKAGE}/relationships"><Relationship Id="r1" '
            f'Type="{_OFFICE}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
            "xl/workbook.xml": f'<workbook xmlns="{_MAIN}" xmlns:r="{_OFFICE}"><sheets>{listed}</sheets></workbook>',
            "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{_PACKAGE}/relationships">{relations}'
            f'<Relationship Id="s" Type="{_OFFICE}/styles" Target="styles.xml"/></Relationships>',
            "xl/styles.xml": f'<styleSheet xmlns="{_MAIN}"><numFmts>{codes}</numFmts>'
            f'<cellXfs><xf numFmtId="0"/>{styles}</cellXfs></styleSheet>',
            **{
                f"xl/worksheets/sheet{n}.xml": f'<worksheet xmlns="{_MAIN}">{sheets[name]}</worksheet>'
                for n, name in enumerate(names)
            },
        }
    )


def cell(reference: str, value: Cell, style: int = 0) -> str:
    if isinstance(value, str):
        return f'<c r="{reference}" t="inlineStr"><is><t>{value}</t></is></c>'
    return "" if value is None else f'<c r="{reference}" s="{style}"><v>{value}</v></c>'


def rows(*values: Sequence[Cell], hidden: Sequence[int] = ()) -> str:
    """The sheet data of these rows, the first one in row 1; an empty sequence leaves a row out."""
    lines = (
        f'<row r="{n}" hidden="{int(n in hidden)}">'
        + "".join(cell(f"{chr(65 + column)}{n}", value) for column, value in enumerate(row))
        + "</row>"
        for n, row in enumerate(values, 1)
        if row
    )
    return f"<sheetData>{''.join(lines)}</sheetData>"


def ods(tables: str, styles: str = "") -> bytes:
    return zipped(
        {
            "mimetype": "application/vnd.oasis.opendocument.spreadsheet",
            "content.xml": f'<office:document-content xmlns:office="{_OFFICE_ODF}" xmlns:table="{_TABLE}" '
            f'xmlns:text="{_TEXT}" xmlns:style="{_STYLE}"><office:automatic-styles>{styles}'
            f"</office:automatic-styles><office:body><office:spreadsheet>{tables}"
            "</office:spreadsheet></office:body></office:document-content>",
        }
    )


def ods_row(*values: str, attributes: str = "") -> str:
    """A row of text cells; an empty text is an empty cell."""
    cells = "".join(
        f"<table:table-cell><text:p>{value}</text:p></table:table-cell>"
        if value
        else "<table:table-cell/>"
        for value in values
    )
    return f"<table:table-row {attributes}>{cells}</table:table-row>"
