"""OpenDocument texts: every word once, with blanks, boxes, notes and margins."""

from __future__ import annotations

import pytest

from resources.parsing import parse_document
from tests.support.office_files import open_document

_BOX = "<draw:frame><draw:text-box><text:p>Box</text:p></draw:text-box></draw:frame>"
_HIDING = '<style:style style:name="H"><style:text-properties text:display="none"/></style:style>'


def _read(body: str, **parts: str) -> str:
    return parse_document(open_document(body, **parts), "a.odt").text


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("<text:p>Pump<text:tab/>500<text:s/>bar<text:line-break/>end</text:p>", "Pump 500 bar end"),
        (
            "<text:p>避<text:ruby><text:ruby-base>難</text:ruby-base><text:ruby-text>なん</text:ruby-text></text:ruby>訓練</text:p>",
            "避難訓練",
        ),
        (f'<text:h text:outline-level="2">Head{_BOX}</text:h>', "## Head\n\nBox"),
        (f"<text:list><text:list-item><text:p>One{_BOX}</text:p></text:list-item></text:list>", "- One\n  Box"),
        (
            f"<table:table><table:table-row><table:table-cell><text:p>A{_BOX}</text:p></table:table-cell>"
            '<table:covered-table-cell/><table:table-cell table:number-columns-repeated="2"><text:list><text:list-item>'
            "<text:p>B</text:p></text:list-item></text:list></table:table-cell></table:table-row></table:table>",
            "| A Box |  | - B | - B |\n| --- | --- | --- | --- |",
        ),
        (
            "<text:tracked-changes><text:p>deleted</text:p></text:tracked-changes><text:p>kept</text:p>",
            "kept",
        ),
        (
            "<text:section><text:table-of-content><text:index-body><text:p>Entry</text:p></text:index-body>"
            "</text:table-of-content></text:section><text:numbered-paragraph><text:p>Numbered</text:p></text:numbered-paragraph>",
            "Entry\n\nNumbered",
        ),
        ("<text:p>a<draw:custom-shape><text:p>Shape</text:p></draw:custom-shape>b</text:p>", "ab\n\nShape"),
        (
            "<text:p>See<draw:frame><draw:image/><svg:desc>A red pump</svg:desc></draw:frame></text:p>",
            "See\n\nA red pump",
        ),
        (
            '<text:p>One<text:note><text:note-citation>1</text:note-citation><text:note-body><text:p>Note</text:p>'
            "</text:note-body></text:note> two</text:p>",
            "One[^1] two\n\n[^1]: Note",
        ),
        ("<text:p># no heading</text:p><text:p>- no item</text:p>", "\\# no heading\n\n\\- no item"),
    ],
    ids=range(11),
)  # fmt: skip
def test_every_word_is_read_once(body: str, expected: str) -> None:
    assert _read(body) == expected


def test_headers_and_footers_are_read_once() -> None:
    page = "<style:master-page><style:header><text:p>KH-20931</text:p></style:header><style:footer><text:p>{}</text:p></style:footer></style:master-page>"
    styles = (
        f"<office:master-styles>{page.format('IBAN-55')}{page.format('7')}</office:master-styles>"
    )
    assert _read("<text:p>Text</text:p>", styles=styles) == "KH-20931\n\nText\n\nIBAN-55"


def test_hidden_text_and_comments_are_left_out_and_recorded() -> None:
    body = (
        '<text:p>a<text:span text:style-name="H">hidden</text:span>b'
        "<office:annotation><text:p>Really?</text:p></office:annotation></text:p>"
        '<text:p text:style-name="H">too</text:p><text:section text:display="none"><text:p>it</text:p></text:section>'
    )
    document = parse_document(open_document(body, automatic=_HIDING), "a.odt")
    assert document.text == "ab"
    assert document.metadata["left_out"] == ["1 comment", "hidden text (11 characters)"]
