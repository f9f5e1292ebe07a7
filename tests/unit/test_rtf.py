"""RTF: every word once, in the characters of its fonts, on handmade files."""

from __future__ import annotations

import pytest

from resources.parsing import parse_document
from tests.support.parsed import parse

_FONTS = (
    r"{\fonttbl{\f0\fcharset0 Arial;}{\f1\fcharset204 Arial Cyr;}{\f2\fcharset128 Gothic;}"
    r"{\f3\fcharset2{\*\panose 0505}Symbol;}{\f4\cpg1253 Greek;}}"
)


@pytest.mark.parametrize(
    ("rtf", "expected"),
    [
        (r"Pump\tab 500\~bar wind\_proof Fens\-ter", "Pump 500 bar wind-proof Fenster"),
        (r"one\page two\pard\par", "one two"),
        (r"kept {\deleted gone}{\v hidden}on", "kept on"),
        (r"Before{\shp{\*\shpinst{\sp x}{\shptxt \pard Box\par}}}after", "Beforeafter Box"),
    ],
)
def test_rtf_keeps_blanks_hyphens_and_boxes(rtf: str, expected: str) -> None:
    text = parse(f"{{\\rtf1\\ansi\\ansicpg1252 {rtf}}}", "a.rtf").text
    assert " ".join(text.replace("*", "").split()) == expected


def test_rtf_is_decoded_by_the_charset_of_its_fonts() -> None:
    escaped = "".join(f"\\'{byte:02x}" for byte in "日本語の文書".encode("cp932"))
    rtf = f"{{\\rtf1\\ansi\\deff0{{\\fonttbl{{\\f0\\fnil\\fcharset128 Gothic;}}}}\\f0 {escaped}\\par}}"
    assert parse(rtf, "a.rtf").text == "日本語の文書"


@pytest.mark.parametrize(
    ("rtf", "expected"),
    [
        (r"smile \u-10179?\u-8694? end", "smile 😊 end"),
        (r"\u-10240? alone \u-9216? here", "alone here"),
        (r"\uc0 smile \u55357 \u56842 .", "smile 😊."),
        (r"{\uc2 caf\u233ab} {\uc0 caf\u233 }{\u8217\'92s}", "café café’s"),
        (r"\b\'41\b0\'e9 x", "Aé x"),
        (
            _FONTS
            + r"\f0 caf\'e9 \f1 \'cf\'f0\'e8\'e2\'e5\'f2 {\f2 \'93\'fa\'83A }\f3 mm \'b3\f4  \'ea\'e1\'e9",
            "café Привет 日ア μμ ≥ και",
        ),
        (r"{\mvf moved}{\mvt moved}", "moved"),
        (r"{\mmath{\*\moMath{\mr E=mc}}}", "E=mc"),
    ],
    ids=(
        "utf-16",
        "halves",
        "no replacement",
        "replacements",
        "ascii",
        "fonts",
        "moved",
        "formula",
    ),
)
def test_the_characters_of_rtf_are_those_of_its_fonts(rtf: str, expected: str) -> None:
    text = parse(f"{{\\rtf1\\ansi\\ansicpg1252\\deff0 {rtf}}}", "a.rtf").text
    assert " ".join(text.replace("*", "").split()) == expected


def test_raw_bytes_of_rtf_are_in_its_code_page() -> None:
    assert (
        parse_document("{\\rtf1\\ansi\\ansicpg1251 Привет}".encode("cp1251"), "a.rtf").text
        == "Привет"
    )
    assert parse_document(b"{\\rtf1\\mac caf\\'8e}", "a.rtf").text == "café"
    picture = b"{\\pict\\bin9 {\\\x80}}'41\xff}"
    shown = parse_document(
        b"{\\rtf1\\ansi\\ansicpg1251 a" + picture + b"\\'cf b\\~c}", "a.rtf"
    ).text
    assert shown == "aП b c"
