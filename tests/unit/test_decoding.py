"""Bytes to text: encodings, mojibake, control characters."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resources.parsing import parse_document
from resources.parsing.decoding import clean, decode
from tests.support.parsed import TEXTS


@pytest.mark.parametrize(
    ("language", "codec"),
    [
        *(
            (language, codec)
            for language in TEXTS
            for codec in ("utf-8", "utf-8-sig", "utf-16", "utf-32")
        ),
        *((language, "utf-16-le") for language in ("de", "fr")),
        *(("de", codec) for codec in ("cp1252", "utf-16-be", "utf-32-le")),
        *(("ja", codec) for codec in ("cp932", "euc_jp", "iso2022_jp")),
        *(("ko", codec) for codec in ("cp949", "johab", "iso2022_kr")),
        *(("zh", codec) for codec in ("gbk", "gb18030")),
        *(("ru", codec) for codec in ("cp1251", "koi8_r", "cp866", "iso8859_5")),
        ("fr", "cp1252"),
        ("ar", "cp1256"),
        ("el", "cp1253"),
    ],
)
def test_text_is_decoded_exactly(language: str, codec: str) -> None:
    document = parse_document(TEXTS[language].encode(codec), "notes.txt")
    assert document.text == unicodedata.normalize("NFC", TEXTS[language])
    assert document.encoding is not None


def test_a_declared_encoding_is_used_if_it_fits() -> None:
    page = (
        "<html><head><meta charset='iso-8859-2'></head><body><p>Zażółć gęślą jaźń</p></body></html>"
    )
    assert "Zażółć gęślą jaźń" in parse_document(page.encode("iso8859_2"), "a.html").text
    # The declaration is wrong here.
    assert "Zażółć gęślą jaźń" in parse_document(page.encode("utf-8"), "a.html").text


def test_one_stray_byte_does_not_change_the_encoding_of_the_file() -> None:
    data = (TEXTS["zh"] * 3).encode() + b"\xff" + TEXTS["zh"].encode()
    assert parse_document(data, "a.txt").text == TEXTS["zh"] * 3 + "\ufffd" + TEXTS["zh"]


def test_mojibake_is_repaired_and_other_text_is_unchanged() -> None:
    good = "Curly “quotes”, ligature ﬁ, fullwidth Ａ, &amp; entity, naïve café"
    assert clean(good) == good
    assert (
        clean(f"{good}\n" + "Größe — schön".encode().decode("cp1252")) == f"{good}\nGröße — schön"
    )


@given(st.text())
def test_clean_is_idempotent_and_returns_valid_text_for_postgresql(text: str) -> None:
    once = clean(text)
    assert clean(once) == once or "\ufffd" in once
    assert unicodedata.is_normalized("NFC", once)
    assert not [c for c in once if unicodedata.category(c) in ("Cc", "Cs") and c not in "\n\t"]
    once.encode()


@given(
    st.text(
        st.characters(exclude_categories=("Cc", "Cs"), exclude_characters="\ufeff\x1b"), min_size=1
    )
)
def test_valid_utf_8_is_always_decoded_as_utf_8(text: str) -> None:
    assert decode(text.encode()) == (text, "utf-8") or "\x00" in text


def test_newlines_are_unified_and_control_characters_removed() -> None:
    assert (
        parse_document(b"one\r\ntwo\rthree\x0cfour\x07\tfive\n", "a.txt").text
        == "one\ntwo\nthree\nfour\tfive"
    )
