"""Bytes of unknown encoding → text, and the repair that every text goes through.

Order: byte order mark, UTF-8, 7-bit escapes, UTF-16/32 by its zeros, the encoding that the file declares, the East
Asian multi-byte encodings by what they spell, and charset-normalizer's guess for the rest. No file formats here.
"""

from __future__ import annotations

import codecs
import re
import unicodedata
from functools import cache

from resources.errors import ParseError

_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16: its mark begins with UTF-16's
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_DECLARED = re.compile(
    rb"""(?:<\?xml[^>]{0,200}?encoding|<meta[^>]{0,200}?charset)\s*=\s*["']?\s*([\w.:-]+)""",
    re.IGNORECASE,
)
#: What files mean by these names: the vendor's superset (as browsers read them).
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
#: Encodings that are guessed, likelier first. Python knows about 90; guessing among all of them returns rarities
#: such as iso8859_10 or mac_iceland for short Western texts (measured: 573 of 662 samples exact, 613 with this list).
_GUESSES = (
    "cp1252 cp1250 iso8859_2 cp1254 cp932 euc_jp gb18030 big5 big5hkscs cp949 johab cp1251 "
    "koi8_r cp866 cp855 iso8859_5 cp1253 iso8859_7 cp1255 iso8859_8 cp1256 iso8859_6 cp1257 "
    "tis_620 cp1258 koi8_u mac_cyrillic hz cp500 cp037 cp852 cp850"
)
#: How much of a file is looked at to guess; all of it is then decoded.
_SAMPLE_BYTES = 64 * 1024
#: More control characters than this share: not text.
_MAX_CONTROLS = 0.02

_CONTROLS = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufeff]")
_NEWLINES = re.compile("\r\n?|[\x0b\x0c\x85\u2028\u2029]")
_ODD = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff]")
#: Bytes of one character read as two or three: lead and continuation are neighbours above ASCII. Of 3,565 pages in
#: Chinese, Japanese, Korean, Arabic and English 100 have such a pair; the others are spared ftfy (0.4 ms a page).
_MOJIBAKE = re.compile("[\x80-\u04ff\u2013-\u25ff][\x80-\u04ff\u2013-\u25ff]")


def decode(data: bytes) -> tuple[str, str]:
    """The text and the codec it was read with. ParseError: binary content, or no encoding fits. Repairs nothing."""
    for mark, codec in _BOMS:
        if data.startswith(mark):
            return _decoded(data, codec), codec
    if b"\x1b$" in data:
        codec = "iso2022_kr" if b"\x1b$)C" in data else "iso2022_jp_2"
        if (text := _try(data, codec)) is not None:
            return text, codec
    if codec := _wide(data[:4096]):
        return _decoded(data, codec), codec
    if (text := _try(data, "utf-8")) is not None:
        return _textual(text), "utf-8"
    damaged = data.decode("utf-8", "replace")
    if (marks := damaged.count("\ufffd")) * 20 < sum(c > "\x7f" for c in damaged) and marks < len(
        damaged
    ) / 1000 + 2:
        return _textual(
            damaged
        ), "utf-8"  # a stray byte must not turn the whole file into another encoding
    if data[:_SAMPLE_BYTES].count(0) > _MAX_CONTROLS * len(data[:_SAMPLE_BYTES]):
        raise ParseError("the content is binary, not text")
    codec = _declared(data) or _east_asian(data[:_SAMPLE_BYTES]) or _guess(data)
    if codec is None:
        raise ParseError(
            "the content is binary, or text in an encoding that could not be determined"
        )
    return _decoded(data, codec), codec


def clean(text: str) -> str:
    """Repaired text: mojibake undone, NFC, newlines as "\\n", no control characters besides newline and tab.

    Idempotent. Leaves quotes, ligatures, widths and entities as they are: they may be the author's.
    """
    while (cleaned := _cleaned(text)) != text:
        text = cleaned
    return text


