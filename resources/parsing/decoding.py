"""Bytes of unknown encoding → text, and the repair of every text.

Order: byte order mark, 7-bit escapes, UTF-16/32 by its zeros, UTF-8, the encoding that the server states, the one that
the document states, then the guess of `encoding_guess`. File formats are in `formats`.
"""

from __future__ import annotations

import codecs
import re
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

from rag_assets.pipeline.plain_text import INVISIBLE, without_invisible
from resources.errors import ParseError
from resources.parsing.charsets import codecs_of, stated_in_document
from resources.parsing.encoding_guess import codec_of_words, guess_codec, try_decode

#: UTF-32 comes before UTF-16, because its little-endian mark begins with that of UTF-16.
_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
#: Continuation bytes that text in another encoding has by chance if it is valid UTF-8: words of two or three letters.
_CHANCE_CONTINUATIONS = 3
#: Encodings in which the bytes of UTF-8 make no words: capital letters with signs behind them.
_WESTERN = re.compile("cp125[0247]|iso8859-(?:[12349]|1[0-6])|mac-roman")
#: From this share of characters in valid UTF-8, a file that is not UTF-8 is UTF-8 with lines in another encoding.
_MIXED_SHARE = 0.2
#: Content with a larger share of control characters is binary.
_MAX_CONTROLS = 0.02

_XML_DECLARATION = re.compile(r"\ufeff?\s*<\?xml\b[^<>]{0,300}\?>")
_CONTROLS = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufeff]")
#: Colours and the like of terminals, in captured output.
_TERMINAL = re.compile(
    "\x1b(?:\\[[0-?]{0,40}[ -/]{0,4}[@-~]|\\][^\x07\x1b\n]{0,2000}(?:\x07|\x1b\\\\)|[()][AB0])"
)
_NEWLINES = re.compile("\r\n?|[\x0b\x0c\x85\u2028\u2029]")
_ODD = re.compile(f"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff{INVISIBLE}]")
#: Mojibake turns one character into two or three adjacent ones above ASCII. Of 3,565 pages in Chinese, Japanese,
#: Korean, Arabic and English, 100 have such a pair; the others skip ftfy (0.4 ms a page).
_MOJIBAKE = re.compile("[\x80-\u04ff\u2013-\u25ff][\x80-\u04ff\u2013-\u25ff]")


class Decoded(NamedTuple):
    """A text, not repaired, and its codec. `ignored`: the encoding that was stated although the bytes are not in it."""

    text: str
    codec: str
    ignored: str | None = None


def decode(data: bytes, stated: str | None = None) -> Decoded:
    """Return the text of the bytes. `stated`: the encoding that the server names.

    Raises ParseError if the content is binary or no encoding fits.
    """
    labels = [label for label in (stated, stated_in_document(data)) if label]
    text, codec = _decode(data, [codecs_of(label) for label in labels])
    ignored = None
    if labels and not text.isascii() and not _is_meant(labels[0], codec):
        ignored = labels[0]
    return Decoded(_require_text(text), codec, ignored)


def xml_in_utf_8(data: bytes, stated: str | None = None) -> bytes:
    """Return an XML file in UTF-8, for readers that ignore the declaration of its encoding."""
    text = decode(data, stated).text
    declaration = _XML_DECLARATION.match(text)
    return text[declaration.end() if declaration else 0 :].encode()


def _is_meant(label: str, codec: str) -> bool:
    """Return whether the label means the codec, or is unknown."""
    meant = codecs_of(label)
    return not meant or codec.split("-")[0] in {name.split("-")[0] for name in meant}


def _decode(data: bytes, stated: Sequence[Sequence[str]]) -> tuple[str, str]:
    codec = next((codec for mark, codec in _BOMS if data.startswith(mark)), None)
    codec = codec or _escaped_codec(data, stated) or _utf_16_or_32(data[:4096])
    if codec and codec != "utf-8-sig":
        # A truncated last character or a stray byte must not fail the file.
        return data.decode(codec, "replace"), codec
    unmarked = data.removeprefix(codecs.BOM_UTF8)
    utf_8 = codec or "utf-8"
    text = try_decode(unmarked, "utf-8")
    legacy = [codec for group in stated for codec in group if not codec.startswith("utf")]
    if text is None or not text.isascii():
        _require_no_zeros(data)
    if text is not None and (codec or _is_certain(text, legacy)):
        return text, utf_8
    damaged = unmarked.decode("utf-8", "replace") if text is None else text
    replacements = damaged.count("\ufffd")
    non_ascii = _count_non_ascii(damaged)
    # A stray byte must not change the encoding of the whole file.
    if text is None and _is_stray(replacements, non_ascii, len(damaged)):
        return damaged, utf_8
    for codec in legacy:
        if (fitting := _decode_if_it_fits(unmarked, codec)) is not None:
            return fitting, codec
    if text is not None:
        return text, utf_8
    is_mixed = non_ascii - replacements >= _MIXED_SHARE * non_ascii
    mixed = _decode_lines(unmarked) if is_mixed else None
    return mixed or _decode_as(unmarked, guess_codec(unmarked))


