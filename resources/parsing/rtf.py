"""RTF in the form that the extractor reads without loss: blanks, hyphens, deleted text, text boxes, characters."""

from __future__ import annotations

import codecs
import re
from collections import Counter

from resources.parsing.rtf_characters import CODE_PAGES, characters_in_utf_8

_FONT_CHARSET = re.compile(rb"\\fcharset(\d{1,3})")
_CODE_PAGE = re.compile(rb"\\ansicpg(\d{1,5})")
#: Control symbols and words that the extractor writes as they are, or drops without a blank.
_SYMBOLS = {
    **{b"~": b" ", b"_": b"-", b"page": b"\\par ", b"column": b"\\par "},
    **dict.fromkeys((b"deleted", b"mvf"), b"\\v "),
}
_SYMBOL = re.compile(rb"\\(?:([~_])|(page|column|deleted|mvf)(?![a-z0-9-]) ?|.)", re.DOTALL)
#: Formulas, in a group that the extractor skips.
_FORMULA = rb"\*\moMath"
_BINARY = re.compile(rb"(?<!\\)\\bin(\d{1,10}) ?")
_SHAPE_TEXT = re.compile(rb"\{\\shptxt\b ?")
_BRACE = re.compile(rb"\\.|[{}]", re.DOTALL)
#: Text boxes that are read; a document with more is an attack.
_MAX_BOXES = 1000


def prepare_rtf(data: bytes) -> bytes:
    """Return the rewritten file. Takes linear time."""
    data = _without_pictures(data).replace(_FORMULA, _FORMULA[2:])
    return characters_in_utf_8(_SYMBOL.sub(_replaced, _with_boxes(data)), _codec(data))


def _without_pictures(data: bytes) -> bytes:
    """Cut the bytes of pictures that are not written as digits: they may look like anything."""
    pieces: list[bytes] = []
    cursor = 0
    while picture := _BINARY.search(data, cursor):
        end = picture.end() + int(picture[1])
        if end > len(data):
            # The stated length is wrong.
            break
        pieces.append(data[cursor : picture.start()])
        cursor = end
    return b"".join([*pieces, data[cursor:]])


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


def _codec(data: bytes) -> str:
    """Return the code page that the file states, else the one that most of its fonts have, as of Asian programs."""
    head = data[:20_000]
    if stated := _CODE_PAGE.search(head):
        codec = {"cp936": "gb18030", "cp65001": "utf-8"}.get(name := f"cp{int(stated[1])}", name)
        try:
            codecs.lookup(codec)
            return codec
        except LookupError:
            pass
    charsets = Counter(int(number) for number in _FONT_CHARSET.findall(head))
    known = (CODE_PAGES[charset] for charset, _ in charsets.most_common() if charset in CODE_PAGES)
    return next(known, "cp1252")
