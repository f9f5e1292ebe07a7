"""RTF in the form that the extractor reads without loss: code page, blanks, hyphens, deleted text, text boxes."""

from __future__ import annotations

import re
from collections import Counter

_FONT_CHARSET = re.compile(rb"\\fcharset(\d{1,3})")
#: Windows code pages by the character set numbers of fonts.
_CODE_PAGES = {
    **{128: 932, 129: 949, 134: 936, 136: 950, 161: 1253, 162: 1254, 163: 1258, 177: 1255},
    **{178: 1256, 186: 1257, 204: 1251, 222: 874, 238: 1250},
}
#: Control symbols and words that the extractor writes as they are, or drops without a blank.
_SYMBOLS = {b"~": b" ", b"_": b"-", b"page": b"\\par ", b"column": b"\\par ", b"deleted": b"\\v "}
_SYMBOL = re.compile(rb"\\(?:([~_])|(page|column|deleted)(?![a-z0-9-]) ?|.)", re.DOTALL)
_SHAPE_TEXT = re.compile(rb"\{\\shptxt\b ?")
_BRACE = re.compile(rb"\\.|[{}]", re.DOTALL)
#: Text boxes that are read; a document with more is an attack.
_MAX_BOXES = 1000


def prepare_rtf(data: bytes) -> bytes:
    """Return the rewritten file. Takes linear time."""
    # The bytes of pictures may look like anything.
    if b"\\bin" not in data:
        data = _SYMBOL.sub(_replaced, _with_boxes(data))
    return _declare_code_page(data)


def _replaced(match: re.Match[bytes]) -> bytes:
    # Deleted text becomes hidden text, which the extractor leaves out.
    symbol = match[1] or match[2]
    return _SYMBOLS[symbol] if symbol else match[0]


def _with_boxes(data: bytes) -> bytes:
    """Append the text of each text box at the end: the extractor skips the group in which it stands."""
    boxes: list[bytes] = []
    end = 0
    for start in _SHAPE_TEXT.finditer(data):
        # A box inside another one is read with it.
        if start.start() >= end and len(boxes) < _MAX_BOXES:
            end = _group_end(data, start.end())
            boxes.append(data[start.end() : end])
    last = data.rfind(b"}")
    if not boxes or last < 0:
        return data
    return data[:last] + b"".join(b"{\\par " + box + b"\\par}" for box in boxes) + data[last:]


def _group_end(data: bytes, start: int) -> int:
    """Return the offset of the brace that closes the group in which `start` stands."""
    depth = 1
    for brace in _BRACE.finditer(data, start):
        depth += {b"{": 1, b"}": -1}.get(brace[0], 0)
        if depth == 0:
            return brace.start()
    return len(data)


def _declare_code_page(data: bytes) -> bytes:
    """Declare the code page of RTF that names it by its fonts only, as Asian word processors do.

    Kreuzberg does not read the fonts.
    """
    head = data[:20_000]
    if b"\\ansicpg" in head:
        return data
    charsets = Counter(int(number) for number in _FONT_CHARSET.findall(head))
    code_pages = [
        _CODE_PAGES[charset] for charset, _ in charsets.most_common() if charset in _CODE_PAGES
    ]
    if not code_pages:
        return data
    return data.replace(b"\\ansi", b"\\ansi\\ansicpg%d" % code_pages[0], 1)
