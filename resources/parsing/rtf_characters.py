r"""The characters of RTF in UTF-8: escaped bytes in the code page of their font, and escaped UTF-16.

The extractor decodes all bytes in one code page, and drops characters that UTF-16 writes in two parts (`\u-10179?`).
"""

from __future__ import annotations

import re
from typing import NamedTuple

from resources.parsing.symbol_fonts import symbol_character

_TOKEN = re.compile(
    rb"\\u(?P<unit>-?\d{1,5})(?!\d) ?|\\'(?P<byte>[0-9a-fA-F]{2})"
    rb"|(?P<control>\\(?P<word>[a-zA-Z]{1,32}+)(?P<number>-?\d{1,10}+)? ?)|(?P<symbol>\\.)"
    rb"|(?P<brace>[{}])|(?P<high>[\x80-\xff]++)|(?P<line>[\r\n]++)|(?P<text>[^\\{}\x80-\xff\r\n]++)",
    re.DOTALL,
)
_SPECIAL = re.compile(r"[\\{}]")
#: Windows code pages by the character set numbers of fonts; others are in the code page of the document.
CODE_PAGES = {
    **{77: "mac_roman", 128: "cp932", 129: "cp949", 130: "johab", 134: "gb18030", 136: "cp950"},
    **{161: "cp1253", 162: "cp1254", 163: "cp1258", 177: "cp1255", 178: "cp1256", 186: "cp1257"},
    **{204: "cp1251", 222: "cp874", 238: "cp1250", 254: "cp437", 255: "cp437"},
}
_SYMBOLS = 2
_DOCUMENT_CODE_PAGES = {b"mac": "mac_roman", b"pc": "cp437", b"pca": "cp850"}
#: Groups whose letters are no text.
_NO_TEXT = (b"fonttbl", b"pict", b"objdata", b"colortbl", b"themedata", b"datastore")


class _State(NamedTuple):
    """What a group inherits: its font, the length of replacements of `\\u`, and whether its letters are text."""

    font: int = -1
    replacement: int = 1
    group: bytes = b""


class _Font:
    def __init__(self) -> None:
        self.charset = 1
        self.codec = ""
        self.name = ""


def characters_in_utf_8(data: bytes, codec: str) -> bytes:
    """Return the file with all characters in UTF-8. `codec`: the code page that it states or that its fonts have."""
    return _Decoder(codec, _is_utf_8(data)).decoded(data)


def _is_utf_8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


