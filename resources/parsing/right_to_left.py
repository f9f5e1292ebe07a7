"""Lines of Arabic, Persian and Hebrew in PDF: from visual order to logical order.

The letters of a word are in logical order already; the words of a line may be in visual order, from left to right.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

#: Hebrew and Arabic, without closing punctuation.
_RTL = "\u0590-\u060b\u060d-\u061a\u061c-\u061e\u0620-\u06d3\u06d5-\u08ff\ufb1d-\ufdff\ufe70-\ufefc"
_RTL_LETTER = re.compile(f"[{_RTL}]")
_LETTER = re.compile(r"[^\W\d_]")
_CLOSING = ".,:;!?؟،؛۔"
#: A comma or full stop before the first letter of a word, and after the last letter.
_BEFORE = re.compile(rf"(?<!\S)[.,،؛][{_RTL}]")
_AFTER = re.compile(rf"[{_RTL}][.,،؛](?!\S)")
#: A word. Two adjacent scripts, and a mark before a word, give two tokens.
_TOKEN = re.compile(rf"[{_RTL}]+|[^\s{_RTL}]+")


def is_visual(pages: Sequence[str]) -> bool:
    """Return whether most letters are right-to-left and in visual order: commas then precede their words."""
    text = "\n".join(pages)
    letters = len(_LETTER.findall(text))
    if len(_RTL_LETTER.findall(text)) * 2 <= letters or not letters:
        return False
    return len(_BEFORE.findall(text)) > len(_AFTER.findall(text))


def logical(text: str) -> str:
    """Reverse the words of each line; numbers and words of other scripts keep their order."""
    return "\n".join(map(_logical_line, text.splitlines()))


def _logical_line(line: str) -> str:
    if not _RTL_LETTER.search(line):
        return line.strip()
    words: list[str] = []
    left_to_right: list[str] = []
    for token in reversed(_TOKEN.findall(line)):
        if token[0].isascii() and token[0].isalnum():
            left_to_right.insert(0, token)
            continue
        words += left_to_right
        left_to_right = []
        if words and all(character in _CLOSING for character in token):
            words[-1] += token
        else:
            words.append(token)
    return " ".join([*words, *left_to_right])
