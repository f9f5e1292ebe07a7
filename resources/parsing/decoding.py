"""Bytes of unknown encoding → text, and the repair of every text.

Order: byte order mark, 7-bit escapes, UTF-16/32 by its zeros, UTF-8, the declared encoding, East Asian multi-byte
encodings by the characters they yield, then charset-normalizer's guess. File formats are in `formats`.
"""

from __future__ import annotations

import codecs
import re
import unicodedata
from functools import cache

from resources.errors import ParseError

#: UTF-32 comes before UTF-16, because its little-endian mark begins with that of UTF-16.
_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_DECLARED = re.compile(
    rb"""(?:<\?xml[^>]{0,200}?encoding|<meta[^>]{0,200}?charset)\s*=\s*["']?\s*([\w.:-]+)""",
    re.IGNORECASE,
)
#: Files that declare these names mean the vendor's superset (browsers read them so).
_SUPERSET = {
    "iso8859-1": "cp1252",
    "ascii": "cp1252",
    "shift_jis": "cp932",
    "euc_kr": "cp949",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "iso8859-9": "cp1254",
    "iso8859-11": "cp874",
    "tis-620": "cp874",
}
#: Encodings for the guess, the most likely first. Python has about 90; a guess among all of them returns rare ones
#: such as iso8859_10 or mac_iceland for short Western texts (measured: 573 of 662 samples exact, 613 with this list).
_GUESSES = (
    "cp1252 cp1250 iso8859_2 cp1254 cp932 euc_jp gb18030 big5 big5hkscs cp949 johab cp1251 "
    "koi8_r cp866 cp855 iso8859_5 cp1253 iso8859_7 cp1255 iso8859_8 cp1256 iso8859_6 cp1257 "
    "tis_620 cp1258 koi8_u mac_cyrillic hz cp500 cp037 cp852 cp850"
)
#: Size of the sample that decides the encoding; the whole file is then decoded.
_SAMPLE_BYTES = 64 * 1024
#: Content with a larger share of control characters is binary.
_MAX_CONTROLS = 0.02

_CONTROLS = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufeff]")
_NEWLINES = re.compile("\r\n?|[\x0b\x0c\x85\u2028\u2029]")
_ODD = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff]")
#: Mojibake turns one character into two or three adjacent ones above ASCII. Of 3,565 pages in Chinese, Japanese,
#: Korean, Arabic and English, 100 have such a pair; the others skip ftfy (0.4 ms a page).
_MOJIBAKE = re.compile("[\x80-\u04ff\u2013-\u25ff][\x80-\u04ff\u2013-\u25ff]")


def decode(data: bytes) -> tuple[str, str]:
    """Return the text, not repaired, and its codec.

    Raises ParseError if the content is binary or no encoding fits.
    """
    for mark, codec in _BOMS:
        if data.startswith(mark):
            return _decode_as(data, codec), codec
    if b"\x1b$" in data:
        codec = "iso2022_kr" if b"\x1b$)C" in data else "iso2022_jp_2"
        if (text := _try_decode(data, codec)) is not None:
            return text, codec
    if codec := _utf_16_or_32(data[:4096]):
        return _decode_as(data, codec), codec
    if (text := _try_decode(data, "utf-8")) is not None:
        return _require_text(text), "utf-8"
    damaged = data.decode("utf-8", "replace")
    replacements = damaged.count("\ufffd")
    non_ascii = sum(c > "\x7f" for c in damaged)
    # A stray byte must not change the encoding of the whole file.
    if replacements * 20 < non_ascii and replacements < len(damaged) / 1000 + 2:
        return _require_text(damaged), "utf-8"
    if data[:_SAMPLE_BYTES].count(0) > _MAX_CONTROLS * len(data[:_SAMPLE_BYTES]):
        raise ParseError("the content is binary, not text")
    codec = _declared_codec(data) or _east_asian_codec(data[:_SAMPLE_BYTES]) or _guess_codec(data)
    if codec is None:
        raise ParseError("the content is binary, or its text encoding could not be determined")
    return _decode_as(data, codec), codec


def clean(text: str) -> str:
    """Return repaired text: mojibake undone, NFC, newlines as "\\n", no control characters besides newline and tab.

    Idempotent. Keeps quotes, ligatures, widths and entities: the author may have chosen them.
    """
    while (cleaned := _clean_once(text)) != text:
        text = cleaned
    return text


def _clean_once(text: str) -> str:
    if not text.isascii() and _MOJIBAKE.search(text):
        text = _undo_mojibake(text)
    if _ODD.search(text):
        text = _CONTROLS.sub("", _NEWLINES.sub("\n", text))
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def _undo_mojibake(text: str) -> str:
    # Import cost: 46–64 ms.
    from ftfy import TextFixerConfig, fix_encoding
    from ftfy.badness import is_bad

    config = TextFixerConfig(unescape_html=False, normalization=None)
    # Line by line: if only one paragraph is damaged, ftfy cannot repair the file as a whole.
    return "\n".join(
        fix_encoding(line, config) if _MOJIBAKE.search(line) and is_bad(line) else line
        for line in text.split("\n")
    )


