"""Lines of Arabic, Persian and Hebrew in PDF: from the order of drawing to the order of reading.

Letters within a word come in reading order already; its words may stand from left to right, as they do on the page.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

#: Hebrew and Arabic, without the marks that close a phrase.
_RTL = "\u0590-\u060b\u060d-\u061a\u061c-\u061e\u0620-\u06d3\u06d5-\u08ff\ufb1d-\ufdff\ufe70-\ufefc"
_RTL_LETTER = re.compile(f"[{_RTL}]")
_LETTER = re.compile(r"[^\W\d_]")
_CLOSING = ".,:;!?؟،؛۔"
#: A comma or full stop before the first letter of a word, and after the last one.
_BEFORE = re.compile(rf"(?<!\S)[.,،؛][{_RTL}]")
_AFTER = re.compile(rf"[{_RTL}][.,،؛](?!\S)")
#: A word; where two scripts touch, and where a mark stands before a word, there are two.
_TOKEN = re.compile(rf"[{_RTL}]+|[^\s{_RTL}]+")


def is_visual(pages: Sequence[str]) -> bool:
    """Whether most letters are of such scripts, in the order of drawing: commas then stand before their words."""
    text = "\n".join(pages)
    letters = len(_LETTER.findall(text))
    if len(_RTL_LETTER.findall(text)) * 2 <= letters or not letters:
        return False
    return len(_BEFORE.findall(text)) > len(_AFTER.findall(text))


def logical(text: str) -> str:
    """Each line with its words turned around; numbers and words of other scripts among them keep their order."""
    return "\n".join(map(_logical_line, text.splitlines()))


def _logical_line(line: str) -> str:
    if not _RTL_LETTER.search(line):
        return line.strip()
    words: list[str] = []
    others: list[str] = []  # a run of words that are read from left to right
    for token in reversed(_TOKEN.findall(line)):
        if token[0].isascii() and token[0].isalnum():
            others.insert(0, token)
            continue
        words += others
        others = []
        if words and all(character in _CLOSING for character in token):
            words[-1] += token
        else:
            words.append(token)
    return " ".join([*words, *others])
