"""Word: every word once, with the blanks, notes and margins that a reader sees, on handmade files."""

from __future__ import annotations

import re

import pytest

from resources.errors import ParseError
from resources.parsing import ParsedDocument, parse_document
from tests.support.office_files import line, run, word
from tests.support.parsed import ENGLISH, docx, paragraph, zipped

_BOX = f"<w:txbxContent>{paragraph('Merlin47')}</w:txbxContent>"
#: A text box in the old form, in the new form, and in both, as Word writes it.
_OLD_BOX = f"<w:r><w:pict><v:shape><v:textbox>{_BOX}</v:textbox></v:shape></w:pict></w:r>"
_NEW_BOX = f"<w:r><w:drawing><wps:wsp><wps:txbx>{_BOX}</wps:txbx></wps:wsp></w:drawing></w:r>"
_BOTH_BOXES = (
    f'<w:r><mc:AlternateContent><mc:Choice Requires="wps">{_NEW_BOX}</mc:Choice>'
    f"<mc:Fallback>{_OLD_BOX}</mc:Fallback></mc:AlternateContent></w:r>"
)
_LOWERED, _RAISED = (f'<w:vertAlign w:val="{way}script"/>' for way in ("sub", "super"))
_UNDERLINED, _NOT_HIDDEN = '<w:u w:val="single"/>', '<w:vanish w:val="0"/>'
_SECRET = '<w:rStyle w:val="Secret"/>'
_NESTED_BOXES = _OLD_BOX.replace("Merlin47", "Outer").replace("</w:p>", f"{_NEW_BOX}</w:p>", 1)


def read_word(body: str, **parts: str) -> ParsedDocument:
    return parse_document(word(body, parts), "a.docx")


def test_word_provides_headings_title_and_author() -> None:
    data = docx(paragraph("Chapter", "Heading1") + paragraph(ENGLISH), "A Report")
    for key in ("a.docx", "named-wrongly.doc", "no-suffix"):
        document = parse_document(data, key)
        assert (document.title, document.author, document.language) == (
            "A Report",
            "Ada Lovelace",
            "en",
        )
        assert ENGLISH in document.text and "Chapter" in document.text
    assert parse_document(docx(paragraph(ENGLISH), "Untitled"), "my_notes.docx").title == "my notes"


@pytest.mark.parametrize("box", [_OLD_BOX, _NEW_BOX, _BOTH_BOXES], ids=("old", "new", "both"))
@pytest.mark.parametrize(
    ("around", "expected"),
    [
        ("<w:p>{}</w:p>", "Drossel86\n\nMerlin47"),
        ('<w:p><w:pPr><w:pStyle w:val="Heading1"/></w:pPr>{}</w:p>', "## Drossel86\n\nMerlin47"),
        (
            '<w:p><w:pPr><w:numPr><w:ilvl w:val="0"/><w:numId w:val="1"/></w:numPr></w:pPr>{}</w:p>',
            "- Drossel86\n\nMerlin47",
        ),
        (
            "<w:tbl><w:tr><w:tc><w:p>{}</w:p></w:tc><w:tc><w:p/></w:tc></w:tr></w:tbl>",
            "| Drossel86 Merlin47 |  |\n| --- | --- |",
        ),
        ('<w:p><w:hyperlink r:id="x">{}</w:hyperlink></w:p>', "Drossel86\n\nMerlin47"),
        ("<w:sdt><w:sdtContent><w:p>{}</w:p></w:sdtContent></w:sdt>", "Drossel86\n\nMerlin47"),
    ],
)
def test_a_paragraph_and_the_box_that_it_anchors_are_read_once(
    box: str, around: str, expected: str
) -> None:
    document = read_word(around.format(run("Drossel86") + box))
    assert document.text == expected
    if expected.startswith("#"):
        assert document.title == "Drossel86"


def test_boxes_in_boxes_and_word_art_follow_the_paragraph() -> None:
    art = '<w:r><w:pict><v:shape><v:textpath string="Poster"/></v:shape></w:pict></w:r>'
    text = read_word(f"<w:p>{run('First')}{_NESTED_BOXES}{art}</w:p>{paragraph('Second')}").text
    assert text.split() == ["First", "Outer", "Merlin47", "Poster", "Second"]