class _Decoder:
    def __init__(self, codec: str, is_utf_8: bool) -> None:
        self._codec, self._is_utf_8 = codec, is_utf_8
        self._out: list[bytes] = []
        self._fonts: dict[int, _Font] = {}
        self._state = _State()
        # Escaped bytes that wait for the rest of their characters, and the first half of a character in UTF-16.
        self._bytes = bytearray()
        self._half = 0
        self._entry = -1
        # Characters that replace an escape for programs without Unicode.
        self._skipped = 0

    def decoded(self, data: bytes) -> bytes:
        stack: list[_State] = []
        for token in _TOKEN.finditer(data):
            kind = token.lastgroup
            if kind == "line":
                self._out.append(token[0])
                continue
            if kind == "byte" or (kind == "high" and not self._is_utf_8):
                self._add_bytes(
                    bytes.fromhex(token["byte"].decode()) if kind == "byte" else token[0]
                )
                continue
            text = token[0]
            if kind == "text":
                text = self._completed(text)
            self._flush()
            if kind == "unit":
                self._add_unit(int(token["unit"]) & 0xFFFF)
            elif kind == "brace":
                self._skipped = 0
                if text == b"{":
                    stack.append(self._state)
                elif stack:
                    self._state = stack.pop()
                self._out.append(text)
            elif kind in ("control", "symbol"):
                if self._skipped:
                    self._skipped -= 1
                    continue
                if kind == "control":
                    self._read_word(token["word"], token["number"])
                self._out.append(text)
            else:
                self._add_text(text)
        self._flush()
        return b"".join(self._out)

    def _read_word(self, word: bytes, number: bytes | None) -> None:
        value = int(number or 0)
        in_fonts = self._state.group == b"fonttbl"
        if word in _NO_TEXT:
            self._state = self._state._replace(group=word)
        elif word == b"uc":
            self._state = self._state._replace(replacement=max(0, min(value, 20)))
        elif word == b"deff":
            self._state = self._state._replace(font=value)
        elif word == b"f" and in_fonts:
            self._entry = value
            self._fonts.setdefault(value, _Font())
        elif word == b"f":
            self._state = self._state._replace(font=value)
        elif word in _DOCUMENT_CODE_PAGES and not number:
            self._codec = _DOCUMENT_CODE_PAGES[word]
        elif in_fonts and (font := self._fonts.get(self._entry)):
            if word == b"fcharset":
                font.charset, font.codec = value, CODE_PAGES.get(value, "")
            elif word == b"cpg" and value:
                font.codec = _known(f"cp{value}")

    def _add_bytes(self, data: bytes) -> None:
        skipped = min(self._skipped, len(data))
        self._skipped -= skipped
        self._bytes += data[skipped:]

    def _completed(self, text: bytes) -> bytes:
        """Take the second byte of a character whose first byte is escaped, if it is a letter: `\\'83A`."""
        if (
            not self._bytes
            or text[:1] == b" "
            or _decodes(self._bytes, codec := self._font_codec())
        ):
            return text
        if not _decodes(self._bytes + text[:1], codec):
            return text
        self._bytes += text[:1]
        return text[1:]

    def _flush(self) -> None:
        if not self._bytes:
            return
        font = self._fonts.get(self._state.font)
        if font and font.charset == _SYMBOLS:
            characters = "".join(symbol_character(font.name, byte) for byte in self._bytes)
        else:
            characters = self._bytes.decode(self._font_codec(), "replace")
        self._bytes.clear()
        self._write(characters)

    def _font_codec(self) -> str:
        font = self._fonts.get(self._state.font)
        return (font.codec if font else "") or self._codec

    def _add_unit(self, unit: int) -> None:
        self._skipped = self._state.replacement
        if 0xD800 <= unit < 0xDC00:
            self._half = unit
            return
        if 0xDC00 <= unit < 0xE000:
            if self._half:
                self._write(chr(0x10000 + ((self._half - 0xD800) << 10) + unit - 0xDC00))
        elif 0xF000 <= unit <= 0xF0FF:
            font = self._fonts.get(self._state.font)
            self._write(symbol_character(font.name if font else "", unit))
        elif unit:
            self._write(chr(unit))
        self._half = 0

    def _add_text(self, text: bytes) -> None:
        skipped = min(self._skipped, len(text))
        self._skipped -= skipped
        text = text[skipped:]
        font = self._fonts.get(self._state.font)
        if self._state.group == b"fonttbl" and (entry := self._fonts.get(self._entry)):
            name = text.decode("ascii", "replace").strip("; ")
            # Numbers of its looks stand in front of the name, other names behind it.
            if name and (text.endswith(b";") or not entry.name):
                entry.name = name
        elif font and font.charset == _SYMBOLS and not self._state.group:
            self._write("".join(symbol_character(font.name, code) for code in text))
            return
        if text:
            self._half = 0
        self._out.append(text)

    def _write(self, characters: str) -> None:
        if self._out and re.match(rb"\\[a-zA-Z]+-?\d*\Z", self._out[-1]):
            # The end of a control word.
            self._out.append(b" ")
        self._out.append(_SPECIAL.sub(r"\\\g<0>", characters).encode("utf-8", "replace"))


def _decodes(data: bytes | bytearray, codec: str) -> bool:
    try:
        data.decode(codec)
    except UnicodeDecodeError:
        return False
    return True


def _known(codec: str) -> str:
    try:
        "".encode(codec)
    except LookupError:
        return ""
    return codec
