"""Tables: the rows of CSV, Excel and OpenDocument name their columns; hidden parts are left out and recorded."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest

from resources.parsing import ParsedDocument, parse_document
from resources.parsing.number_formats import built_in, shown
from resources.parsing.spreadsheets import from_grids
from tests.support.parsed import (
    parse,
)
from tests.support.workbooks import cell, ods, ods_row, rows, xlsx

TITLE_ABOVE = (
    ["FLEET OVERVIEW"],
    [],
    ["Vessel", None, "Captain"],
    ["Otter", None, "Anouk"],
    ["Eel", None, "Ida"],
)


def read(data: bytes, key: str = "a.xlsx") -> ParsedDocument:
    return parse_document(data, key)


def test_table_rows_name_their_columns() -> None:
    document = parse('Team;City;Cups\nBlues;"St. Louis";1\nFlyers;;2\n', "cups.csv")
    assert document.text == "Team: Blues; City: St. Louis; Cups: 1\nTeam: Flyers; Cups: 2"
    assert not document.markdown
    assert parse("1,2\n3,4\n", "n.csv").text == "1 | 2\n3 | 4"
    assert parse("a\tb\nx\ty, z\n", "n.tsv").text == "a: x; b: y, z"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("FLEET,,,\n,,,\nVessel,,Captain,Region\nOtter,,Anouk,NA\n", "FLEET\nVessel: Otter; Captain: Anouk; Region: NA"),
        ("Account;DE12\nFrom;2026\n\nDay;Text;Sum\n1;Rent;500\n", "Account | DE12\nFrom | 2026\nDay: 1; Text: Rent; Sum: 500"),
        (",Q1,Q2\nBern,1,2\nChur,3,4\n", "Bern; Q1: 1; Q2: 2\nChur; Q1: 3; Q2: 4"),
        ("City,2024,2025\nBern,1,2\n", "City: Bern; 2024: 1; 2025: 2"),
        ("City,Q1,,Q2,\n,Jan,Feb,Apr,May\nBern,1,2,3,4\n", "City: Bern; Q1 Jan: 1; Q1 Feb: 2; Q2 Apr: 3; Q2 May: 4"),
        # No header for sure: the names would be wrong.
        ("Anna,,Basel\nBob,x,Bern\nCi,,Chur\n", "Anna | Basel\nBob | x | Bern\nCi | Chur"),
        ("id,body,body\n1,x,y\n", "id | body | body\n1 | x | y"),
        ("a,b\n", "a | b"),
    ],
)  # fmt: skip
def test_the_header_of_csv_is_the_first_full_row(text: str, expected: str) -> None:
    assert parse(text, "a.csv").text == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sep=;\nname;price\nlamp;12,5\n", "name: lamp; price: 12,5"),
        ('"sep=|"\r\na;b|c\r\nx;y|z\r\n', "a;b: x;y; c: z"),
        ("# made by a program\n# y, z\na,b\n1,2\n", "# made by a program\n# y | z\na: 1; b: 2"),
        ("# a,b\n1,2\n", "# a: 1; b: 2"),
        # Quotes that are none swallow no rows.
        ('name,note\nlamp,"open\nchair,2\ndesk,"two\nlines"\n', 'name: lamp; note: "open\nname: chair; note: 2\nname: desk; note: two lines'),
        ('name,note\nlamp,"say \\"hi\\", ok"\nb,2\n', 'name: lamp; note: say "hi", ok\nname: b; note: 2'),
        ('name\tsize\nscreen\t"27" wide\npipe\t3"\n', 'name: screen; size: "27" wide\nname: pipe; size: 3"'),
    ],
)  # fmt: skip
def test_no_row_of_csv_is_swallowed_or_named_wrongly(text: str, expected: str) -> None:
    assert parse(text, "a.csv").text == expected


def test_characters_that_xml_does_not_allow_are_those_that_excel_shows() -> None:
    cells = rows(["Name", "Note"], ["Otter", "a_x000D_b _x0041_ _x005F_x0041_ snake_x00"])
    assert "| Otter | a b A _x0041_ snake_x00 |" in read(xlsx({"S": cells})).text


def test_the_header_of_a_sheet_is_the_first_full_row() -> None:
    in_xlsx = read(xlsx({"Fleet": rows(*TITLE_ABOVE)})).text
    table = "".join(ods_row(*(value or "" for value in row)) for row in TITLE_ABOVE)
    in_ods = read(ods(f'<table:table table:name="Fleet">{table}</table:table>'), "a.ods").text
    assert in_xlsx == in_ods
    assert in_xlsx == (
        "## Fleet\n\nFLEET OVERVIEW\n\n"
        "| Vessel | Captain |\n| --- | --- |\n| Otter | Anouk |\n| Eel | Ida |"
    )


def test_two_header_rows_become_one() -> None:
    sheet = rows(
        ["City", "Q1", None, "Q2", None], [None, "Jan", "Feb", "Apr", "May"], ["Bern", 1, 2, 3, 4]
    )
    merged = '<mergeCells><mergeCell ref="B1:C1"/><mergeCell ref="D1:E1"/></mergeCells>'
    text = read(xlsx({"S": sheet + merged})).text
    assert "| City | Q1 Jan | Q1 Feb | Q2 Apr | Q2 May |\n| ---" in text
    # A merged name above data is the name of each of its columns.
    sheet = rows(["Name", "Address", None], ["Ann", "Street", "Bern"], ["Bob", "Way", "Chur"])
    merged = '<mergeCells><mergeCell ref="B1:C1"/></mergeCells>'
    assert "| Name | Address | Address |\n| ---" in read(xlsx({"S": sheet + merged})).text


def test_each_table_of_a_sheet_has_its_own_header() -> None:
    crew, ports = (["Vessel", "Crew"], ["Otter", 3]), (["Port", "Depth"], ["Bremen", 8])
    text = read(xlsx({"S": rows(*crew, [], ["Ports"], *ports)})).text
    assert text.endswith(
        "| Otter | 3 |\n\nPorts\n\n| Port | Depth |\n| --- | --- |\n| Bremen | 8 |"
    )
    # A group below an empty row has none.
    assert read(xlsx({"S": rows(*crew, [], ["Eel", 4])})).text.count("---") == 2


@pytest.mark.parametrize("last", ["B1048576", "XFD1048576"])
def test_a_stray_cell_costs_no_sheet(last: str) -> None:
    first = rows(["Goldfinch", "44 bar"])
    stray = first.replace("</sheetData>", f'<row r="1048576">{cell(last, "x")}</row></sheetData>')
    start = time.process_time()
    text = read(xlsx({"One": stray, "Two": rows(["other"])})).text
    assert "Goldfinch | 44 bar" in text and "## Two" in text and "x |" in text
    assert time.process_time() - start < 2


def test_a_stray_cell_in_open_document_costs_no_sheet() -> None:
    gap = '<table:table-row table:number-rows-repeated="1048574"><table:table-cell table:number-columns-repeated="16384"/></table:table-row>'
    far = '<table:table-cell table:number-columns-repeated="16383"/><table:table-cell><text:p>far</text:p></table:table-cell>'
    table = f"{ods_row('Goldfinch', '44 bar')}{gap}<table:table-row>{far}</table:table-row>"
    text = read(ods(f'<table:table table:name="S">{table}</table:table>'), "a.ods").text
    assert "Goldfinch | 44 bar" in text and "far" in text and len(text) < 200


def test_a_repeated_row_is_kept_a_limited_number_of_times() -> None:
    row = ods_row("again", attributes='table:number-rows-repeated="1048576"')
    document = read(ods(f'<table:table table:name="S">{row}</table:table>'), "a.ods")
    assert document.text.count("again") == 1000
    assert document.metadata["left_out"] == ["repetitions of rows of S: 1047576"]


def test_cells_without_neighbours_become_lines() -> None:
    letters = [chr(65 + n // 26) + chr(65 + n % 26) for n in range(200)]
    diagonal = "".join(f'<row r="{n}">{cell(f"{c}{n}", n)}</row>' for n, c in enumerate(letters, 1))
    text = read(xlsx({"S": f"<sheetData>{diagonal}</sheetData>"})).text
    assert "|" not in text and text.split()[2:] == [str(n) for n in range(1, 201)]


def test_hidden_parts_are_left_out_and_recorded() -> None:
    columns = '<cols><col min="2" max="2" hidden="1"/></cols>'
    sheet = columns + rows(["Name", "Secret"], ["gone", "x"], ["shown", "gone"], hidden=[2])
    states = {"Old": "hidden", "Older": "veryHidden"}
    document = read(
        xlsx({"S": sheet, "Old": rows(["gone"]), "Older": rows(["gone"])}, states=states)
    )
    assert document.text == "## S\n\n| Name |\n| --- |\n| shown |"
    assert document.metadata["left_out"] == [
        "hidden sheets: Old, Older",
        "hidden rows of S: 1",
        "hidden columns of S: 1",
    ]


def test_rows_that_a_filter_hides_are_read() -> None:
    criteria = '<autoFilter ref="A1:B3"><filterColumn colId="0"/></autoFilter>'
    sheet = rows(["Name", "Size"], ["filtered", 1], ["shown", 2], ["hidden", 3], hidden=[2, 4])
    document = read(xlsx({"S": sheet + criteria}))
    assert "filtered" in document.text and "hidden" not in document.text


def test_hidden_parts_of_open_document_are_left_out() -> None:
    style = '<style:style style:name="h" style:family="table"><style:table-properties table:display="false"/></style:style>'
    hidden_row = ods_row("gone", attributes='table:visibility="collapse"')
    filtered = ods_row("filtered", attributes='table:visibility="filter"')
    tables = (
        f'<table:table table:name="S">{ods_row("shown")}{hidden_row}{filtered}</table:table>'
        f'<table:table table:name="Old" table:style-name="h">{ods_row("gone")}</table:table>'
    )
    document = read(ods(tables, style), "a.ods")
    assert "gone" not in document.text and "filtered" in document.text
    assert document.metadata["left_out"] == ["hidden sheets: Old", "hidden rows of S: 1"]


@pytest.mark.parametrize(
    ("value", "code", "expected"),
    [
        (46054, "dd.mm.yyyy", "2026-02-01"),
        (46054.5, "m/d/yy h:mm", "2026-02-01 12:00"),
        (46054, "[$-407]d. mmmm yyyy;@", "2026-02-01"),
        (0.5, "h:mm AM/PM", "12:00"),
        (1.5, "[h]:mm", "36:00"),
        (59, "yyyy-mm-dd", "1900-02-28"),
        (0.125, "0.0%", "12.5%"),
        (44, '0" bar"', "44 bar"),
        (1, '"1."0', "1.1"),
        (1200, '_-* #,##0.00\\ "€"_-;-* #,##0.00\\ "€"_-', "1200 €"),
        (44, "[$€-407] #,##0.00", "€ 44"),
        (5, "[Red]0.00E+00", "5"),
        (0.1 + 0.2, "General", "0.3"),
        (-3, "0_);(0)", "-3"),
        (46054, built_in(14), "2026-02-01"),
    ],
)
def test_numbers_are_shown_like_their_cells(value: float, code: str, expected: str) -> None:
    assert shown(value, code) == expected


def test_dates_since_1904_errors_and_readings() -> None:
    assert shown(44592, "yyyy", since_1904=True) == "2026-02-01"
    kanji = '<row r="2"><c r="A2" t="inlineStr"><is><r><t>東京</t></r><rPh sb="0" eb="2"><t>とうきょう</t></rPh></is></c></row>'
    error = f'<row r="1">{cell("A1", "Rate")}<c r="B1" t="e"><v>#DIV/0!</v></c><c r="C1" t="b"><v>1</v></c></row>'
    text = read(xlsx({"S": f"<sheetData>{error}{kanji}</sheetData>"})).text
    assert "| Rate | #DIV/0! | TRUE |" in text and "東京" in text and "とう" not in text


def test_grids_of_older_formats_are_shown_as_their_program_shows_them() -> None:
    cells = (["Title", ""], ["", ""], ["Day", "Rate"], ["2026-02-01 00:00:00", "#ERR: Div0"])
    result = SimpleNamespace(
        metadata={"sheet_names": ["S"]}, tables=[SimpleNamespace(page_number=1, cells=cells)]
    )
    text = from_grids(result, b"").markdown
    assert text.endswith("Title\n\n| Day | Rate |\n| --- | --- |\n| 2026-02-01 | #DIV/0! |")


def test_the_number_of_a_sheet_is_no_page() -> None:
    document = read(xlsx({"One": rows(["a"]), "Two": rows(["b"])}))
    assert document.metadata == {"sheets": 2}


def test_an_identifier_with_more_digits_than_excel_keeps_is_whole() -> None:
    sheet = "<sheetData><row r='1'><c r='A1'><v>12345678901234567</v></c></row></sheetData>"
    assert "12345678901234567" in parse_document(xlsx({"Ids": sheet}), "a.xlsx").text