@pytest.mark.parametrize(
    ("between", "expected"),
    [
        ("<w:tab/>", "Pump 500"),
        ('<w:ptab w:alignment="right"/>', "Pump 500"),
        ("<w:cr/>", "Pump 500"),
        ("<w:br/>", "Pump 500"),
        ('<w:br w:type="page"/>', "Pump 500"),
        ('<w:br w:type="column"/>', "Pump 500"),
        ("<w:noBreakHyphen/>", "Pump-500"),
        ("<w:softHyphen/>", "Pump500"),
        ('<w:sym w:font="Symbol" w:char="F06D"/>', "Pumpμ500"),
        ('<w:sym w:font="Wingdings" w:char="F0FE"/>', "Pump☑500"),
        ("<w:lastRenderedPageBreak/>", "Pump500"),
    ],
)
def test_characters_that_are_elements_keep_words_apart(between: str, expected: str) -> None:
    in_run = f"<w:p><w:r><w:t>Pump</w:t>{between}<w:t>500</w:t></w:r></w:p>"
    own_run = f"<w:p>{run('Pump')}<w:r>{between}</w:r>{run('500')}</w:p>"
    in_cell = f"<w:tbl><w:tr><w:tc>{in_run}</w:tc><w:tc><w:p/></w:tc></w:tr></w:tbl>"
    for body in (in_run, own_run):
        assert " ".join(read_word(body).text.split()) == expected
    assert f"| {expected} |" in read_word(in_cell).text


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (
            f"<w:p>{run('before ')}<w:moveFrom>{run('moved')}</w:moveFrom>{run('after')}</w:p>"
            f"<w:p><w:moveTo>{run('moved')}</w:moveTo></w:p>",
            "before after\n\nmoved",
        ),
        (
            f"<w:p>{run('kept')}<w:del><w:r><w:delText>gone</w:delText><w:tab/></w:r></w:del>{run('on')}</w:p>",
            "kepton",
        ),
        (
            f"<w:tbl><w:tr><w:tc>{paragraph('a')}</w:tc><w:tc>{paragraph('b')}</w:tc></w:tr>"
            f"<w:tr><w:trPr><w:del/></w:trPr><w:tc>{paragraph('gone')}</w:tc><w:tc>{paragraph('gone')}</w:tc></w:tr></w:tbl>",
            "| a | b |\n| --- | --- |",
        ),
        (
            f"<w:p>{run('避難', '<w:b/>')}<w:r><w:ruby><w:rt>{run('くんれん')}</w:rt><w:rubyBase>{run('訓練')}</w:rubyBase></w:ruby></w:r>"
            f"{run('は')}</w:p>",
            "避難訓練は",
        ),
        (
            f"<w:p>{run('H')}{run('2', _LOWERED)}{run('O, 10')}"
            f"{run('3', _RAISED)}{run(' m')}</w:p>",
            "H2O, 10³ m",
        ),
        (
            f"<w:p>{run('Fen', '<w:b/>')}{run('ster', '<w:i/>')}{run('laden', _UNDERLINED)}{run(' bold', '<w:b/>')}</w:p>",
            "Fensterladen **bold**",
        ),
        (
            f"<w:p><w:pPr><w:rPr><w:del/></w:rPr></w:pPr>{run('Fen')}</w:p>{paragraph('ster')}",
            "Fenster",
        ),
        (
            f"<w:p>{run('Colour: ')}<w:r><w:fldChar w:fldCharType='begin'><w:ffData><w:ddList><w:result w:val='1'/>"
            "<w:listEntry w:val='red'/><w:listEntry w:val='blue'/></w:ddList></w:ffData></w:fldChar></w:r>"
            "<w:r><w:instrText>FORMDROPDOWN</w:instrText></w:r><w:r><w:fldChar w:fldCharType='end'/></w:r></w:p>",
            "Colour: blue",
        ),
    ],
    ids=(
        *("moved", "deleted", "deleted row", "reading", "raised", "format inside a word"),
        *("deleted end of a paragraph", "choice in a form"),
    ),
)
def test_the_text_is_the_one_that_a_reader_sees(body: str, expected: str) -> None:
    assert read_word(body).text == expected


def test_hidden_text_is_left_out_and_recorded() -> None:
    styles = '<w:styles><w:style w:styleId="Secret"><w:rPr><w:vanish/></w:rPr></w:style></w:styles>'
    document = read_word(
        f"<w:p>{run('shown ')}{run('hidden3', '<w:vanish/>')}{run('visible', _NOT_HIDDEN)}"
        f"{run('by style', _SECRET)}</w:p>{paragraph('of style', 'Secret')}",
        styles=styles,
    )
    assert document.text == "shown visible"
    assert document.metadata["left_out"] == ["hidden text (23 characters)"]


