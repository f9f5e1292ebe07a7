"""The encoding of a text that states none, from its bytes above ASCII.

The codec wins that makes the text most probable: letters of one language in usual frequency, no capitals or signs
inside words, frequent characters of East Asian languages. Where no codec makes words, charset-normalizer decides.
"""

from __future__ import annotations

import codecs
import re
import unicodedata
from collections import Counter
from functools import cache

from resources.errors import ParseError
from resources.parsing.function_words import FUNCTION_WORDS
from resources.parsing.letter_frequencies import CHINESE, JAPANESE, KOREAN, LETTERS

#: Encodings for the guess, the most likely first: a tie is decided by this order. Python has about 90; a guess among
#: all of them returns rare ones such as iso8859_10 or mac_iceland for short Western texts.
_ALPHABETS = (
    *("cp1252", "cp1251", "cp1250", "iso8859_2", "cp1254", "cp1253", "cp1255", "cp1256", "cp1257"),
    *("cp874", "koi8_r", "koi8_u", "cp866", "cp850", "cp437", "cp852", "iso8859_15", "iso8859_5"),
    *("iso8859_7", "iso8859_8", "iso8859_6", "mac_roman", "mac_cyrillic", "cp855", "cp1258"),
    *("cp737", "cp862", "cp864", "cp857", "cp775", "mac_latin2", "ptcp154"),
)
_EAST_ASIAN = ("cp932", "gb18030", "euc_jp", "cp949", "cp950", "big5hkscs", "johab")
_GUESSES = (*_ALPHABETS, *_EAST_ASIAN)
#: Size of the sample that decides the encoding; the whole file is then decoded.
SAMPLE_BYTES = 16 * 1024
#: Longest part of a line in the sample, and the ASCII before its first other byte.
_PART_BYTES, _LEAD_BYTES = 2048, 200

_NON_ASCII = re.compile(rb"[\x80-\xff]")
#: A byte that is no part of a longer character, in any encoding of the guess.
_BETWEEN = re.compile(rb"[\0-\x20]")


def guess_codec(data: bytes) -> str:
    """Return the most likely codec. Raises ParseError if none fits."""
    codec = codec_of_words(data) or _guess_by_charset_normalizer(evidence(data))
    if codec is None:
        raise ParseError("the content is binary, or its text encoding could not be determined")
    return codec


def codec_of_words(data: bytes) -> str | None:
    """Return the codec that makes the text most probable, or None if none makes words."""
    sample = evidence(data)
    best, least = None, _NO_WORDS * sum(byte > 0x7F for byte in sample) + _FIRST_WORD
    for place, codec in enumerate(_GUESSES):
        text = _decode_sample(sample, codec)
        bits = _bits(text, codec) + _STRAY * text.count("\ufffd") + _PLACE * place
        if bits < least:
            best, least = codec, bits
    # Central European text in cp1250 has š, ž, ś or quotes in bytes 80–9F; without these bytes it is ISO 8859-2.
    if best == "cp1250" and not any(0x80 <= byte < 0xA0 for byte in sample):
        return "iso8859_2"
    return best


def _decode_sample(sample: bytes, codec: str) -> str:
    # A full sample may end inside a character, and a stray byte must not exclude the encoding of all others.
    is_whole = len(sample) < SAMPLE_BYTES
    text = codecs.getincrementaldecoder(codec)("replace").decode(sample, is_whole)
    return unicodedata.normalize("NFC", text)


def try_decode(data: bytes, codec: str) -> str | None:
    """Return the text, or None if the bytes are not in this encoding."""
    try:
        return data.decode(codec)
    except (UnicodeDecodeError, LookupError):
        return None


