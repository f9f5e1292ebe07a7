"""The terms of a text: words of any script, and which spellings and characters make different ones."""

from __future__ import annotations

import unicodedata

import pytest

from rag_assets.pipeline.vectors import KINDS
from resources.embedders.lexical import LexicalEmbedder
from resources.embedders.lexical_terms import tokenize
from tests.support.lexical_vectors import rows


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("Create_Index(2.5)", ["create", "index", "2", "5"]),
        ("don’t", ["don", "t"]),
        ("東京へ", ["東京", "京へ", "へ"]),
        ("第3章", ["第", "3", "章"]),
        ("API를 쓰는", ["api", "를", "쓰는"]),
        ("हिन्दी", ["हिन्दी"]),
        ("Straße ＡＢＣ ﾃｽﾄ", ["strasse", "abc", "テス", "スト", "ト"]),
        ("in\u00adfor\u200dmation", ["information"]),
        ("कृपया\u200c", ["कृपया"]),
        ("a+b", ["a", "b"]),
        ("+ +", ["+", "+"]),
        ("\u0640", ["\u0640"]),
    ],
)
def test_tokenize_returns_the_tokens(text: str, tokens: list[str]) -> None:
    assert tokenize(text) == tokens


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("é", "e\u0301"),
        ("ｶﾞｲﾄﾞ", "ガイド"),
        ("كتاب عربي", "کتاب عربی"),
        ("مُحَمَّد", "محمد"),
        ("كـــتاب", "كتاب"),
        ("کتاب‌ها", "کتاب ها"),
        ("۲۰۱۶", "2016"),
        ("שָׁלוֹם", "שלום"),
        ("ÉCOLE", "école"),
        ("școală", "şcoală"),
        ("s\u0326coală", "ŞCOALĂ"),
        ("ķēniņš", "k\u0326ēnin\u0326š"),
        ("ẹyọ", "e\u0329yo\u0329"),
        ("м'ята", "м’ята"),
        ("м'ята", "мʼята"),
        ("м'ята", "м´ята"),
        ("oʻzbek", "o'zbek"),
        ("İstanbul", "istanbul"),
        ("Đorđe", "Ðorđe"),
        ("Москва", "M\u043eсква"),
        ("Apple", "\u0410pple"),
        ("Ελλάδα", "E\u03bbλάδα"),
        ("кӀант", "кIант"),
        ("१२ ๑๒ ১২", "12 12 12"),
        ("\u1112\u1161\u11ab", "한"),
        ("अाम", "आम"),
        ("അവൻ", "അവന്\u200d"),
        ("แม่", "เเม่"),
        ("น้ำ", "นํ้า"),
        ("hòa thủy", "hoà thuỷ"),
        ("ײד", "ייד"),
        ("袖ヶ浦", "袖ケ浦"),
    ],
)
def test_spellings_of_the_same_word_have_the_same_vectors(first: str, second: str) -> None:
    result = LexicalEmbedder().embed([first, second], KINDS)
    assert rows(result, 0) == rows(result, 1)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("sık", "sik"),
        ("schön", "schon"),
        ("все", "всё"),
        ("нехай", "нехаи"),
        ("نهر", "نحر"),
        ("بھاری", "بہاری"),
        ("അവൻ", "അവന്"),
        ("ハハ", "ババ"),
        ("хор", "xop"),
    ],
)
def test_letters_that_make_different_words_stay_apart(first: str, second: str) -> None:
    assert tokenize(first) != tokenize(second)


def test_an_invisible_character_is_no_part_of_a_word() -> None:
    formats = {chr(c) for c in range(0x110000) if unicodedata.category(chr(c)) == "Cf"}
    # These are drawn: signs before numbers and verses, and the layout of Egyptian signs.
    drawn = {c for c in formats if "EGYPTIAN" in unicodedata.name(c)}
    drawn |= set(
        "\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd"
    )
    others = "\u034f\u115f\u1160\u17b4\u17b5\u180b\u3164\ufe0f\uffa0\ufffc\U000e0100"
    for character in [*(formats - drawn), *others]:
        assert tokenize(f"kor{character}moran") == ["kormoran"], ascii(character)


def test_a_zero_width_space_divides_words_of_scripts_without_spaces_only() -> None:
    assert tokenize("max\u200bUpload\u200bSize") == tokenize("maxUploadSize")
    assert tokenize("ភាសា\u200bខ្មែរ") == tokenize("ភាសា ខ្មែរ") != tokenize("ភាសាខ្មែរ")
    assert tokenize("東京\u200b都") == tokenize("東京都")


def test_decimal_digits_of_any_script_are_digits() -> None:
    for code in range(0x10000):
        if (digit := unicodedata.decimal(chr(code), None)) is not None:
            assert tokenize(f"é {chr(code)}") == ["é", str(digit)]