def test_notes_are_marked_once_and_follow_the_text() -> None:
    reference = '<w:r><w:{}Reference w:id="{}"/></w:r>'
    note = '<w:{0} w:id="{1}"><w:p><w:pPr><w:pStyle w:val="Heading1"/></w:pPr>{2}</w:p></w:{0}>'
    separator = '<w:footnote w:type="separator" w:id="0"><w:p/></w:footnote>'
    document = read_word(
        f"<w:p>{run('One')}{reference.format('footnote', 3)}{run(' two')}{reference.format('endnote', 1)}"
        f"{run(' three')}{reference.format('footnote', 2)}</w:p>",
        footnotes=f"<w:footnotes>{separator}{note.format('footnote', 2, run('Last note'))}"
        f"{note.format('footnote', 3, run('First [note]'))}</w:footnotes>",
        endnotes=f"<w:endnotes>{note.format('endnote', 1, run('End note'))}</w:endnotes>",
    )
    assert document.text.split("\n\n") == [
        "One[^1] two[^2] three[^3]",
        "[^1]: First [note]",
        "[^2]: End note",
        "[^3]: Last note",
    ]


def test_headers_and_footers_are_read_once() -> None:
    references = (
        '<w:sectPr><w:headerReference w:type="default" r:id="header1"/><w:footerReference r:id="footer1"/>'
        '<w:headerReference w:type="first" r:id="header2"/></w:sectPr>'
    )
    page = '<w:p><w:fldSimple w:instr="PAGE"><w:r><w:t>3</w:t></w:r></w:fldSimple></w:p>'
    document = read_word(
        f"<w:p><w:pPr>{references}</w:pPr>{run('Text')}</w:p>{paragraph('End')}{references}",
        header1=f"<w:hdr>{paragraph('Reference KH-20931', 'Title')}</w:hdr>",
        header2=f"<w:hdr>{paragraph('Reference KH-20931')}{paragraph('First page')}</w:hdr>",
        footer1=f"<w:ftr>{page}{paragraph('IBAN-55')}</w:ftr>",
    )
    assert document.text.split("\n\n") == [
        "Reference KH-20931",
        "First page",
        "Text",
        "End",
        "IBAN-55",
    ]
    assert "page_starts" not in document.metadata


def test_comments_are_left_out_and_recorded() -> None:
    comment = f'<w:comment w:id="1">{paragraph("Really?")}</w:comment>'
    document = read_word(
        f'<w:p>{run("Text")}<w:r><w:commentReference w:id="1"/></w:r></w:p>',
        comments=f"<w:comments>{comment}{comment}</w:comments>",
    )
    assert (document.text, document.metadata["left_out"]) == ("Text", ["2 comments"])


def test_smart_art_and_charts_follow_their_paragraph() -> None:
    drawing = '<w:r><w:drawing><dgm:relIds r:dm="data"/><c:chart r:id="chart"/></w:drawing></w:r>'
    series = "<c:strCache><c:pt><c:v>North</c:v></c:pt><c:pt><c:v>South</c:v></c:pt></c:strCache>"
    document = read_word(
        f"<w:p>{run('Plan')}{drawing}</w:p>",
        data=f"<dgm:dataModel><dgm:t>{line('Order')}{line('Deliver')}</dgm:t></dgm:dataModel>",
        chart=f"<c:chartSpace><c:title>{line('Ducks')}</c:title>{series}</c:chartSpace>",
    )
    assert document.text.split("\n\n") == ["Plan", "Order", "Deliver", "Ducks", "North, South"]


def test_texts_of_pictures_stand_in_their_places() -> None:
    picture = '<w:r><w:drawing><wp:inline xmlns:wp="x"><wp:docPr descr="{}"/><pic descr="{}"/></wp:inline></w:drawing></w:r>'
    chart = picture.format("Chart of R&amp;D", "Chart of R&amp;D")
    path = picture.format(r"C:\\Users\\ada\\pic.jpg", "pic.jpg")
    body = f"<w:p>{run('see')}{chart}{run('below')}{path}</w:p><w:p>{chart}</w:p>"
    assert read_word(body).text == "see Chart of R&D below\n\nChart of R&D"


def test_other_names_of_parts_and_other_prefixes_are_read() -> None:
    assert (
        parse_document(word(paragraph("Text"), main="word/document2.xml"), "a.docx").text == "Text"
    )
    renamed = docx(paragraph("Text")).replace(b"", b"")
    assert parse_document(renamed, "a.docx").text == "Text"


