"""Marks inside words: readings, subscripts and exponents, elements that cut a word; in HTML, Markdown and e-books."""

from __future__ import annotations

import pytest

from resources.parsing import parse_document
from resources.parsing.inline_marks import join_words, join_words_of_markdown
from tests.support.parsed import parse, zipped


@pytest.mark.parametrize(
    "ruby",
    [
        "<ruby>避<rt>ひ</rt></ruby><ruby>難<rt>なん</rt></ruby>",
        "<ruby>避難<rp>（</rp><rt>ひなん</rt><rp>）</rp></ruby>",
        "<ruby><rb>避</rb><rb>難</rb><rtc><rt>ひ</rt><rt>なん</rt></rtc></ruby>",
        "<ruby>避<rt>ひ<rt>x<rb>難<rp>(<rt>なん</ruby>",
        "<RUBY class=a>\n  避<rt>ひ</rt>\n  難<rt>なん</rt>\n</RUBY>",
    ],
)
def test_readings_are_left_out_and_their_number_is_recorded(ruby: str) -> None:
    text = f"明日の{ruby}訓練です。"
    book = zipped(
        {
            "mimetype": "application/epub+zip",
            "META-INF/container.xml": "<container xmlns='urn:oasis:names:tc:opendocument:xmlns:container'><rootfiles>"
            "<rootfile full-path='c.opf' media-type='application/oebps-package+xml'/></rootfiles></container>",
            "c.opf": "<package xmlns='http://www.idpf.org/2007/opf' version='3.0'><manifest>"
            "<item id='a' href='a.xhtml' media-type='application/xhtml+xml'/></manifest>"
            "<spine><itemref idref='a'/></spine></package>",
            "a.xhtml": f"<html xmlns='http://www.w3.org/1999/xhtml'><body><p>{text}</p></body></html>",
        }
    )
    for data, key in (
        (f"<html><body><p>{text}</p></body></html>".encode(), "a.html"),
        (text.encode(), "a.md"),
        (book, "a.epub"),
    ):
        document = parse_document(data, key)
        assert document.text.strip() == "明日の避難訓練です。", key
        assert "(ruby)" in str(document.metadata["left_out"])


@pytest.mark.parametrize(
    ("html", "joined"),
    [
        ("H<sub>2</sub>O", "H2O"), ("C<sub>6</sub>H<sub>12</sub>O<sub>6</sub>", "C6H12O6"),
        ("CaCO<sub>3</sub>", "CaCO3"),
        ("x<sup>2</sup>", "x²"), ("<i>x</i><sup>2</sup>", "x²"), ("10<sup>-6</sup> m", "10⁻⁶ m"),
        ("5 km<sup>2</sup>", "5 km²"), ("<sup>14</sup>C", "¹⁴C"), ("1<sup>st</sup>", "1st"), ("M<sup>me</sup>", "Mme"),
        # A number behind a word is the mark of a note, a longer index is a word.
        ("pressure<sup>2</sup>", None), ("Brand<sup>TM</sup>", None), ("temperature<sub>max</sub>", None),
        ("<b>H</b>ello", "Hello"), ("un<i>frig</i>gin", "unfriggin"), ("<strong>WARN</strong>ING", "WARNING"),
        ("<b>Ж</b>ук", "Жук"), ("<b>Name</b>Otter", None), ("<b>whole</b> words", None), 
        ("避<b>難</b>訓練", "避難訓練"),
        ("都<b>必须赋值</b>。", None), ("<b>서울</b>에서", None), ("trans<wbr>fer Ko&shy;rmoran", "transfer Kormoran"),
        ("<rt>no ruby</rt>", None),
    ],
)  # fmt: skip
def test_marks_inside_words_are_removed_and_others_stay(html: str, joined: str | None) -> None:
    expected = html if joined is None else joined
    assert join_words(html)[0] == expected
    assert join_words_of_markdown(html)[0] == expected


def test_marks_in_code_of_markdown_stay() -> None:
    code = "```\nH<sub>2</sub>O\n```\n`x<sup>2</sup>` ``a`b<sup>2</sup>``\n\n    <b>H</b>ello\n\n~~~\nx^2^"
    assert join_words_of_markdown(code)[0] == code
    assert (
        join_words_of_markdown("H~2~O, x^2^, ~~x~~, a~b~, `H~2~O`")[0]
        == "H2O, x², ~~x~~, a~b~, `H~2~O`"
    )
    assert "H2O" in parse("<main><p>H<sub>2</sub>O</p></main>", "a.html").text
