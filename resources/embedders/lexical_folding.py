"""Letters that keyboards, fonts and standards write in several ways → one letter each, for texts and queries alike.

Unicode's data decides where it can: compatibility forms, decompositions, decimal digits, default-ignorable characters,
names of apostrophes. The tables here are the exceptions. Letters that make different words stay apart: ı and i, ö and
o, е and ё, ح and ه.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter

#: Default_Ignorable_Code_Point of Unicode, with the anchors of annotations and objects: no part of a word.
INVISIBLE = (
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffc\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
#: Scripts without spaces, in which U+200B divides words.
_DIVIDED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u1950-\u19ff\u1a00-\u1aaf\u1b00-\u1bbf\ua980-\ua9ff\uaa00-\uaadf"
_DIVIDER = re.compile(f"(?<=[{_DIVIDED}])\u200b|\u200b(?=[{_DIVIDED}])")
#: The joiner before Persian endings.
_ARABIC_JOINER = re.compile("(?<=[\u0600-\u06ff])\u200c")
_POINTS = "\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7"

#: Marks that fonts draw alike: the comma and the turned comma for the cedilla, the line below for the dot below.
_MARKS = str.maketrans(
    {"\u0326": "\u0327", "\u0312": "\u0327", "\u0329": "\u0323", "\u0332": "\u0331"}
)
#: Rare letters -> the usual ones that are typed, read or printed for the same words.
_LETTERS = {
    **dict(zip("ǍǎǦǧǏǐǑǒǓǔĔĕ", "ĂăĞğĬĭŎŏŬŭĚě", strict=True)),  # caron and breve
    **dict(zip("ÐðƉɖƎǝɡɑ", "ĐđĐđƏəga", strict=True)),
    **dict(zip("Ӏӏ", "Іі", strict=True)),  # palochka
    **dict(zip("ヶヵ", "ケカ", strict=True)),
    **{"װ": "וו", "ױ": "וי", "ײ": "יי"},
}
_ARABIC_FORMS = {
    **dict(zip("\u064a\u0649\u0626", "\u06cc" * 3, strict=True)),  # yeh
    **dict(zip("\u0643\u06aa", "\u06a9" * 2, strict=True)),  # kaf
    **dict(zip("\u0623\u0625\u0622\u0671", "\u0627" * 4, strict=True)),  # alef
    **dict(zip("\u0629\u06c0\u06c1\u06c3\u06d5", "\u0647" * 5, strict=True)),  # heh
    "\u0624": "\u0648",  # waw
    **dict.fromkeys(
        map(chr, (0x640, *range(0x610, 0x61B), *range(0x64B, 0x660), 0x670, *range(0x6D6, 0x6EE))),
        "",
    ),
}
#: The zero of each set of decimal digits in the Basic Multilingual Plane; NFKC has folded full-width digits.
_ZEROS = (
    *(0x660, 0x6F0, 0x7C0, 0x966, 0x9E6, 0xA66, 0xAE6, 0xB66, 0xBE6, 0xC66, 0xCE6, 0xD66, 0xDE6),
    *(0xE50, 0xED0, 0xF20, 0x1040, 0x1090, 0x17E0, 0x1810, 0x1946, 0x19D0, 0x1A80, 0x1A90, 0x1B50),
    *(0x1BB0, 0x1C40, 0x1C50, 0xA620, 0xA8D0, 0xA900, 0xA9D0, 0xA9F0, 0xAA50, 0xABF0),
)
#: Two ways to type one letter of a Brahmic script: Unicode's chillus and its list of sequences not to emit, Thai and
#: Lao letters typed as two, and the two orders of a tone and nikhahit.
_SEQUENCES = {
    **{f"{base}്\u200d": chillu for base, chillu in zip("ണനരലളക", "ൺൻർൽൾൿ", strict=True)},
    "ত্\u200d": "ৎ",
    **{
        "अा": "आ",
        "अॅ": "ॲ",
        "अॉ": "ऑ",
        "अो": "ओ",
        "अौ": "औ",
        "एॅ": "ऍ",
        "एे": "ऐ",
        "आे": "ओ",
        "आै": "औ",
    },
    **{
        "অা": "আ",
        "અા": "આ",
        "અૅ": "ઍ",
        "અૉ": "ઑ",
        "અો": "ઓ",
        "અૌ": "ઔ",
        "ਅਾ": "ਆ",
        "ਅੈ": "ਐ",
        "ਅੌ": "ਔ",
    },
    **{"เเ": "แ", "ເເ": "ແ"},
    **{f"{sign}{tone}": f"{tone}{sign}" for sign, tones in (("ํ", "่้๊๋"), ("ໍ", "່້໊໋")) for tone in tones},
}
_SEQUENCE = re.compile("|".join(_SEQUENCES))
#: Vietnamese: the tone of an open syllable stands on either vowel.
_TONES = {
    f"{first[tone]}{plain}": f"{first[0]}{second[tone]}"
    for first, plain, second in (
        ("oòóỏõọ", "a", "aàáảãạ"),
        ("oòóỏõọ", "e", "eèéẻẽẹ"),
        ("uùúủũụ", "y", "yỳýỷỹỵ"),
    )
    for tone in range(1, 6)
}
_TONE = re.compile("[òóỏõọùúủũụ][aey]")

# Letters of three alphabets that look alike. Where a word mixes alphabets, all its letters belong to one of them.
_LATIN = "AaBCcEeHIiJjKkMOoPpSsTXxYyhQqWwÆæƏəëïäöl"
_LATIN_AS_CYRILLIC = dict(zip(_LATIN, "АаВСсЕеНІіЈјКкМОоРрЅѕТХхУуһԚԛԜԝӔӕӘәёїӓӧі", strict=True))
_CYRILLIC_AS_LATIN = {cyrillic: latin for latin, cyrillic in reversed(_LATIN_AS_CYRILLIC.items())}
_CYRILLIC_AS_LATIN["і"] = "i"
_GREEK_AS_LATIN = dict(zip("ΑΒΕΖΗΙΚΜΝΟΡΤΥΧανικορυχόάί", "ABEZHIKMNOPTYXavikopuxóáí", strict=True))
_LATIN_AS_GREEK = {latin: greek for greek, latin in _GREEK_AS_LATIN.items()}
_GREEK_AS_CYRILLIC = {
    greek: _LATIN_AS_CYRILLIC[latin]
    for greek, latin in _GREEK_AS_LATIN.items()
    if latin in _LATIN_AS_CYRILLIC
}
_CYRILLIC_AS_GREEK = {cyrillic: greek for greek, cyrillic in _GREEK_AS_CYRILLIC.items()}
_AS = {
    "Latin": _CYRILLIC_AS_LATIN | _GREEK_AS_LATIN,
    "Cyrillic": _LATIN_AS_CYRILLIC | _GREEK_AS_CYRILLIC,
    "Greek": _LATIN_AS_GREEK | _CYRILLIC_AS_GREEK,
}
_OTHER_ALPHABET = re.compile("[\u0370-\u052f]")
_MIXED = re.compile("[A-Za-z\u00c0-\u024f](?:(?=[\u0370-\u052f])|(?<=[\u0370-\u052f].))")
_LETTERS_ONLY = re.compile(r"[^\W\d_]+")


def _apostrophes() -> dict[str, str]:
    """Return the letters that are typed for an apostrophe, which divides words as the apostrophe itself does."""
    words = ("APOSTROPHE", "COMMA", "PRIME", "HALF RING", "SALTILLO", "VERTICAL LINE")
    candidates = map(chr, (*range(0x2B0, 0x300), 0x559, 0x7F4, 0x7F5, 0xA78B, 0xA78C))
    return {c: "'" for c in candidates if any(word in unicodedata.name(c) for word in words)}


def _drawn_alike() -> dict[str, str]:
    """Return the Latin letters with a mark that fonts draw like another one, and the marks themselves."""
    table = {chr(mark): other for mark, other in _MARKS.items()}
    for code in (*range(0xC0, 0x250), *range(0x1E00, 0x1F00)):
        parts = unicodedata.normalize("NFD", chr(code))
        if (alike := parts.translate(_MARKS)) != parts:
            table[chr(code)] = unicodedata.normalize("NFC", alike)
    return table


_TABLE = {
    **_apostrophes(),
    **_drawn_alike(),
    **_LETTERS,
    **_ARABIC_FORMS,
    **{chr(zero + digit): str(digit) for zero in _ZEROS for digit in range(10)},
}
_NO_PART_OF_A_WORD = re.compile(f"[{INVISIBLE}{_POINTS}]")
#: Texts without these characters need no table: most texts.
_SPECIAL = re.compile(
    f"[{INVISIBLE}{_POINTS}{''.join(map(re.escape, _TABLE))}\u0600-\u06ff\u0900-\u0eff]"
)


def fold(text: str) -> str:
    """Return the text in lower case and in NFKC, with one letter for those that are written for the same words."""
    # The compatibility form of this apostrophe is a blank with an accent.
    text = unicodedata.normalize("NFKC", text.replace("\u00b4", "'"))
    if _SPECIAL.search(text):
        text = _fold_special(text)
    if _OTHER_ALPHABET.search(text) and _MIXED.search(text):
        text = _LETTERS_ONLY.sub(lambda match: _in_one_alphabet(match[0]), text)
    # Case folding can undo a composition, so normalise twice.
    text = unicodedata.normalize("NFKC", text.casefold())
    if "\u0307" in text:
        # The capital I with a dot.
        text = text.replace("i\u0307", "i")
    return _TONE.sub(_with_tone_on_second, text)


def _with_tone_on_second(vowels: re.Match[str]) -> str:
    return _TONES.get(vowels[0], vowels[0])


def _fold_special(text: str) -> str:
    # A replacement takes 1 µs for a text of 1,000 characters; `translate` takes 30.
    characters = set(text)
    if "\u200b" in characters:
        text = _DIVIDER.sub(" ", text)
    if "\u200c" in characters:
        text = _ARABIC_JOINER.sub(" ", text)
    if any("\u0900" <= character <= "\u0eff" for character in characters):
        text = _SEQUENCE.sub(lambda match: _SEQUENCES[match[0]], text)
    for character in characters:
        replacement = _TABLE.get(character)
        if replacement is not None:
            text = text.replace(character, replacement)
        elif _NO_PART_OF_A_WORD.match(character):
            text = text.replace(character, "")
    return text


def _in_one_alphabet(word: str) -> str:
    """Return a word of several alphabets with the letters of one, if each other letter has a look-alike in it."""
    if not _MIXED.search(word):
        return word
    alphabets = Counter(map(_alphabet, word))
    for alphabet, _ in sorted(alphabets.items(), key=lambda item: (-item[1], item[0] != "Latin")):
        alike = _AS.get(alphabet, {})
        letters = [c if _alphabet(c) in (alphabet, "") else alike.get(c) for c in word]
        if all(letters):
            return "".join(map(str, letters))
    return word


def _alphabet(letter: str) -> str:
    if letter < "\u0250":
        return "Latin"
    if "\u0370" <= letter <= "\u03ff":
        return "Greek"
    return "Cyrillic" if "\u0400" <= letter <= "\u052f" else ""
