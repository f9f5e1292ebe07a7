"""Bytes to text: encodings, mojibake, control characters."""

from __future__ import annotations

import codecs
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resources.errors import ParseError
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


@pytest.mark.parametrize("codec", ["cp932", "euc_jp"])
def test_a_stray_byte_does_not_exclude_the_encoding_of_the_other_lines(codec: str) -> None:
    line = "納品書の住所を変更しました。\n"
    data = (line * 5).encode(codec) + b"x\xff\n" + line.encode(codec)
    assert decode(data).text.startswith(line * 5) and decode(data).text.endswith(line)


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
    assert decode(text.encode())[:2] == (text, "utf-8") or "\x00" in text


def test_newlines_are_unified_and_control_characters_removed() -> None:
    assert (
        parse_document(b"one\r\ntwo\rthree\x0cfour\x07\tfive\n", "a.txt").text
        == "one\ntwo\nthree\nfour\tfive"
    )


#: More than any sample: 84 KB of ASCII before the first other letter.
ASCII = "".join(f"INSERT INTO t VALUES ({i}, 'row number {i}');\n" for i in range(1800))
LAST_LINES = {
    "cp1252": "Größe über 5 Meter, Prüfung abgeschlossen für Müller.",
    "iso8859_15": "Prix: 5 € à l'été, cœur et œuf",
    "mac_roman": "Le café était très agréable pendant l'été.",
    "cp850": "Die Größe der Brücke muss überprüft werden.",
    "cp1250": "Zażółć gęślą jaźń, proszę bardzo.",
    "iso8859_2": "Příliš žluťoučký kůň úpěl ďábelské ódy.",
    "cp1254": "Basınç düştü, pompa çalışmıyor.",
    "cp1257": "Sūknis apstājies, spiediens kritās šodien.",
    "cp1251": "Насос остановлен, давление упало.",
    "koi8_r": "Насос остановлен, давление упало.",
    "koi8_u": "Насос зупинено, тиск впав, їхній дім.",
    "cp866": "Москва",
    "iso8859_5": "Москва",
    "cp1253": "Η αντλία σταμάτησε.",
    "iso8859_7": "Η αντλία σταμάτησε.",
    "cp1255": "שער המים נסגר",
    "cp1256": "توقفت المضخة اليوم",
    "iso8859_6": "توقفت المضخة اليوم",
    "cp874": "ปั๊มน้ำหยุดทำงานเมื่อเช้านี้",
    "cp932": "-- 納品書の住所を変更しました。",
    "euc_jp": "納品書の住所を変更しました。",
    "gb18030": "订单已发货，请确认。",
    "big5": "訂單已經出貨，請確認地址。",
    "big5hkscs": "佢哋嘅水泵壞咗，唔知點算。",
    "cp949": "주문이 발송되었습니다. 확인해 주세요.",
    "johab": "주문이 발송되었습니다. 확인해 주세요.",
    "iso2022_jp": "納品書の住所を変更しました。",
    "utf-8": "Die Förderhöhe beträgt 12 m.",
    "utf-16": "Die Förderhöhe beträgt 12 m.",
}


@pytest.mark.parametrize("codec", LAST_LINES)
@pytest.mark.parametrize("before", ["", ASCII])
def test_the_lines_beyond_ascii_decide_the_encoding_wherever_they_are(
    codec: str, before: str
) -> None:
    line = LAST_LINES[codec]
    data = f"{before}{line}\n".encode(codec)
    assert decode(data).text.splitlines()[-1] == line


def test_a_late_accent_of_a_web_page_is_decoded() -> None:
    page = f"<html><body><main><pre>{ASCII}</pre><p>Größe über 5 Meter.</p></main></body></html>"
    assert "Größe über 5 Meter." in parse_document(page.encode("cp1252"), "a.html").text


@pytest.mark.parametrize("size", [2_000, 4_000_000])
def test_a_long_line_is_decoded_in_linear_time(size: int) -> None:
    line = b"a" * size + "Größe über 5 Meter, Prüfung für Müller".encode("cp1252")
    assert decode(line).text.endswith("Größe über 5 Meter, Prüfung für Müller")


@pytest.mark.parametrize(
    ("other", "line"), [("cp1252", "Prüfung für Müller"), ("cp932", "東京の住所を変更しました")]
)
def test_lines_in_two_encodings_are_decoded_one_by_one(other: str, line: str) -> None:
    lines = ["Größe über", "納品書の住所", "only ASCII"] * 3
    data = "\n".join(lines).encode() + b"\n" + line.encode(other)
    assert decode(data).text.split("\n") == [*lines, line]
    assert decode(codecs.BOM_UTF8 + data).text.split("\n") == [*lines, line]