def evidence(data: bytes) -> bytes:
    """Return the lines with bytes above ASCII, up to the size of the sample: ASCII is the same in most encodings.

    Of long lines, the parts around such bytes. A part begins with ASCII and ends between two characters.
    """
    parts: list[bytes] = []
    size = position = 0
    while size < SAMPLE_BYTES and (first := _NON_ASCII.search(data, position)):
        start = max(
            data.rfind(b"\n", position, first.start()) + 1, first.start() - _LEAD_BYTES, position
        )
        limit = first.start() + _PART_BYTES
        end = data.find(b"\n", first.start(), limit) + 1
        if not end:
            between = _BETWEEN.search(data, limit)
            end = between.end() if between else len(data)
        parts.append(data[start : min(end, start + SAMPLE_BYTES)])
        size += len(parts[-1])
        position = end
    return b"\n".join(parts)[:SAMPLE_BYTES]


# Bits of a character: of the best letter, for each rank below, and of others. English text has four bits a letter.
_BEST_LETTER, _RANK = 3.2, 0.18
_ASCII_LETTER = 4.5
_CAPITAL, _CAPITAL_INSIDE, _WORD = 1.5, 8.0, -4.0
_PUNCTUATION, _FOREIGN_LETTER, _SIGN, _SIGN_INSIDE, _CONTROL = 7.5, 12.0, 11.0, 6.0, 16.0
#: The most frequent character above ASCII in English.
_APOSTROPHE = 5.0
_KANA, _HALFWIDTH_KANA, _VERY_FREQUENT, _FREQUENT, _RARE = 6.5, 6.0, 7.5, 11.7, 16.0
#: Bits of a byte that no character begins with.
_STRAY = 20.0
#: Bits a character, from which on a text is no words.
_NO_WORDS = 9.0
#: Bits by which the only word may be worse: it begins with a capital.
_FIRST_WORD = 4.0
#: Bits by which a codec must be better than an earlier one, for each place between them.
_PLACE = 0.1

_RANKS = {
    language: {letter: rank for rank, letter in reversed([*enumerate(letters)])}
    for language, letters in LETTERS.items()
}
_USUAL_SIGNS = frozenset("\xa0¡£¥§©«®°±²³·º»½¿×™–—‘’“”„…•€№،؛؟־׳״\u200c、。「」・，！？：；（）")
#: Signs inside words besides marks, which belong to the letter before: hyphen, apostrophes, non-joiner.
_IN_WORDS = frozenset("־׳״\u200c\u200d")
#: One letter beside a number is rather a sign: € behind 45, ± before 2.
_BESIDE_NUMBER = re.compile(
    r"(?:(?<=\d)|(?<=\d[ \xa0]))[^\W\d_](?!\w)|(?<!\w)[^\W\d_](?=[ \xa0]?\d)"
)
_INSIDE = re.compile(r"(?<=[^\W\d_])[^\w\s'’·.,:;!?()/\\|<>\"=&\[\]{}@#%*+~^`$-](?=[^\W\d_])")
#: Half-width kana beside letters or full-width characters: bytes of another encoding.
_HALFWIDTH_AMID = re.compile(
    "(?<=[A-Za-z\u3041-\u9fff])[\uff61-\uff9f]|[\uff61-\uff9f](?=[A-Za-z\u3041-\u9fff])"
)
#: Signs that no word begins with, and vowels and tones of other scripts behind a Latin letter.
_MISPLACED = re.compile(
    "[№§©±•](?=[a-z])|(?<=[A-Za-z])[\u05b0-\u05c7\u064b-\u0652\u0e31\u0e34-\u0e3a\u0e47-\u0e4e]"
)
_WORDS = re.compile(r"[^\W\d_]+")


def _bits(text: str, codec: str) -> float:
    """Return the bits of the characters above ASCII, and how unusual the ASCII letters in their words are."""
    return _east_asian_bits(text, codec) if codec in _EAST_ASIAN else _alphabet_bits(text)