@pytest.mark.parametrize(
    ("name", "inserted", "text"),
    [
        ("a.mht", "MIME-Version: 1.0\nContent-Type: text/html\n\n<h1>Report</h1><p>R&amp;D</p>", "# Report\n\nR&D"),
        ("a.htm", "<html><body><p>A page</p></body></html>", "A page"),
        ("a.rtf", r"{\rtf1\ansi Rich text}", "Rich text"),
    ],
    ids=("mail archive", "page", "rtf"),
)  # fmt: skip
def test_files_inserted_as_a_whole_are_read_in_their_places(
    name: str, inserted: str, text: str
) -> None:
    chunk = "<w:altChunk r:id='a'/>"
    assert parse_document(word(chunk, files={name: inserted}), "a.docx").text == text
    body = f"{paragraph('before')}{chunk}{paragraph('after')}"
    document = parse_document(word(body, files={name: inserted}), "a.docx")
    assert document.text == f"before\n\n{text}\n\nafter"


def test_an_inserted_file_that_is_not_read_is_recorded() -> None:
    chunk = "<w:altChunk r:id='a'/>"
    archive = zipped({"a.txt": "x"}).decode("latin-1")
    reason = r"the inserted file word/a\.zip: archives are not read"
    document = parse_document(word(paragraph("x") + chunk, files={"a.zip": archive}), "a.docx")
    assert re.search(reason, str(document.metadata["left_out"]))
    with pytest.raises(ParseError, match=f"no text, except in parts that are not read: {reason}"):
        parse_document(word(chunk, files={"a.zip": archive}), "a.docx")


def test_ampersands_and_angle_brackets_are_read() -> None:
    text = "R&amp;D &lt;combo&gt; 5&gt;3 &#8211; &#x41;B"
    cells = (
        f"<w:tbl><w:tr><w:tc>{paragraph(text)}</w:tc><w:tc>{paragraph('x')}</w:tc></w:tr></w:tbl>"
    )
    document = read_word(
        f"{paragraph(text, 'Heading1')}{paragraph(text)}{cells}<w:p>{run('a')}<w:r><w:footnoteReference w:id='2'/></w:r></w:p>",
        footnotes=f'<w:footnotes><w:footnote w:id="2">{paragraph(text)}</w:footnote></w:footnotes>',
    )
    assert document.text.count("R&D <combo> 5>3 – AB") == 4
    assert document.title.startswith("R&D ")


def _formula(text: str) -> str:
    return f"<m:oMath><m:r><m:t>{text}</m:t></m:r></m:oMath>"


@pytest.mark.parametrize(
    ("properties", "marks"),
    [
        ("", ""),
        ('<w:pPr><w:pStyle w:val="Heading1"/></w:pPr>', "## "),
        ('<w:pPr><w:numPr><w:ilvl w:val="0"/><w:numId w:val="1"/></w:numPr></w:pPr>', "- "),
    ],
    ids=("text", "heading", "list item"),
)
def test_formulas_stay_in_their_sentences(properties: str, marks: str) -> None:
    two = f"{run('If ')}{_formula('x&lt;y')}{run(' and ')}<w:ins>{_formula('a+b')}</w:ins>{run(' then')}"
    document = read_word(f"<w:p>{properties}{two}</w:p>{paragraph('after')}")
    assert document.text == f"{marks}If $x<y$ and $a+b$ then\n\nafter"


def test_a_formula_of_its_own_is_a_block() -> None:
    assert read_word(f"<w:p>{_formula('x')}</w:p>{paragraph('after')}").text == "$$x$$\n\nafter"


def test_deleted_cells_are_gone_and_cells_left_out_keep_the_columns() -> None:
    def row(*cells: str, properties: str = "") -> str:
        return f"<w:tr>{properties}{''.join(cells)}</w:tr>"

    def cell(text: str, change: str = "") -> str:
        return f"<w:tc><w:tcPr>{change}</w:tcPr>{paragraph(text)}</w:tc>"

    skip = '<w:trPr><w:gridBefore w:val="1"/></w:trPr>'
    table = (
        row(cell("a"), cell("gone", "<w:cellDel/>"), cell("b"), cell("c", "<w:cellIns/>")),
        row(cell("2"), cell("3"), properties=skip),
    )
    text = read_word(f"<w:tbl>{''.join(table)}</w:tbl>").text
    assert text == "| a | b | c |\n| --- | --- | --- |\n|  | 2 | 3 |"