@pytest.mark.parametrize(
    ("text", "codec", "label"),
    [
        ("νερό", "cp1253", "windows-1253"),
        ("שער המים נסגר", "iso8859_8", "ISO-8859-8"),
        ("“Größe” – 5 €", "cp1252", "iso-8859-1"),
        ("一些", "gb18030", "gb2312"),
        ("แดง", "cp874", "TIS-620"),
        ("①番", "cp932", "shift_jis"),
        ("ę", "cp1250", "x-cp1250"),
        ("привет", "utf-16-le", "utf-16"),
        ("己所不欲", "hz", "hz-gb-2312"),
        ("Größe", "utf-8", "utf-8"),
    ],
)
def test_the_encoding_that_the_server_states_counts(text: str, codec: str, label: str) -> None:
    assert decode(text.encode(codec), label)[::2] == (text, None)


@pytest.mark.parametrize(
    ("text", "codec", "label", "ignored"),
    [
        ("Größe über 5 Meter", "utf-8", "iso-8859-1", "iso-8859-1"),
        ("中文", "utf-8", "iso-8859-1", "iso-8859-1"),
        ("Привет, мир", "cp1251", "utf-8", "utf-8"),
        ("Привет, мир", "utf-16", "windows-1251", "windows-1251"),
        ("only ASCII", "utf-8", "windows-1251", None),
        ("Привет, мир", "cp1251", "rot13", None),
        ("Привет, мир", "cp1251", "unicode_escape", None),
    ],
)
def test_an_impossible_statement_is_ignored_and_named(
    text: str, codec: str, label: str, ignored: str | None
) -> None:
    assert decode(text.encode(codec), label)[::2] == (text, ignored)


def test_the_server_counts_more_than_the_document() -> None:
    page = "<meta charset='koi8-r'><p>Привет"
    assert decode(page.encode("cp1251"), "windows-1251").text == page
    assert decode(page.encode("koi8_r")).text == page


@pytest.mark.parametrize(
    "statement",
    [
        '<?xml version="1.0" encoding="{}"?><a>',
        '<meta http-equiv="Content-Type" content="text/html; charset={}">',
        "<!-- <meta charset=utf-16> --><meta charset={}>",
        '@charset "{}";\n',
        "#!/bin/sh\n# -*- coding: {} -*-\n",
        "# vim: set fileencoding={} :\n",
        'msgid ""\nmsgstr ""\n"Content-Type: text/plain; charset={}\\n"\n',
        "\\documentclass{{article}}\n\\usepackage[{}]{{inputenc}}\n",
        "= Title\n:encoding: {}\n",
    ],
)
def test_the_encoding_that_a_document_states_counts(statement: str) -> None:
    # A guess would read this as windows-1252.
    text = statement.format("iso-8859-2") + "ő"
    assert decode(text.encode("iso8859_2")).text == text


def test_xml_articles_are_read_in_the_encoding_that_they_declare() -> None:
    article = (
        '<?xml version="1.0" encoding="windows-1251"?><article xmlns="http://docbook.org/ns/docbook">'
        "<title>Насос</title><para>Давление упало.</para></article>"
    )
    document = parse_document(article.encode("cp1251"), "a.dbk")
    assert document.title == "Насос" and "Давление упало." in document.text


def test_noise_after_a_text_makes_it_binary() -> None:
    noise = bytes(range(256)) * 400
    with pytest.raises(ParseError, match="binary"):
        decode(ASCII.encode() + noise)


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("max\u200bUpload\u200bSize", "maxUploadSize"),
        ("Kor\u00admoran trans\u2060fer", "Kormoran transfer"),
        ("Fens\u00ad\n  terladen", "Fensterladen"),
        ("f\u2061(x)\ufffc", "f(x)"),
        ("ភាសា\u200bខ្មែរ", "ភាសា\u200bខ្មែរ"),
        ("می\u200cشود", "می\u200cشود"),
        ("👩\u200d💻 ❤\ufe0f", "👩\u200d💻 ❤\ufe0f"),
    ],
)
def test_invisible_characters_are_removed_where_they_mean_nothing(text: str, cleaned: str) -> None:
    assert clean(text) == cleaned


@pytest.mark.parametrize(
    ("text", "codec"),
    [
        ("สถานีสูบน้ำหยุดทำงานและประตูน้ำทิศเหนือถูกปิดในวันอังคาร", "cp874"),
        ("שער המים נפתח ב־קיץ", "cp1255"),
        ("دریچه‌های شمالی بسته شده‌اند و پمپ‌ها کار نمی‌کنند", "cp1256"),
        ("Preis: 45 €", "cp1252"),
        ("Temperature 45°C ±2", "cp1252"),
        ("Inhalt: Übung15", "cp1252"),
        # The last byte begins a character in East Asian encodings.
        ("Written by José", "cp1252"),
    ],
)
def test_marks_and_lone_signs_do_not_mislead_the_guess(text: str, codec: str) -> None:
    text = text.replace("ی", "ي") if codec == "cp1256" else text
    assert parse_document(text.encode(codec), "a.txt").text == clean(text)


def test_the_colours_of_captured_output_are_no_text() -> None:
    line = b"\x1b[32m09:44\x1b[0m \x1b[1;31mERROR\x1b[m pump\x1b[K \x1b]8;;http://a/\x1b\\link\x1b]8;;\x1b\\"
    assert parse_document(line, "a.log").text == "09:44 ERROR pump link"