def _try_decode(data: bytes, codec: str) -> str | None:
    try:
        return data.decode(codec)
    except (UnicodeDecodeError, LookupError):
        return None


def _decode_as(data: bytes, codec: str) -> str:
    # A guess that fits the sample may fail later (a truncated last character, a stray byte): replace that byte.
    return _require_text(data.decode(codec, "replace"))


def _require_text(text: str) -> str:
    sample = text[:_SAMPLE_BYTES]
    if len(_CONTROLS.findall(sample)) > _MAX_CONTROLS * len(sample) + 1:
        raise ParseError("the content is binary, not text")
    return text


def _utf_16_or_32(sample: bytes) -> str | None:
    """Return the codec of UTF-16 or UTF-32 without a byte order mark: zeros repeat at fixed positions."""
    if sample.count(0) * 5 < len(sample):
        return None
    quarters = [sample[i::4].count(0) / max(1, len(sample) // 4) for i in range(4)]
    if quarters[2] > 0.9 and quarters[3] > 0.9:
        return "utf-32-le"
    if quarters[0] > 0.9 and quarters[1] > 0.9:
        return "utf-32-be"
    even, odd = (quarters[0] + quarters[2]) / 2, (quarters[1] + quarters[3]) / 2
    if max(even, odd) > 0.4 and min(even, odd) < 0.05:
        return "utf-16-be" if even > odd else "utf-16-le"
    return None


def _declared_codec(data: bytes) -> str | None:
    if not (declaration := _DECLARED.search(data[:2048])):
        return None
    try:
        name = codecs.lookup(declaration[1].decode("ascii", "replace")).name
    except LookupError:
        return None
    for codec in (name, _SUPERSET.get(name, name)):
        if not codec.startswith("utf") and _try_decode(data, codec) is not None:
            return codec
    return None


@cache
def _frequent_characters(codec: str, first: int, last: int) -> frozenset[str]:
    """Return the first-level characters of a double-byte set: those of ordinary text."""
    pairs = (bytes((lead, trail)) for lead in range(first, last) for trail in range(0x40, 0xFF))
    return frozenset(
        text
        for pair in pairs
        if (text := _try_decode(pair, codec)) and len(text) == 1 and text > "\u3400"
    )


def _east_asian_codec(sample: bytes) -> str | None:
    """Return the East Asian encoding in which the bytes are valid and yield frequent characters, or None.

    charset-normalizer fails on such text when it contains code (measured on 40 Korean pages: 26 undecided).
    """
    best, best_score = None, 0.0
    for codec in ("euc_jp", "cp932", "cp949", "johab", "gb18030", "big5"):
        try:
            text = codecs.getincrementaldecoder(codec)("strict").decode(sample)
        except UnicodeDecodeError:
            continue
        foreign = [
            c
            for c in text
            if c > "\x7f" and not "\u3000" <= c <= "\u303f" and not "\uff01" <= c <= "\uff60"
        ]
        if not foreign:
            continue
        if codec in ("euc_jp", "cp932"):
            kana = sum("\u3041" <= c <= "\u30ff" for c in foreign) / len(foreign)
            han = sum("\u4e00" <= c <= "\u9fff" for c in foreign) / len(foreign)
            score = kana + han if kana > 0.15 else 0.0
        elif codec in ("cp949", "johab"):
            frequent = _frequent_characters("euc_kr", 0xB0, 0xC9)
            score = sum(c in frequent for c in foreign) / len(foreign)
            # Chinese decoded as Korean scores 0.45–0.66.
            score = score if score > 0.85 else 0.0
        elif codec == "gb18030":
            frequent = _frequent_characters("gb2312", 0xB0, 0xD8)
            score = 0.98 * sum(c in frequent for c in foreign) / len(foreign)
        else:
            frequent = _frequent_characters("big5", 0xA4, 0xC7)
            score = 0.98 * sum(c in frequent for c in foreign) / len(foreign)
        if score > best_score:
            best, best_score = codec, score
    return best if best_score >= 0.7 else None


def _guess_codec(data: bytes) -> str | None:
    # Import cost: 31 ms.
    from charset_normalizer import from_bytes

    rank = {codec: i for i, codec in enumerate(_GUESSES.split())}
    matches = list(from_bytes(data[:_SAMPLE_BYTES], cp_isolation=list(rank), threshold=0.3))
    if not matches:
        return None
    # The more common encoding wins near ties in disorder (0.02) and coherence (0.1).
    best = min(
        matches,
        key=lambda m: (
            round(m.chaos / 0.02),
            -round(m.coherence * 10),
            rank.get(m.encoding, len(rank)),
        ),
    )
    # Central European text in cp1250 has š, ž, ś or quotes in bytes 80–9F; without these bytes it is ISO 8859-2.
    if best.encoding == "cp1250" and not any(0x80 <= byte < 0xA0 for byte in data):
        return "iso8859_2"
    return best.encoding