def _cleaned(text: str) -> str:
    if not text.isascii() and _MOJIBAKE.search(text):
        text = _undo_mojibake(text)
    if _ODD.search(text):
        text = _CONTROLS.sub("", _NEWLINES.sub("\n", text))
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def _undo_mojibake(text: str) -> str:
    from ftfy import TextFixerConfig, fix_encoding  # 46–64 ms
    from ftfy.badness import is_bad

    config = TextFixerConfig(unescape_html=False, normalization=None)
    # Line by line: one damaged paragraph in a sound file cannot be undone for the file as a whole.
    return "\n".join(
        fix_encoding(line, config) if _MOJIBAKE.search(line) and is_bad(line) else line
        for line in text.split("\n")
    )


def _try(data: bytes, codec: str) -> str | None:
    try:
        return data.decode(codec)
    except (UnicodeDecodeError, LookupError):
        return None


def _decoded(data: bytes, codec: str) -> str:
    # A guess that fits the sample may stumble later (a truncated last character, a stray byte): that byte is marked.
    return _textual(data.decode(codec, "replace"))


def _textual(text: str) -> str:
    sample = text[:_SAMPLE_BYTES]
    if len(_CONTROLS.findall(sample)) > _MAX_CONTROLS * len(sample) + 1:
        raise ParseError("the content is binary, not text")
    return text


def _wide(sample: bytes) -> str | None:
    """UTF-16 or UTF-32 without a mark: most characters below U+0100 have zeros in the same places."""
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


def _declared(data: bytes) -> str | None:
    if not (found := _DECLARED.search(data[:2048])):
        return None
    try:
        name = codecs.lookup(found[1].decode("ascii", "replace")).name
    except LookupError:
        return None
    for codec in (name, _SUPERSET.get(name, name)):
        if not codec.startswith("utf") and _try(data, codec) is not None:
            return codec
    return None


@cache
def _frequent(codec: str, first: int, last: int) -> frozenset[str]:
    """The characters of a double-byte set's first level: what ordinary text is written with."""
    pairs = (bytes((lead, trail)) for lead in range(first, last) for trail in range(0x40, 0xFF))
    return frozenset(
        text for pair in pairs if (text := _try(pair, codec)) and len(text) == 1 and text > "\u3400"
    )


def _east_asian(sample: bytes) -> str | None:
    """The East Asian encoding in which the bytes are valid and spell frequent characters, if there is one.

    charset-normalizer gives up on such text when it is mixed with code (measured on 40 Korean pages: 26 undecided).
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
            frequent = _frequent("euc_kr", 0xB0, 0xC9)
            score = sum(c in frequent for c in foreign) / len(foreign)
            score = score if score > 0.85 else 0.0  # Chinese read as Korean: 0.45–0.66
        elif codec == "gb18030":
            score = 0.98 * sum(c in _frequent("gb2312", 0xB0, 0xD8) for c in foreign) / len(foreign)
        else:
            score = 0.98 * sum(c in _frequent("big5", 0xA4, 0xC7) for c in foreign) / len(foreign)
        if score > best_score:
            best, best_score = codec, score
    return best if best_score >= 0.7 else None


def _guess(data: bytes) -> str | None:
    from charset_normalizer import from_bytes  # 31 ms

    rank = {codec: i for i, codec in enumerate(_GUESSES.split())}
    matches = list(from_bytes(data[:_SAMPLE_BYTES], cp_isolation=list(rank), threshold=0.3))
    if not matches:
        return None
    # Near ties in disorder (0.02) and coherence (0.1) are decided by how common the encoding is.
    best = min(
        matches,
        key=lambda m: (
            round(m.chaos / 0.02),
            -round(m.coherence * 10),
            rank.get(m.encoding, len(rank)),
        ),
    )
    # Central European text in cp1250 has š, ž, ś or quotes among bytes 80–9F; without any it is ISO 8859-2.
    if best.encoding == "cp1250" and not any(0x80 <= byte < 0xA0 for byte in data):
        return "iso8859_2"
    return best.encoding