def _alphabet_bits(text: str) -> float:
    words = [word for word in _WORDS.findall(text) if not word.isascii()]
    bits = _SIGN_INSIDE * sum(map(_is_sign_inside, _INSIDE.findall(text)))
    bits += _SIGN_INSIDE * len(_MISPLACED.findall(text))
    bits += _CAPITAL_INSIDE * sum(not letter.isascii() for letter in _BESIDE_NUMBER.findall(text))
    for word in words:
        if not (word.isupper() or word.islower()):
            bits += _CAPITAL_INSIDE * sum(map(str.isupper, word[1:]))
            bits += _CAPITAL * word[0].isupper()
    letters = Counter("".join(words).lower())
    others = Counter(c for c in text if c > "\x7f" and not c.isalpha())
    listed = frozenset(text.lower().split())
    best = min(
        sum(_letter_bits(ranks, letter) * count for letter, count in letters.items())
        + sum(_other_bits(ranks, sign) * count for sign, count in others.items())
        + _WORD * len(listed & FUNCTION_WORDS.get(language, frozenset()))
        for language, ranks in _RANKS.items()
    )
    return bits + best


def _is_sign_inside(sign: str) -> bool:
    # Vowels of Thai and Hebrew, tones of Vietnamese.
    is_mark = unicodedata.category(sign).startswith("M")
    return not (sign.isascii() or sign in _IN_WORDS or is_mark)


def _letter_bits(ranks: dict[str, int], letter: str) -> float:
    rank = ranks.get(letter)
    bits = _FOREIGN_LETTER if rank is None else _BEST_LETTER + _RANK * rank
    return bits - _ASCII_LETTER if letter.isascii() else bits


def _other_bits(ranks: dict[str, int], character: str) -> float:
    if character in ranks:
        return _letter_bits(ranks, character)
    if character in _USUAL_SIGNS:
        return _APOSTROPHE if character == "’" else _PUNCTUATION
    category = unicodedata.category(character)
    return _CONTROL if category in ("Cc", "Co", "Cn") else _SIGN


@cache
def _frequent_characters(codec: str, first: int, last: int) -> frozenset[str]:
    """Return the first-level characters of a double-byte set: those of ordinary text."""
    pairs = (bytes((lead, trail)) for lead in range(first, last) for trail in range(0x40, 0xFF))
    return frozenset(
        text
        for pair in pairs
        if (text := try_decode(pair, codec)) and len(text) == 1 and text > "\u3400"
    )


def _east_asian_bits(text: str, codec: str) -> float:
    very_frequent, first_level, has_kana = _east_asian_characters(codec)
    bits = _SIGN_INSIDE * len(_HALFWIDTH_AMID.findall(text)) if has_kana else 0.0
    for character in text:
        if character <= "\x7f":
            continue
        if character in very_frequent:
            bits += _VERY_FREQUENT
        elif character in first_level:
            bits += _FREQUENT
        elif character in _USUAL_SIGNS:
            bits += _PUNCTUATION
        elif has_kana and "\u3041" <= character <= "\u30ff":
            bits += _KANA
        elif has_kana and "\uff61" <= character <= "\uff9f":
            bits += _HALFWIDTH_KANA
        else:
            bits += _RARE
    return bits


@cache
def _east_asian_characters(codec: str) -> tuple[frozenset[str], frozenset[str], bool]:
    """Return the very frequent characters, those of the first level, and whether kana are usual."""
    if codec in ("cp932", "euc_jp"):
        return frozenset(JAPANESE), _frequent_characters("euc_jp", 0xB0, 0xD0), True
    if codec in ("cp949", "johab"):
        return frozenset(KOREAN), _frequent_characters("euc_kr", 0xB0, 0xC9), False
    if codec == "gb18030":
        return frozenset(CHINESE), _frequent_characters("gb2312", 0xB0, 0xD8), False
    return frozenset(CHINESE), _frequent_characters("big5", 0xA4, 0xC7), False


def _guess_by_charset_normalizer(sample: bytes) -> str | None:
    # Import cost: 31 ms.
    from charset_normalizer import from_bytes

    matches = from_bytes(sample, cp_isolation=list(_GUESSES), threshold=0.3)
    best = matches.best()
    return best.encoding if best else None