def _escaped_codec(data: bytes, stated: Sequence[Sequence[str]]) -> str | None:
    """Return the 7-bit encoding of the data by its escapes, or the stated one that no byte shows: HZ, UTF-16."""
    if b"\x1b$" in data:
        japanese = ("iso2022_jp_2", "iso2022_jp_ext", "iso2022_jp_2004")
        candidates = ("iso2022_kr",) if b"\x1b$)C" in data else japanese
    else:
        unseen = ("hz", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be")
        candidates = tuple(codec for group in stated for codec in group if codec in unseen)
    for codec in candidates:
        # Without a mark, UTF-16 is little-endian for browsers.
        codec = f"{codec}-le" if codec in ("utf-16", "utf-32") else codec
        text = try_decode(data, codec)
        if text is None:
            continue
        # A page that states UTF-16 in single bytes is not in it.
        is_wide = codec.startswith("utf")
        if not is_wide or (_CONTROLS.search(data.decode("latin-1")) and not _CONTROLS.search(text)):
            return codec
    return None


def _is_certain(text: str, legacy: Sequence[str]) -> bool:
    """Return whether valid UTF-8 is UTF-8 although another encoding is stated."""
    continuations = len(text.encode("utf-8", "surrogatepass")) - len(text)
    return continuations > _CHANCE_CONTINUATIONS or all(map(_WESTERN.fullmatch, legacy))


def _is_stray(replacements: int, non_ascii: int, length: int) -> bool:
    return replacements * 20 < non_ascii and replacements < length / 1000 + 2


def _decode_if_it_fits(data: bytes, codec: str) -> str | None:
    text = data.decode(codec, "replace")
    replacements = text.count("\ufffd")
    if replacements and not _is_stray(replacements, _count_non_ascii(text), len(text)):
        return None
    return text


def _decode_lines(data: bytes) -> tuple[str, str] | None:
    """Decode a file whose lines are partly in UTF-8, partly in one other encoding; None if no line is in UTF-8."""
    lines = data.split(b"\n")
    texts = [try_decode(line, "utf-8") for line in lines]
    if not any(text is not None and not text.isascii() for text in texts):
        return None
    others = (line for line, text in zip(lines, texts, strict=True) if text is None)
    codec = codec_of_words(b"\n".join(others))
    if codec is None:
        return data.decode("utf-8", "replace"), "utf-8"
    decoded = (
        line.decode(codec, "replace") if text is None else text
        for line, text in zip(lines, texts, strict=True)
    )
    return "\n".join(decoded), f"utf-8, {codec}"


def _count_non_ascii(text: str) -> int:
    return len(text) - len(text.encode("ascii", "ignore"))


def clean(text: str) -> str:
    """Return repaired text: mojibake undone, NFC, newlines as "\\n", no control characters besides newline and tab, no
    invisible characters inside words.

    Idempotent. Keeps quotes, ligatures, widths and entities: the author may have chosen them.
    """
    while (cleaned := _clean_once(text)) != text:
        text = cleaned
    return text


def _clean_once(text: str) -> str:
    if not text.isascii() and _MOJIBAKE.search(text):
        text = _undo_mojibake(text)
    if _ODD.search(text):
        text = without_invisible(_CONTROLS.sub("", _NEWLINES.sub("\n", text)))
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


def _decode_as(data: bytes, codec: str) -> tuple[str, str]:
    # A guess that fits the sample may fail later (a truncated last character, a stray byte): replace that byte.
    return data.decode(codec, "replace"), codec


def _require_no_zeros(data: bytes) -> None:
    if data.count(0) > _MAX_CONTROLS * len(data):
        raise ParseError("the content is binary, not text")


def _require_text(text: str) -> str:
    text = _TERMINAL.sub("", text)
    if len(text) - len(_CONTROLS.sub("", text)) > _MAX_CONTROLS * len(text) + 1:
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
